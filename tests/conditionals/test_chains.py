"""PixelVAE against the enumeration of all images and quadrature over z, its cached draws against the whole network."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import models
from vae_jax.conditionals import chains, heads
from vae_jax.evaluation.likelihood import importance_weighted
from vae_jax.inference import grid

IMAGES = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=9))).reshape(-1, 3, 3, 1)
PIXELS = {"name": "pixel_cnn", "channels": (6,), "first_kernel": 3, "hidden": (8,), "features": 4}
NETWORK = {"name": "mlp", "hidden": (5,), "activation": "tanh"}
CONFIG = {
    "latent_dim": 1,
    "encoder": NETWORK,
    "decoder": NETWORK,
    "posterior": {"name": "normal"},
    "likelihood": {**PIXELS, "pixel": {"name": "bernoulli"}},
    "objective": {"name": "elbo"},
}


def build(event_shape=(3, 3, 1), likelihood=None, **changes):
    config = {**CONFIG, **changes, "likelihood": {**CONFIG["likelihood"], **(likelihood or {})}}
    return models.from_config("vae", config, **kind(event_shape))


@functools.cache
def randomized(event_shape=(3, 3, 1), **likelihood):
    """A model, and params of which none is zero."""
    model = build(event_shape=event_shape, likelihood=likelihood)
    shapes = jax.eval_shape(model.init, jax.random.key(0), {"x": jnp.zeros((1, *event_shape))})
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.6, size=a.shape), a.dtype), shapes)


def test_it_is_a_head_but_not_of_one_pixel():
    assert heads.pixel_cnn is chains.pixel_cnn
    assert "pixel_cnn" in heads.__all__ and not hasattr(chains.SIMPLE, "pixel_cnn")


@pytest.mark.parametrize("spatial", [True, False], ids=["map", "vector"])
def test_for_every_code_the_masses_of_all_images_sum_to_one(spatial):
    model, params = randomized(spatial=spatial)

    def log_probs(z):
        return jax.vmap(model.latent.likelihood(params, z).log_prob)(IMAGES)

    p = np.exp(np.asarray(jax.jit(jax.vmap(log_probs))(jnp.array([[-2.0], [0.3], [1.5]])), np.float64))
    np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-5)
    assert np.abs(p[0] - p[2]).max() > 1e-3


def test_cached_draws_are_those_of_the_whole_network():
    model, params = randomized((4, 3, 2), channels=(6, 6))
    z = jnp.array([0.7])
    keys = jax.random.split(jax.random.key(1), 64)
    cached = jax.jit(jax.vmap(lambda key: model.latent.likelihood(params, z).sample(key)))(keys)
    whole = jax.jit(jax.vmap(lambda key: model.latent.likelihood(params, z).uncached().sample(key)))(keys)
    assert np.all(np.std(cached, axis=0) > 0)
    np.testing.assert_array_equal(cached, whole.reshape(cached.shape))


def test_a_pixel_sees_the_code_and_the_pixels_before_it_and_no_other():
    model, params = randomized(channels=(6, 6))

    def logits(x, z):
        density = model.latent.likelihood(params, z)
        return density.conditionals(density.params, x).logits.ravel()

    x = jnp.asarray(np.random.default_rng(1).normal(size=(3, 3, 1)), jnp.float32)
    by_x, by_z = jax.jit(jax.jacobian(logits, (0, 1)))(x, jnp.array([0.7]))
    by_x = by_x.reshape(9, 9)
    assert np.all(by_x[np.triu_indices(9)] == 0.0) and np.all(by_x[np.tril_indices(9, -1)] != 0.0)
    assert np.all(by_z != 0.0)


def test_bounds_are_below_the_evidence_by_quadrature():
    model, params = randomized()
    line = grid.even((1,), low=-6.0, high=6.0, num_points=121)

    @jax.jit
    @jax.vmap
    def ladder(key, x):
        iw = lambda key: importance_weighted(model.latent, params, key, x, num_samples=3)  # noqa: E731
        bounds, exact = jax.vmap(iw)(jax.random.split(key, 3000)), grid.posterior(model.latent, params, x, grid=line)
        return bounds["elbo"], bounds["log_prob"], jnp.full(3000, exact.log_prob), exact.error

    *rungs, error = ladder(jax.random.split(jax.random.key(2), 3), IMAGES[jnp.array([0, 77, 300])])
    steps = np.diff(np.stack(rungs), axis=0)
    assert np.all(steps.mean(axis=2) > 5 * steps.std(axis=2) / np.sqrt(3000) + np.max(error))  # ELBO < IW-3 < log p(x)


@pytest.mark.parametrize(
    "objective",
    [
        {"name": "elbo", "beta": {"name": "linear", "steps": 10, "start": 0.5, "end": 1.0}},
        {"name": "free_bits", "free_nats": 0.1},
        {"name": "iwae", "num_samples": 2},
    ],
    ids=lambda objective: objective["name"],
)
def test_every_parameter_learns(objective):
    model, params = build(objective=objective), randomized()[1]
    batch = {"x": IMAGES[100:108]}
    mean_loss = lambda params: model.loss(params, jax.random.key(0), batch, 3)[0].mean()  # noqa: E731
    loss, gradient = jax.jit(jax.value_and_grad(mean_loss))(params)
    assert np.isfinite(loss)
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        unused = "down_0" in str(path) and "Gate" in str(path)  # the last v has no layer to go to
        assert np.isfinite(leaf).all() and (unused or np.any(leaf != 0)), path


def test_it_begins_as_the_uniform_distribution_and_computes_in_bfloat16_if_told():
    model = build()
    params = jax.jit(model.init)(jax.random.key(0), {"x": IMAGES[:2]})
    log_prob = jax.jit(lambda params: model.latent.likelihood(params, jnp.ones(1)).log_prob(IMAGES[77]))
    np.testing.assert_allclose(log_prob(params), -9 * np.log(2.0), rtol=1e-6)
    half, moved = build(likelihood={"compute_dtype": "bfloat16"}), randomized()[1]
    rounded = jax.jit(lambda params: half.latent.likelihood(params, jnp.ones(1)).log_prob(IMAGES[77]))(moved)
    assert rounded.dtype == jnp.float32 and 1e-5 < np.abs(rounded - log_prob(moved)) < 0.2


def test_a_hierarchy_may_end_in_pixels():
    level = {"latent_dim": 2, "encoder": NETWORK, "decoder": NETWORK}
    config = {
        "levels": {"z1": level, "z2": level},
        "inference": "bottom_up",
        "skip": True,
        "posterior": {"name": "normal"},
        "conditional": {"name": "normal"},
        "likelihood": CONFIG["likelihood"],
        "objective": {"name": "iwae", "num_samples": 2},
    }
    model = models.from_config("hierarchical_vae", config, **kind((3, 3, 1)))

    def step(key):
        key_init, key_loss, key_x = jax.random.split(key, 3)
        params, batch = model.init(key_init, {"x": IMAGES[:2]}), {"x": IMAGES[:4]}
        return model.loss(params, key_loss, batch, 0)[0], model.sample(params, key_x)

    loss, x = jax.eval_shape(step, jax.random.key(0))
    assert loss.shape == (4,) and x.shape == (3, 3, 1)


@pytest.mark.parametrize(
    "change, message",
    [
        (
            {"pixel": {"name": "normal_mixture"}},
            r"^model\.likelihood\.pixel: 'normal_mixture' does not model independent pixels",
        ),
        ({"pixel": {"name": "bernouli"}}, r"model\.likelihood\.pixel\.name: .*did you mean 'bernoulli'"),
        ({"chanels": (3,)}, r"model\.likelihood: unknown key 'chanels'; did you mean 'channels'"),
        ({"features": 0}, "model.likelihood.features must be at least 1, got 0"),
        ({"kernel": 2}, "model.likelihood.kernel must be odd, got 2"),
        ({"compute_dtype": "float16"}, "unknown value 'float16'"),
    ],
)
def test_mistakes_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        build(likelihood=change)
