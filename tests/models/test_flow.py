"""Flows: what sums to one does so through the yardstick, codes are exact, and mistakes have one clear error."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import models
from vae_jax.core import Event
from vae_jax.evaluation import yardstick
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Counts, Levels, Real, Unit

CONV = {"name": "gated_resnet", "width": 4, "num_blocks": 1}
DENSE = {"name": "mlp", "hidden": (6,)}
NESTED = {
    "layout": {"name": "nested", "block": 2, "coarse": (4,)},
    "coupling": {"name": "mixture", "num_components": 1},
    "network": CONV,
}
GLOW = {"layout": {"name": "glow", "depth": 2, "levels": 1}, "coupling": {"name": "affine"}, "network": CONV}
VECTOR = {"layout": {"name": "realnvp", "depth": 1}, "coupling": {"name": "affine"}, "network": DENSE}
VARIATIONAL = {"name": "variational", "depth": 1}


@functools.cache
def flow(name, shape, support):
    """A flow and random parameters of it, far from those with which training begins."""
    config = {
        "nested": NESTED,
        "glow": GLOW,
        "vector": VECTOR,
        "autoregressive": VECTOR | {"layout": {"name": "autoregressive", "depth": 2, "hidden": (6,)}},
        "variational": GLOW | {"dequantisation": VARIATIONAL},
    }[name]
    model = models.from_config("flow", config, event=Event(shape, support))
    rng = np.random.default_rng(0)
    levels = support.num_levels
    x = rng.integers(levels, size=(16, *shape)) if levels else rng.uniform(size=(16, *shape))
    batch = {"x": jnp.asarray(x, jnp.float32)}
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0), batch))
    return model, jax.tree.map(lambda a: a + rng.normal(scale=0.15, size=a.shape).astype(a.dtype), params), batch


WORLDS = [
    ("nested", (2, 2, 1), Levels(3), 50),
    pytest.param("glow", (2, 2, 1), Binary(), 2_000, marks=pytest.mark.slow),
    pytest.param("variational", (2, 2, 1), Binary(), 2_000, marks=pytest.mark.slow),
    pytest.param("vector", (2,), Levels(4), 2_000, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("name", "shape", "support", "num_samples"), WORLDS)
def test_the_probabilities_of_all_images_sum_to_one(name, shape, support, num_samples):
    """By importance weights through the entry point of every table; uniform noise has an exact limit."""
    model, params, _ = flow(name, shape, support)
    world = np.array(list(itertools.product(range(support.num_levels), repeat=int(np.prod(shape)))), np.float32)
    data = {"x": world.reshape(-1, *shape)}
    measured = yardstick.measure(model, params, jax.random.key(1), data, num_samples=num_samples)
    assert measured.kind == f"≥ IW-{num_samples}"
    total = np.exp(measured.log_prob).sum()
    assert total < 1.03
    if name == "nested":
        np.testing.assert_allclose(total, 1.0, atol=0.01)
    else:  # the draws of a logit with a margin may lie outside the cube: their mass belongs to no level
        keys = jax.random.split(jax.random.key(2), 4000)
        sampled = np.asarray(jax.jit(jax.vmap(lambda k: inside(model, params, k)))(keys))
        np.testing.assert_allclose(total, sampled.mean(), atol=0.05)


def inside(model, params, key):
    """Return whether the flow maps a draw z ~ N(0, I) into the cube of dequantised levels."""
    z = model.latent.prior(params, None).sample(key)
    loc = model.latent.likelihood(params, z).loc
    return jnp.all((loc >= 0) & (loc < model.latent.likelihood(params, z).num_levels))


def test_the_density_of_a_plane_integrates_to_one():
    model, params, _ = flow("vector", (2,), Unit())
    axis = (np.arange(200) + 0.5) / 200 * 1.1 - 0.05
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2).astype(np.float32)
    density = np.exp(jax.jit(jax.vmap(lambda x: model.log_prob(params, x)))(grid))
    assert np.isclose(density.sum() * (1.1 / 200) ** 2, 1.0, atol=0.02)


@pytest.mark.parametrize(
    ("name", "shape", "support"),
    [
        pytest.param("nested", (4, 4, 2), Levels(256), marks=pytest.mark.slow),
        ("glow", (4, 4, 1), Levels(17)),
    ],
)
def test_levels_come_back_from_their_codes(name, shape, support):
    model, params, batch = flow(name, shape, support)

    @jax.jit
    @jax.vmap
    def there_and_back(x):
        z = model.latent.posterior(params, x).mean()
        return z, model.latent.likelihood(params, z).mean()

    z, back = there_and_back(batch["x"])
    assert z.shape == (16, int(np.prod(shape)))
    np.testing.assert_array_equal(back, batch["x"])


@pytest.mark.slow
def test_a_code_and_its_evidence_are_one_draw_of_the_posterior():
    model, params, batch = flow("variational", (4, 4, 1), Levels(5))
    x = batch["x"][0]

    @jax.jit
    def both(x):
        evidence = model.latent.evidence(params, jax.random.key(3), x)
        q = model.latent.posterior(params, x)
        return evidence, q.log_prob(evidence.z), model.latent.likelihood(params, evidence.z).log_prob(x)

    evidence, log_q, log_lik = both(x)
    np.testing.assert_allclose(log_q, evidence.log_q, rtol=1e-3, atol=1e-2)
    assert log_lik == evidence.log_lik == 0


@pytest.mark.slow
def test_the_number_of_an_image_does_not_depend_on_its_batch():
    model, params, batch = flow("glow", (4, 4, 1), Levels(17))
    measure = lambda x: yardstick.measure(model, params, jax.random.key(1), {"x": x}, num_samples=3).log_prob  # noqa: E731
    alone, among = measure(batch["x"][:1]), measure(batch["x"])
    np.testing.assert_allclose(alone[0], among[0], rtol=1e-5)


@pytest.mark.slow
def test_activation_norms_begin_with_the_first_batch():
    """Before training, each step of a Glow returns about a standard normal variable, also of constant pixels."""
    model = models.from_config("flow", GLOW, event=Event((4, 4, 1), Levels(256)))
    x = (
        jnp.zeros((32, 4, 4, 1))
        .at[:, 1:3, 1:3]
        .set(jnp.asarray(np.random.default_rng(0).integers(256, size=(32, 2, 2, 1))))
    )
    params = jax.jit(model.init)(jax.random.key(0), {"x": x})
    z = jax.jit(jax.vmap(lambda x: model.latent.posterior(params, x).mean()))(x)
    assert np.isfinite(z).all() and np.abs(np.mean(z)) < 0.5 and np.std(z) < 2.0


def build(event, **changes):
    return models.from_config("flow", NESTED | changes, event=event)


IMAGE = Event((28, 28, 1), Levels(256))


@pytest.mark.parametrize(
    ("event", "changes", "message"),
    [
        (IMAGE, {"layout": {"name": "glow", "levels": 3}}, "can be squeezed 2 times, not 3; set levels to at most 2"),
        (IMAGE, {"layout": {"name": "glow", "levels": 3}}, "pad the image to 32x32"),
        (IMAGE, {"layout": {"name": "nested", "block": 8}}, "no squares of 8x8 pixels.*32x32"),
        (IMAGE, {"layout": {"name": "nested", "block": 3}}, "model.layout.block must be a power of 2"),
        (IMAGE, {"layout": {"name": "glo"}}, "model.layout.name: unknown value 'glo'.*'glow'"),
        (IMAGE, {"layout": {"name": "glow", "dept": 3}}, "model.layout: unknown key 'dept'"),
        (IMAGE, {"coupling": {"name": "splin"}}, "model.coupling.*unknown value 'splin'"),
        (IMAGE, {"dequantisation": {"name": "unifrom"}}, "dequantisation.name: unknown value 'unifrom'"),
        (Event((3,), Real()), {"dequantisation": {"name": "uniform"}, "network": DENSE}, "needs images"),
        (Event((3,), Real()), VECTOR | {"dequantisation": {"name": "uniform"}}, "only levels and bits are dequantised"),
        (Event((1,), Real()), VECTOR, "a coupling needs at least two channels"),
        (Event((3,), Real()), VECTOR | {"network": CONV}, "'gated_resnet' needs images"),
        (Event((3,), Real()), VECTOR | {"layout": {"name": "glow", "levels": 2}}, "only images .* are squeezed"),
        (Event((3,), Counts()), VECTOR, "is a model of"),
        (IMAGE, {"margin": 0.5}, "margin must be above 0 and below 0.5"),
    ],
)
def test_a_mistake_has_one_clear_error(event, changes, message):
    with pytest.raises(BadOption, match=message):
        build(event, **changes)
