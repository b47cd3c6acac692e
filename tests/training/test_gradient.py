import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.core import Model
from vae_jax.training import gradient


def quadratic(scale=1.0):
    """loss = scale/2 |θ - x|²: everything about its descent is known."""

    def loss(params, key, batch, step):
        value = 0.5 * scale * jnp.sum(jnp.square(params["theta"][None] - batch["x"]), axis=-1)
        return value, {"bound": -value}

    return Model(init=lambda key, batch: {"theta": jnp.zeros(2)}, loss=loss, sample=None)


def batch_of(value):
    return {"x": jnp.full((4, 2), value)}


def learner(**options):
    options = {"name": "sgd", "learning_rate": 0.1, **options}
    average_decay = options.pop("average_decay", 0.0)
    return gradient.gradient(quadratic(), gradient.optimizer(**options), average_decay=average_decay)


def test_a_step_of_sgd_is_theta_minus_rate_times_gradient():
    sgd = learner()
    state = sgd.init(jax.random.key(0), batch_of(1.0))
    state, metrics = jax.jit(sgd.step)(state, batch_of(1.0))
    np.testing.assert_allclose(state.params["theta"], 0.1, rtol=1e-6)
    assert int(state.step) == 1 and float(metrics["loss"]) == pytest.approx(1.0)


def test_clipping_bounds_the_step():
    sgd = learner(clip_norm=0.5)
    state = sgd.init(jax.random.key(0), batch_of(100.0))
    state, metrics = jax.jit(sgd.step)(state, batch_of(100.0))
    assert float(optax.global_norm(state.params)) == pytest.approx(0.1 * 0.5, rel=1e-5)
    assert float(metrics["grad_norm"]) > 100  # reported as it was


def test_a_schedule_multiplies_the_learning_rate():
    schedule = {"name": "linear_schedule", "init_value": 0.0, "end_value": 1.0, "transition_steps": 2}
    sgd = learner(schedule=schedule)
    state = sgd.init(jax.random.key(0), batch_of(1.0))
    state, _ = sgd.step(state, batch_of(1.0))
    np.testing.assert_array_equal(state.params["theta"], 0.0)
    state, _ = sgd.step(state, batch_of(1.0))
    np.testing.assert_allclose(state.params["theta"], 0.05, rtol=1e-6)


def test_a_non_finite_step_changes_nothing_but_its_count():
    adam = learner(name="adam", average_decay=0.9)
    step = jax.jit(adam.step)
    state, _ = step(adam.init(jax.random.key(0), batch_of(1.0)), batch_of(1.0))
    after, metrics = step(state, batch_of(jnp.nan))
    jax.tree.map(
        np.testing.assert_array_equal,
        (state.params, state.opt_state, state.average),
        (after.params, after.opt_state, after.average),
    )
    assert (int(after.step), int(after.skipped), int(after.skipped_in_row)) == (2, 1, 1)
    assert float(metrics["skipped"]) == 1.0
    recovered, _ = step(after, batch_of(1.0))
    assert (int(recovered.skipped), int(recovered.skipped_in_row)) == (1, 0)
    assert not np.array_equal(recovered.params["theta"], after.params["theta"])


def test_the_average_follows_the_parameters_and_is_what_is_evaluated():
    sgd = learner(average_decay=0.5)
    state = sgd.init(jax.random.key(0), batch_of(1.0))
    expected, average = 0.0, 0.0
    for t in range(5):
        state, _ = sgd.step(state, batch_of(1.0))
        expected += 0.1 * (1.0 - expected)
        decay = min(0.5, (1 + t) / (10 + t))
        average = decay * average + (1 - decay) * expected
    np.testing.assert_allclose(sgd.params(state)["theta"], average, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "adamm"}, "no optimiser of optax"),
        ({"name": "adam", "beta1": 0.9}, "unknown key 'beta1'; did you mean 'b1'"),
        ({"schedule": {"name": "cosine"}}, "config.optimizer.schedule.name: unknown value 'cosine'"),
    ],
)
def test_a_mistake_in_the_optimiser_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        learner(**options)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "rmsprop", "lion", "radam", "sgd"])
def test_any_optimiser_of_optax_descends(name):
    any_learner = learner(name=name, learning_rate=0.05)
    state = any_learner.init(jax.random.key(0), batch_of(1.0))
    step = jax.jit(any_learner.step)
    first = None
    for _ in range(20):
        state, metrics = step(state, batch_of(1.0))
        first = metrics["loss"] if first is None else first
    assert float(metrics["loss"]) < float(first)
