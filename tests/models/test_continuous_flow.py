"""A continuous flow: exact on Gaussian data, sums to one, and its two traces agree."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax import models
from vae_jax.core import Context, Event
from vae_jax.evaluation import likelihood, yardstick
from vae_jax.models.continuous_flow import continuous_flow
from vae_jax.networks import Network
from vae_jax.objectives.flow_matching import flow_matching, times
from vae_jax.support import Counts, Levels, Real, Unit

MEAN, SCALE = np.array([0.7, -1.0], np.float32), np.array([0.5, 2.0], np.float32)
TIME_MLP = {"name": "time_mlp", "hidden": (8, 8), "activation": "tanh", "max_frequency": 4.0, "zero_output": False}


def of_gaussian(variables, z, t, context=None, dropout_key=None):
    """The velocity E[y - ε | z_t = z] if y ~ N(MEAN, SCALE²), in closed form."""
    variance = jnp.square(1.0 - t) + jnp.square(t * SCALE)
    return (MEAN + (t * jnp.square(SCALE) - (1.0 - t)) / variance * (z - t * MEAN),)


GAUSSIAN = Network(lambda key, *inputs: NOTHING, of_gaussian)
NOTHING = {"unused": np.zeros(1, np.float32)}
GRID = np.linspace(-7.0, 7.0, 41)
POINTS = np.stack(np.meshgrid(GRID, GRID), axis=-1).reshape(-1, 2).astype(np.float32)


@functools.cache
def random_flow(support, **options):
    """A flow of two dimensions whose network has random weights, and its parameters."""
    config = {"network": TIME_MLP, "rtol": 1e-3, "atol": 1e-3} | options
    model = models.from_config("continuous_flow", config, event=Event((2,), support))
    shapes = jax.eval_shape(model.init, jax.random.key(0), {"x": jnp.zeros((1, 2))})
    rng = np.random.default_rng(3)
    return model, jax.tree.map(lambda a: np.asarray(0.4 * rng.normal(size=a.shape), a.dtype), shapes)


def measured(model, params, x, num_samples=1):
    found = yardstick.measure(model, params, jax.random.key(0), {"x": x}, num_samples=num_samples)
    assert found.kind == "≥"
    return found.log_prob


def test_the_velocity_of_gaussian_data_has_their_density():
    model = continuous_flow(GAUSSIAN, Event((2,), Real()), rtol=1e-5, atol=1e-5)
    x = np.random.default_rng(0).normal(size=(6, 2)).astype(np.float32)
    expected = scipy.stats.norm(MEAN, SCALE).logpdf(x).sum(axis=1)
    np.testing.assert_allclose(measured(model, NOTHING, x), expected, atol=1e-3)


def test_draws_of_that_velocity_are_gaussian():
    model = continuous_flow(GAUSSIAN, Event((2,), Real()))
    draws = jax.jit(jax.vmap(model.sample, (None, 0)))(NOTHING, jax.random.split(jax.random.key(0), 2000))
    error = (np.mean(draws, axis=0) - MEAN) / (SCALE / np.sqrt(2000))
    assert np.abs(error).max() < 5
    np.testing.assert_allclose(np.std(draws, axis=0), SCALE, rtol=0.1)


def test_the_loss_is_least_at_that_velocity():
    """E|v + d - (y - ε)|² - E|v - (y - ε)|² = |d|² for the best v, at every time."""
    d = np.array([0.3, -0.4], np.float32)

    @jax.jit
    @jax.vmap
    def more(key, t):
        key_y, key = jax.random.split(key)
        y = MEAN + SCALE * jax.random.normal(key_y, (2,))
        best = lambda z, t: of_gaussian(NOTHING, z, t)[0]  # noqa: E731
        return flow_matching(lambda z, t: best(z, t) + d, jax.random.clone(key), y, t) - flow_matching(best, key, y, t)

    found = more(jax.random.split(jax.random.key(1), 4000), times(jax.random.key(2), 4000))
    assert abs(np.mean(found) - d @ d) < 5 * np.std(found) / np.sqrt(4000) < 0.3


def test_a_density_sums_to_one():
    model, params = random_flow(Real())
    total = np.exp(measured(model, params, POINTS)).sum() * (GRID[1] - GRID[0]) ** 2
    assert abs(total - 1.0) < 5e-3


def test_the_bound_of_levels_is_one_of_a_mass():
    """Σ_x exp(bound) is at most the mass that the flow has inside the cube, which is below one."""
    model, params = random_flow(Levels(3))
    x = np.stack(np.meshgrid(range(3), range(3)), axis=-1).reshape(-1, 2).astype(np.float32)
    bounds = measured(model, params, x, num_samples=50)
    assert 0.05 < np.exp(bounds).sum() < 1.0


@pytest.mark.slow
def test_the_bound_of_levels_is_below_their_mass():
    """E_u p(x + u), by draws, is the mass that the flow has in the cube of x."""
    model, params = random_flow(Levels(3))
    x = jnp.ones(2)
    keys = jax.random.split(jax.random.key(5), 50)
    each = jax.jit(jax.vmap(lambda k: model.bound(params, k, x)))(keys)
    mass = np.mean(np.exp(each))
    assert np.mean(each) < np.log(mass) and np.std(each) > 0


def test_one_example_does_not_depend_on_its_batch_mates():
    model, params = random_flow(Real())
    wild = 30.0 * POINTS
    wild[800:803] = POINTS[800:803]
    both = [measured(model, params, x)[800:803] for x in (POINTS, wild)]
    np.testing.assert_allclose(*both, rtol=1e-6)


@pytest.mark.slow
def test_both_traces_agree():
    model, params = random_flow(Real())
    x = np.random.default_rng(2).normal(size=(8, 2)).astype(np.float32)
    rungs = likelihood.ladder(model, params, jax.random.key(3), {"x": x}, num_samples=64)
    assert list(rungs) == ["bound", "hutchinson trace"]
    error = rungs["hutchinson trace"]["log_prob"] - rungs["bound"]["log_prob"]
    spread = np.sqrt(np.square(rungs["hutchinson trace"]["se"]).sum())
    assert abs(error.sum()) < 5 * spread + 1e-2 and np.all(rungs["bound"]["se"] < 1e-4)


@pytest.mark.slow
def test_numbers_between_zero_and_one_change_their_scale():
    real, params = random_flow(Real())
    unit, _ = random_flow(Unit())
    x = jnp.array([0.2, 0.9])
    bounds = [jax.jit(m.bound)(params, jax.random.key(0), y) for m, y in ((unit, x), (real, 2.0 * x - 1.0))]
    np.testing.assert_allclose(bounds[0], bounds[1] + 2 * np.log(2.0), rtol=1e-5)


@pytest.mark.parametrize("support", [Real(), Levels(256)], ids=str)
def test_losses_and_gradients_are_finite(support):
    model, params = random_flow(support)
    x = jnp.array([[1e4, -1e4], [0.0, 255.0], [3.0, 3.0]])
    mean = lambda params: jnp.mean(model.loss(params, jax.random.key(0), {"x": x}, 0)[0])  # noqa: E731
    value, slopes = jax.jit(jax.value_and_grad(mean))(params)
    assert np.isfinite(value) and all(np.isfinite(a).all() for a in jax.tree.leaves(slopes))


def test_draws_have_the_values_of_the_data():
    for support, most in ((Levels(5), 4.0), (Unit(), 1.0)):
        model, params = random_flow(support, num_steps=3)
        x = jax.jit(jax.vmap(model.sample, (None, 0)))(params, jax.random.split(jax.random.key(0), 50))
        assert x.shape == (50, 2) and x.min() >= 0 and x.max() <= most
        assert most == 1.0 or np.all(np.asarray(x) % 1 == 0)


@pytest.mark.slow
def test_a_class_changes_the_density():
    context = Context((), Levels(3), lambda c: jax.nn.one_hot(c, 3))
    config = {"network": TIME_MLP, "rtol": 1e-2, "atol": 1e-2}
    model = models.from_config("continuous_flow", config, event=Event((2,), Real()), context=context)
    batch = {"x": jnp.zeros((3, 2)), "context": jnp.arange(3)}
    params = jax.jit(model.init)(jax.random.key(0), batch)
    bound = jax.jit(jax.vmap(model.bound, (None, None, 0, 0)))
    assert len(np.unique(bound(params, jax.random.key(0), batch["x"], batch["context"]))) == 3
    with pytest.raises(ValueError, match="a context is needed"):
        jax.eval_shape(model.sample, params, jax.random.key(0))


def test_times_cover_their_interval():
    even, middle = (np.sort(times(jax.random.key(0), 1000, law)) for law in ("uniform", "logit_normal"))
    np.testing.assert_allclose(even, np.linspace(0, 1, 1000), atol=2e-3)
    expected = scipy.stats.norm.cdf(scipy.special.logit(middle))
    np.testing.assert_allclose(expected, np.linspace(0, 1, 1000), atol=3e-3)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"trace": "exakt"}, r"^model.trace: unknown value 'exakt'; did you mean 'exact'"),
        ({"times": "normal"}, r"^model.times: unknown value 'normal'"),
        ({"rtol": 0.0}, r"^model.rtol must be above 0 and below 1, got 0.0"),
        ({"num_steps": 0}, r"^model.num_steps must be at least 1, got 0"),
        ({"num_probes": 0}, r"^model.num_probes must be at least 1, got 0"),
        ({"network": {"name": "mlp"}}, r"^model.network.name: unknown value 'mlp'; did you mean 'time_mlp'"),
        ({"network": {"name": "unet"}}, r"^model.network.name: a convolutional network requires images"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        models.from_config("continuous_flow", {"network": TIME_MLP} | options, event=Event((2,), Real()))


def test_counts_are_refused():
    with pytest.raises(ValueError, match="'continuous_flow' is a model of Binary or Levels or Unit or Real"):
        models.from_config("continuous_flow", {"network": TIME_MLP}, event=Event((2,), Counts()))
