import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from vae_jax.objectives.running import RunningMean

from vae_jax.core import RUNNING, Model, by_loss
from vae_jax.training import gradient


def quadratic(scale=1.0):
    """loss = scale/2 |θ - x|²: everything about its descent is known."""

    def loss(params, key, batch, step):
        value = 0.5 * scale * jnp.sum(jnp.square(params["theta"][None] - batch["x"]), axis=-1)
        return value, {"bound": -value}

    return Model(init=lambda key, batch: {"theta": jnp.zeros(2)}, loss=loss, judge=by_loss(loss))


def batch_of(value):
    return {"x": jnp.full((4, 2), value)}


def learner(**options):
    options = {"name": "sgd", "learning_rate": 0.1, **options}
    kept = {name: options.pop(name) for name in ("average_decay", "skip_above") if name in options}
    return gradient.gradient(quadratic(), gradient.optimizer(**options), **kept)


def test_a_step_of_sgd_is_theta_minus_rate_times_gradient():
    sgd = learner()
    state = sgd.init(jax.random.key(0), batch_of(1.0))
    state, metrics = jax.jit(sgd.step)(state, batch_of(1.0))
    np.testing.assert_allclose(state.params["theta"], 0.1, rtol=1e-6)
    assert int(state.step) == 1 and float(metrics["loss"]) == pytest.approx(1.0)


@pytest.mark.parametrize("size", [100.0, 1e15])
def test_clipping_bounds_the_step(size):
    sgd = learner(clip_norm=0.5)
    state = sgd.init(jax.random.key(0), batch_of(size))
    state, metrics = jax.jit(sgd.step)(state, batch_of(size))
    np.testing.assert_allclose(state.params["theta"], 0.1 * 0.5 / np.sqrt(2), rtol=1e-5)
    assert float(metrics["grad_norm"]) == pytest.approx(np.sqrt(2) * size)  # reported as it was
    assert int(state.skipped) == 0


def test_a_schedule_multiplies_the_learning_rate():
    schedule = {"name": "linear_schedule", "init_value": 0.0, "end_value": 1.0, "transition_steps": 2}
    sgd = learner(schedule=schedule)
    state = sgd.init(jax.random.key(0), batch_of(1.0))
    state, _ = sgd.step(state, batch_of(1.0))
    np.testing.assert_array_equal(state.params["theta"], 0.0)
    state, _ = sgd.step(state, batch_of(1.0))
    np.testing.assert_allclose(state.params["theta"], 0.05, rtol=1e-6)


@pytest.mark.parametrize("options", [{}, {"clip_norm": 0.5}, {"skip_above": 10.0}], ids=["plain", "clipped", "skip"])
def test_a_non_finite_step_changes_nothing_but_its_count(options):
    adam = learner(name="adam", average_decay=0.9, **options)
    step = jax.jit(adam.step)
    after = state = step(adam.init(jax.random.key(0), batch_of(1.0)), batch_of(1.0))[0]
    for count, bad in enumerate([jnp.nan, jnp.inf, 1e30], start=1):  # of 1e30 the norm is beyond float32
        after, metrics = step(after, batch_of(bad))
        jax.tree.map(
            np.testing.assert_array_equal,
            (state.params, state.opt_state, state.average, state.mean_norm),
            (after.params, after.opt_state, after.average, after.mean_norm),
        )
        assert (int(after.step), int(after.skipped), int(after.skipped_in_row)) == (1 + count, count, count)
        assert float(metrics["skipped"]) == 1.0
    recovered, _ = step(after, batch_of(1.0))
    assert (int(recovered.skipped), int(recovered.skipped_in_row)) == (3, 0)
    assert not np.array_equal(recovered.params["theta"], after.params["theta"])


# ------------------------------------------------------------------------------------------ steps that are too large


def slopes(skip_above, norms):
    """The states after every step of sgd on a loss whose gradient's norm is `norms` [T], as arrays [T]."""
    model = Model(
        init=lambda key, batch: {"theta": jnp.zeros(())},
        loss=lambda params, key, batch, step: (params["theta"] * batch["x"], {}),
        sample=None,
    )
    sgd = gradient.gradient(model, gradient.optimizer(name="sgd", learning_rate=1.0), skip_above=skip_above)

    def body(state, norm):
        state, metrics = sgd.step(state, {"x": norm[None]})
        return state, (state.replace(key=None), metrics["skipped"])

    norms = jnp.asarray(norms, jnp.float32)
    return jax.jit(lambda key: jax.lax.scan(body, sgd.init(key, {"x": norms[:1]}), norms)[1])(jax.random.key(0))


def test_a_step_many_times_the_usual_norm_is_skipped_and_no_divergence():
    states, skipped = slopes(10.0, [1.0] * 200 + [10.5] + [1.0] * 9 + [5.0] * 20)
    np.testing.assert_array_equal(np.flatnonzero(skipped), [200])
    assert int(states.skipped[-1]) == 1 and not states.skipped_in_row.any()
    assert states.params["theta"][200] == states.params["theta"][199]
    np.testing.assert_allclose(states.mean_norm[199:201], [1.0, 1.0 + 9.0 / 100], rtol=1e-5)


@pytest.mark.parametrize(("skip_above", "growth"), [(10.0, 1e6), (1.5, 1e6), (1000.0, 1e15)])
def test_a_gradient_larger_for_good_is_followed_after_the_steps_stated(skip_above, growth):
    promised = int(np.ceil(np.log(growth / skip_above) / np.log1p((skip_above - 1) / 100)))
    states, skipped = slopes(skip_above, [1.0] * 150 + [growth] * (promised + 50))
    assert not states.skipped_in_row.any()
    assert abs(int(states.skipped[-1]) - promised) <= 1  # a rounding of the mean may cost or save one
    np.testing.assert_array_equal(np.flatnonzero(skipped), 150 + np.arange(states.skipped[-1]))
    if (skip_above, growth) == (10.0, 1e6):
        assert promised == 134  # as the docstring says


@pytest.mark.parametrize("start", [1e9, 0.0, 1e-30])
def test_no_start_locks_the_run(start):
    _, skipped = slopes(10.0, [start] * 150 + [1.0] * 1000)
    assert not skipped[:150].any() and not skipped[-1]


def test_a_run_without_the_option_carries_nothing_for_it():
    sgd = learner()
    assert sgd.init(jax.random.key(0), batch_of(1.0)).mean_norm is None


@pytest.mark.parametrize("skip_above", [1.0, 0.5, -3.0, float("nan")])
def test_a_threshold_that_would_not_recover_is_refused(skip_above):
    with pytest.raises(ValueError, match=f"config.optimizer.skip_above must be .* got {skip_above}"):
        learner(skip_above=skip_above)


# ------------------------------------------------------------------------------------------------ running statistics


def watching(decay=0.9, value=lambda batch: batch["x"][:, 0]):
    """`quadratic`, and a running mean of `value` beside a scale that is learned."""
    plain = quadratic()

    def loss(params, key, batch, step):
        own = params["objective"]
        rise = jax.vmap(RunningMean(own[RUNNING]["mean"], decay).follow)(value(batch))
        loss, terms = plain.loss(params, key, batch, step)
        return loss + 0.5 * jnp.square(own["scale"] - 1.0) - rise, terms

    def init(key, batch):
        return {"theta": jnp.zeros(2), "objective": {"scale": jnp.zeros(()), RUNNING: {"mean": jnp.zeros(())}}}

    return Model(init, loss, by_loss(loss))


@pytest.mark.parametrize(
    "name, options",
    [("sgd", {}), ("adamw", {"clip_norm": 1e-3, "schedule": {"name": "constant_schedule", "value": 0.5}})],
)
def test_a_running_mean_is_the_exponential_average_whatever_the_optimiser(name, options):
    optimizer = gradient.optimizer(name=name, learning_rate=0.1, **options)
    learner = gradient.gradient(watching(), optimizer, skip_above=2.0, average_decay=0.5)
    batches = 1e3 * np.random.default_rng(0).normal(1.0, 1.0, size=(150, 4, 2)).astype(np.float32)

    def body(state, x):
        state, metrics = learner.step(state, {"x": x})
        return state, (state.params["objective"][RUNNING]["mean"], metrics["skipped"])

    start = learner.init(jax.random.key(0), {"x": batches[0]})
    _, (means, skipped) = jax.jit(lambda s, x: jax.lax.scan(body, s, x))(start, jnp.asarray(batches))
    expected, m = [], 0.0
    for x, skip in zip(batches, np.asarray(skipped), strict=True):
        m = m if skip else 0.9 * m + 0.1 * x[:, 0].mean(dtype=np.float64)
        expected.append(m)
    np.testing.assert_allclose(means, expected, rtol=1e-5)


def test_the_optimiser_and_the_norm_do_not_know_of_a_running_mean():
    """The same loss without it takes the same steps, with the same norm and the same state of the optimiser."""

    def init(key, batch):
        return {"theta": jnp.zeros(2), "objective": {"scale": jnp.zeros(())}}

    def loss(params, key, batch, step):
        plain, terms = quadratic().loss(params, key, batch, step)
        return plain + 0.5 * jnp.square(params["objective"]["scale"] - 1.0), terms

    def fit(model):
        adam = gradient.gradient(model, gradient.optimizer(name="adam", learning_rate=0.1, clip_norm=0.5))
        start = adam.init(jax.random.key(0), batch_of(1e3))
        return jax.jit(lambda s: jax.lax.scan(lambda s, _: adam.step(s, batch_of(1e3)), s, length=3))(start)

    (given, metrics), (plain, expected) = fit(watching()), fit(Model(init, loss, by_loss(loss)))
    np.testing.assert_array_equal(metrics["grad_norm"], expected["grad_norm"])
    jax.tree.map(np.testing.assert_array_equal, given.opt_state, plain.opt_state)
    assert given.params["objective"].pop(RUNNING)["mean"] > 200.0
    jax.tree.map(np.testing.assert_array_equal, given.params, plain.params)


def test_a_running_mean_of_what_is_not_finite_skips_the_step():
    learner = gradient.gradient(watching(value=lambda batch: jnp.full(4, jnp.nan)), optax.sgd(0.1))
    before = learner.init(jax.random.key(0), batch_of(1.0))
    after, metrics = jax.jit(learner.step)(before, batch_of(1.0))
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
    assert metrics["skipped"] == 1.0


# -------------------------------------------------------------------------------------------------------------------


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


def test_a_schedule_may_map_from_steps_written_as_strings():
    """As a config and JSON have them: the stages of arXiv:1509.00519."""
    stages = {"name": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": {"10": 0.5, "4": 0.1}}
    descent = gradient.optimizer(name="sgd", learning_rate=2.0, schedule=stages)
    state, rates = descent.init(jnp.ones(())), []
    for _ in range(12):
        update, state = descent.update(jnp.ones(()), state)
        rates.append(-float(update))
    np.testing.assert_allclose(rates, [2.0] * 4 + [0.2] * 6 + [0.1] * 2, rtol=1e-5)
    with pytest.raises(ValueError, match=r"schedule\.boundaries_and_scales: its keys must be steps, got 'ten'"):
        gradient.optimizer(name="sgd", learning_rate=2.0, schedule={**stages, "boundaries_and_scales": {"ten": 0.5}})
