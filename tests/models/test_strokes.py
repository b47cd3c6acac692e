"""Models of pen drawings: padding, caches, masses, gradients, classes, and the sketch VAE."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import models
from vae_jax.distributions.drawings import END, predicted
from vae_jax.spec import BadOption
from vae_jax.support import Strokes, Tokens
from vae_jax.tasks import interpolate

T, R = 6, 20
CONFIG = {"network": {"width": 8, "num_layers": 2}, "num_components": 3, "scale": 4.0, "atoms": 5}
SKETCH = {
    "latent_dim": 2,
    "encoder": {"width": 6},
    "decoder": {"width": 8},
    "posterior": {"name": "normal"},
    "objective": {"name": "elbo"},
    "num_components": 3,
    "scale": 4.0,
}
ROWS = np.zeros((3, T, 3), np.int32)
ROWS[:, :, :2] = np.random.default_rng(0).integers(-R, R + 1, (3, T, 2))
ROWS[:, :, 2] = [[0, 0, 1, 2, 0, 0], [1, 2, 0, 0, 0, 0], [0, 1, 0, 0, 0, 1]]
BEHIND = np.cumsum(ROWS[:, :, 2] == END, axis=1) - (ROWS[:, :, 2] == END) > 0
PADDED = np.where(BEHIND[:, :, None], 0, ROWS)
BATCH = {"x": PADDED, "context": np.array([0, 1, 2])}


@functools.cache
def randomized(family="strokes"):
    """A model, and params of which none is zero."""
    config, classes = (CONFIG, 3) if family == "strokes" else (SKETCH, 0)
    model = models.from_config(family, config, **kind((T, 3), classes, support=Strokes(R)))
    shapes = jax.eval_shape(model.init, jax.random.key(0), BATCH if classes else {"x": PADDED})
    rng = np.random.default_rng(1)
    return model, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape), a.dtype), shapes)


@pytest.fixture(scope="module")
def log_prob():
    model, params = randomized()
    return jax.jit(jax.vmap(model.log_prob, (None, 0, 0))), params


def test_padding_changes_nothing(log_prob):
    function, params = log_prob
    assert BEHIND.any(axis=1).tolist() == [True, True, False] and (ROWS != PADDED).any()
    own = function(params, PADDED, BATCH["context"])
    np.testing.assert_array_equal(own, function(params, ROWS, BATCH["context"]))
    short = function(params, PADDED[:2, :4], BATCH["context"][:2])  # a batch of a bucket is shorter
    np.testing.assert_allclose(own[:2], short, rtol=1e-6)


def test_the_class_and_the_past_matter_and_the_future_does_not(log_prob):
    function, params = log_prob
    assert np.all(function(params, PADDED, BATCH["context"]) != function(params, PADDED, (BATCH["context"] + 1) % 3))
    model, _ = randomized()
    density = model.density(params, 0)
    whole = jax.jit(lambda x: density.conditionals(density.params, x).log_probs(x))
    changed = PADDED[2].copy()
    changed[3, 0] += 1
    before, after = np.asarray(whole(PADDED[2])), np.asarray(whole(changed))
    np.testing.assert_array_equal(before[:3], after[:3])
    assert np.all(before[3:] != after[3:])


def test_steps_have_the_conditionals_of_the_whole_network():
    model, params = randomized()
    density, x = model.density(params, 1), jnp.asarray(PADDED[2])

    @jax.jit
    def both(x):
        whole = density.conditionals(density.params, x)

        def advance(carry, previous):
            carry, points = density.step(density.params, carry, previous)
            return carry, points.replace(weights=None)

        before = jnp.concatenate([jnp.array([[0, 0, END]]), x[:-1]])
        return whole.replace(weights=None), jax.lax.scan(advance, density.start(density.params), before)[1]

    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), *both(x))
    keys = jax.random.split(jax.random.key(0), 8)
    cached, uncached = (jax.jit(jax.vmap(d.sample))(keys) for d in (density, density.uncached()))
    np.testing.assert_array_equal(cached, uncached)


def test_draws_of_the_first_point_have_its_masses(assert_mean):
    model, params = randomized()
    keys = jax.random.split(jax.random.key(3), 4000)
    drawn = np.asarray(jax.jit(jax.vmap(lambda k: model.sample(params, k, 1)))(keys))
    assert drawn.shape == (4000, T, 3) and np.abs(drawn[:, :, :2]).max() <= R
    assert not drawn[~np.asarray(jax.vmap(predicted)(drawn))].any()
    density = model.density(params, 1)
    first = density.step(density.params, density.start(density.params), jnp.array([0, 0, END]))[1]
    mass_x, pen = (jnp.exp(jax.vmap(first.part(e).log_prob)(jnp.arange(n))) for e, n in (((), 2 * R + 1), ((0, 0), 3)))
    likely = np.flatnonzero(np.asarray(mass_x) > 0.005)
    assert_mean((drawn[:, :1, 0] + R == likely[None]).astype(float), np.asarray(mass_x)[likely])
    assert_mean((drawn[:, :1, 2] == np.arange(3)[None]).astype(float), np.asarray(pen))


def test_a_temperature_is_one_scan_and_narrows_the_draws():
    model, params = randomized()
    keys = jax.random.split(jax.random.key(4), 300)
    draw = jax.jit(jax.vmap(lambda k, t: model.density(params, 0).sample(k, t), (0, None)))
    cold, warm = draw(keys, 0.05), draw(keys, 1.0)
    different = [len(np.unique(drawn[:, 0, :2], axis=0)) for drawn in (cold, warm)]
    assert different[0] < 0.3 * different[1]
    np.testing.assert_array_equal(warm, jax.jit(jax.vmap(lambda k: model.sample(params, k, 0)))(keys))
    for temperature in (0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature must be positive, got"):
            model.density(params, 0).sample(jax.random.key(9), temperature)


@pytest.mark.parametrize("family", ["strokes", "sketch_vae"])
def test_gradients_are_finite_and_reach_every_parameter(family):
    model, params = randomized(family)
    batch = BATCH if family == "strokes" else {"x": PADDED}

    @jax.jit
    def gradient(params):
        return jax.grad(lambda p: jnp.mean(model.loss(p, jax.random.key(0), batch, 0)[0]))(params)

    for scale in (1.0, 100.0):
        found = gradient(jax.tree.map(lambda a, scale=scale: scale * a, params))
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(gradient(params)))


def test_dropout_is_in_the_loss_and_nowhere_else():
    network = {**CONFIG["network"], "dropout": 0.5}
    model = models.from_config("strokes", {**CONFIG, "network": network}, **kind((T, 3), 3, support=Strokes(R)))
    (plain, params), key = randomized(), jax.random.key(0)
    context = BATCH["context"]
    own, other = (jax.jit(jax.vmap(m.log_prob, (None, 0, 0)))(params, PADDED, context) for m in (model, plain))
    np.testing.assert_array_equal(own, other)
    assert np.all(jax.jit(model.loss)(params, key, BATCH, 0)[0] != -own)


# ------------------------------------------------------------------------------------------------------ the sketch VAE


def test_padding_changes_neither_code_nor_bound():
    model, params = randomized("sketch_vae")
    posterior = jax.jit(jax.vmap(model.latent.posterior, (None, 0)))
    jax.tree.map(np.testing.assert_array_equal, posterior(params, PADDED), posterior(params, ROWS))
    short = posterior(params, PADDED[:2, :4])
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), short, posterior(params, PADDED[:2]))
    first, last = PADDED[0].copy(), PADDED[0].copy()
    first[0, 0] += 1
    last[3, 0] += 1
    loc = np.asarray(posterior(params, np.stack([PADDED[0], first, last])).loc)
    assert np.all(loc[1:] != loc[:1])  # both ends are read
    bound = jax.jit(jax.vmap(model.bound, (None, 0, 0)))
    keys = lambda: jax.random.split(jax.random.key(1), 3)  # noqa: E731
    np.testing.assert_array_equal(bound(params, keys(), PADDED), bound(params, keys(), ROWS))


def test_a_drawing_of_numpy_is_read_beside_traced_parameters():
    model, params = randomized("sketch_vae")
    jax.eval_shape(lambda params: model.latent.posterior(params, PADDED[0]), params)


def test_a_path_between_two_drawings_is_drawn_with_one_noise():
    model, params = randomized("sketch_vae")
    z = [model.latent.posterior(params, x).mean() for x in PADDED[:2]]
    path = interpolate.spherical(*z, jnp.linspace(0.0, 1.0, 5))
    draw = jax.jit(jax.vmap(lambda z, key: model.latent.likelihood(params, z).sample(key, 0.3), (0, None)))
    drawn = draw(path, jax.random.key(2))
    assert drawn.shape == (5, T, 3)
    np.testing.assert_array_equal(drawn[0], draw(z[0][None], jax.random.key(2))[0])


@pytest.mark.parametrize(
    ("family", "changes", "message"),
    [
        ("strokes", {"scale": 0.1}, "model.scale must be above 0.25"),
        ("strokes", {"num_components": 0}, "model.num_components must be"),
        ("strokes", {"network": {"width": 0}}, "model.network.width must be"),
        ("strokes", {"network": {"dropout": 1.0}}, "model.network.dropout must be"),
        ("sketch_vae", {"prior": {"name": "vamp"}}, "model.prior: 'vamp' learns pseudo-inputs"),
    ],
)
def test_bad_options_are_named(family, changes, message):
    config = {"strokes": CONFIG, "sketch_vae": SKETCH}[family]
    with pytest.raises(BadOption, match=message):
        models.from_config(family, config | changes, **kind((T, 3), support=Strokes(R)))


def test_other_data_are_refused_both_ways():
    with pytest.raises(BadOption, match="'strokes' is a model of pen drawings, and the data are images"):
        models.from_config("strokes", CONFIG, **kind((8, 8, 1)))
    with pytest.raises(BadOption, match="'vae' is a model of images, and the data are pen drawings"):
        models.from_config("vae", {}, **kind((T, 3), support=Strokes(R)))
    with pytest.raises(BadOption, match="'language_model' is a model of text, and the data are pen drawings"):
        models.from_config("language_model", {}, **kind((T, 3), support=Strokes(R)))
    assert Tokens(5) != Strokes(5)
