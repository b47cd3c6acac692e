import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.stats
from toy_models import bound_only, codebook, exact_bound, gan, noise_schedule

from vae_jax.core import Aux, Model, by_loss
from vae_jax.spec import BadOption
from vae_jax.training import gradient


def quadratic(scale=1.0):
    """loss = scale/2 |θ - x|²: everything about its descent is known."""

    def loss(params, key, batch, step):
        value = 0.5 * scale * jnp.sum(jnp.square(params["theta"][None] - batch["x"]), axis=-1)
        return value, Aux({"bound": -value})

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


def rates_of_steps(optimizer, number=4, model=None, name="learning_rate", bad=()):
    """The reported learning rates of the first steps; those in `bad` have a loss that is NaN."""
    learned = gradient.gradient(model or quadratic(), optimizer)
    state, step, rates = learned.init(jax.random.key(0), batch_of(1.0)), jax.jit(learned.step), []
    for t in range(number):
        state, metrics = step(state, batch_of(jnp.nan if t in bad else 1.0))
        rates.append(float(metrics[name]))
    return rates


HALVES = {"name": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": {1: 0.5, 3: 0.5}}


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lion", "rmsprop", "lamb", "muon"])
def test_the_learning_rate_of_every_step_is_reported(name):
    assert rates_of_steps(gradient.optimizer(name=name, learning_rate=0.5)) == [0.5] * 4
    scheduled = gradient.optimizer(name=name, learning_rate=0.5, schedule=HALVES, clip_norm=1.0)
    factor = optax.piecewise_constant_schedule(1.0, {1: 0.5, 3: 0.5})
    np.testing.assert_allclose(rates_of_steps(scheduled), [0.5 * float(factor(t)) for t in range(4)])


def test_the_reported_rate_is_the_one_that_moved_the_parameters():
    """SGD moves θ by the rate times the gradient; a step that is skipped does not move the schedule."""
    optimizer = gradient.optimizer(name="sgd", learning_rate=0.5, schedule=HALVES)
    learned = gradient.gradient(quadratic(), optimizer)
    state = learned.init(jax.random.key(0), batch_of(1.0))
    for t in range(5):
        before, state_before = state.params["theta"], state
        state, metrics = learned.step(state, batch_of(jnp.nan if t == 1 else 1.0))
        if t != 1:
            rate = (state.params["theta"] - before) / (1.0 - before)
            np.testing.assert_allclose(rate, float(metrics["learning_rate"]), rtol=1e-5)
    assert int(state_before.skipped) == 1


def test_every_part_reports_its_own_learning_rate():
    model = quadratic()
    model = model._replace(
        init=lambda key, batch: {"theta": jnp.zeros(2), "critic": jnp.zeros(2)},
        loss=lambda params, key, batch, step: model_loss(params, key, batch, step),
    )
    optimizers = {"default": ("adam", 0.1), "critic": ("sgd", 0.3)}
    parts = {part: gradient.optimizer(name=n, learning_rate=r) for part, (n, r) in optimizers.items()}
    for part, (_, rate) in optimizers.items():
        found = rates_of_steps(gradient.by_part(**parts), model=model, name=f"learning_rate_{part}")
        np.testing.assert_allclose(found, [rate] * 4, rtol=1e-6)


def model_loss(params, key, batch, step):
    return quadratic().loss({"theta": params["theta"] + params["critic"]}, key, batch, step)


def test_an_optimiser_of_optax_itself_needs_not_tell_its_rate():
    learned = gradient.gradient(quadratic(), optax.sgd(0.1))
    _, metrics = learned.step(learned.init(jax.random.key(0), batch_of(1.0)), batch_of(1.0))
    assert set(metrics) == {"loss", "bound", "grad_norm", "skipped"}


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
        loss=lambda params, key, batch, step: (params["theta"] * batch["x"], Aux({})),
        judge=None,
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
    with pytest.raises(ValueError, match=f"^skip_above must be .* got {skip_above}"):
        learner(skip_above=skip_above)


# -------------------------------------------------------------------------------------- a state that no optimiser sees


def following(value=lambda batch: batch["x"][:, 0]):
    """`quadratic` with a second part that is learned, and a running mean of `value` as its state: m ← 0.9 m + 0.1 v."""
    plain = with_scale()

    def loss(params, key, batch, step):
        loss, aux = plain.loss(params, key, batch, step)
        mean = 0.9 * params["state"]["mean"] + 0.1 * jnp.mean(value(batch))
        return loss, aux._replace(state={"mean": mean})

    return plain._replace(
        init=lambda key, batch: plain.init(key, batch) | {"state": {"mean": jnp.zeros(())}}, loss=loss
    )


def with_scale():
    """`quadratic`, and ½ (scale - 1)² of a part of its own."""
    plain = quadratic()

    def loss(params, key, batch, step):
        value, aux = plain.loss(params, key, batch, step)
        return value + 0.5 * jnp.square(params["objective"]["scale"] - 1.0), aux

    init = lambda key, batch: {**plain.init(key, batch), "objective": {"scale": jnp.zeros(())}}  # noqa: E731
    return Model(init, loss, by_loss(loss))


@pytest.mark.parametrize(
    "name, options",
    [("sgd", {}), ("adamw", {"clip_norm": 1e-3, "schedule": {"name": "constant_schedule", "value": 0.5}})],
)
def test_a_running_mean_is_the_exponential_average_whatever_the_optimiser(name, options):
    """A skipped step leaves it, and the average of the parameters does not average it."""
    optimizer = gradient.optimizer(name=name, learning_rate=0.1, **options)
    learner = gradient.gradient(following(), optimizer, skip_above=2.0, average_decay=0.5)
    batches = 1e3 * np.random.default_rng(0).normal(1.0, 1.0, size=(150, 4, 2)).astype(np.float32)

    def body(state, x):
        state, metrics = learner.step(state, {"x": x})
        return state, (state.params["state"]["mean"], metrics["skipped"])

    start = learner.init(jax.random.key(0), {"x": batches[0]})
    end, (means, skipped) = jax.jit(lambda s, x: jax.lax.scan(body, s, x))(start, jnp.asarray(batches))
    expected, m = [], 0.0
    for x, skip in zip(batches, np.asarray(skipped), strict=True):
        m = m if skip else 0.9 * m + 0.1 * x[:, 0].mean(dtype=np.float64)
        expected.append(m)
    np.testing.assert_allclose(means, expected, rtol=1e-5)
    assert 0 < skipped.sum() < 50 and set(end.average) == {"theta", "objective"}
    assert learner.params(end)["state"]["mean"] == means[-1]


def test_the_optimiser_and_the_norm_do_not_know_of_a_state():
    """The same loss without it takes the same steps, with the same norm and the same state of the optimiser."""

    def fit(model):
        adam = gradient.gradient(model, gradient.optimizer(name="adam", learning_rate=0.1, clip_norm=0.5))
        start = adam.init(jax.random.key(0), batch_of(1e3))
        return jax.jit(lambda s: jax.lax.scan(lambda s, _: adam.step(s, batch_of(1e3)), s, length=3))(start)

    (followed, metrics), (plain, expected) = fit(following()), fit(with_scale())
    np.testing.assert_array_equal(metrics["grad_norm"], expected["grad_norm"])
    jax.tree.map(np.testing.assert_array_equal, followed.opt_state, plain.opt_state)
    assert followed.params.pop("state")["mean"] > 200.0
    jax.tree.map(np.testing.assert_array_equal, followed.params, plain.params)


def test_a_state_that_is_not_finite_skips_the_step():
    learner = gradient.gradient(following(value=lambda batch: jnp.full(4, jnp.nan)), optax.sgd(0.1))
    before = learner.init(jax.random.key(0), batch_of(1.0))
    after, metrics = jax.jit(learner.step)(before, batch_of(1.0))
    jax.tree.map(np.testing.assert_array_equal, before.params, after.params)
    assert metrics["skipped"] == 1.0


def test_a_codebook_is_the_exponential_average_of_what_is_nearest():
    """Against NumPy; a skipped step leaves it as it was; the three centres are those of the data."""
    rng = np.random.default_rng(0)
    centres = np.array([[-5.0, 0.0], [0.0, 5.0], [5.0, 0.0]])
    x = centres[np.arange(60 * 30) % 3] + 0.1 * rng.normal(size=(60 * 30, 2))
    batches = x.reshape(60, 30, 2).astype(np.float32)
    batches[40] = np.nan
    learner = gradient.gradient(codebook(decay=0.8), optax.sgd(0.1))

    def body(state, x):
        state, metrics = learner.step(state, {"x": x})
        return state, (state.params["state"], metrics["skipped"])

    start = learner.init(jax.random.key(0), {"x": batches[0]})
    end, (states, skipped) = jax.jit(lambda s, x: jax.lax.scan(body, s, x))(start, jnp.asarray(batches))
    np.testing.assert_array_equal(np.flatnonzero(skipped), [40])
    count, total = np.ones(3), batches[0, :3].astype(np.float64)
    for step, x in enumerate(batches.astype(np.float64)):
        if step != 40:
            distance = np.sum(np.square(x[:, None] - (total / count[:, None])[None]), axis=-1)
            chosen = np.eye(3)[distance.argmin(axis=1)]
            count, total = 0.8 * count + 0.2 * chosen.sum(axis=0), 0.8 * total + 0.2 * chosen.T @ x
        np.testing.assert_allclose(states["count"][step], count, rtol=1e-5)
        np.testing.assert_allclose(states["total"][step], total, rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a: np.testing.assert_array_equal(a[40], a[39]), states)
    np.testing.assert_allclose(total / count[:, None], centres, atol=0.1)
    np.testing.assert_allclose(end.params["decoder"], 0.0, atol=0.1)


# ------------------------------------------------------------------------------------------- an optimiser for each part


def test_each_part_has_an_optimiser_of_its_own():
    """Gradients of -1 for θ and the scale: sgd at two rates, and the momentum of the one part is not the other's."""
    optimizer = gradient.by_part(default=optax.sgd(0.1), objective=optax.sgd(0.5, momentum=0.9))
    learner = gradient.gradient(with_scale(), optimizer)
    state = learner.init(jax.random.key(0), batch_of(1.0))
    theta, scale, velocity = 0.0, 0.0, 0.0
    for _ in range(3):
        state, _ = jax.jit(learner.step)(state, batch_of(1.0))
        theta, velocity = theta - 0.1 * (theta - 1.0), 0.9 * velocity + (scale - 1.0)
        scale -= 0.5 * velocity
    np.testing.assert_allclose(state.params["theta"], theta, rtol=1e-6)
    np.testing.assert_allclose(state.params["objective"]["scale"], scale, rtol=1e-6)


def test_a_state_belongs_to_no_part():
    """Not to the default either; the others move as they would without it."""
    optimizer = gradient.by_part(default=optax.adam(0.1), objective=optax.sgd(0.5))
    learner = gradient.gradient(following(), optimizer)
    state, _ = jax.jit(learner.step)(learner.init(jax.random.key(0), batch_of(2.0)), batch_of(2.0))
    np.testing.assert_allclose(state.params["theta"], 0.1, rtol=1e-5)
    np.testing.assert_allclose(state.params["objective"]["scale"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(state.params["state"]["mean"], 0.2, rtol=1e-6)


def test_an_optimiser_of_an_unknown_part_is_refused():
    learner = gradient.gradient(with_scale(), gradient.by_part(default=optax.sgd(0.1), objectiv=optax.sgd(0.1)))
    with pytest.raises(BadOption, match="no part 'objectiv' of the model learns; did you mean 'objective'"):
        learner.init(jax.random.key(0), batch_of(1.0))


def test_two_players_learn_a_normal():
    """Mean and deviation of each dimension, from averaged parameters, within 0.05 of the data's. That is twice the
    largest error of ten keys.
    """
    loc, scale = jnp.array([1.0, -0.5]), jnp.array([0.5, 1.5])
    players = {"critic": optax.adam(0.05, b1=0.5), "generator": optax.adam(0.01, b1=0.5)}
    learner = gradient.gradient(gan(), gradient.by_part(default=optax.sgd(0.0), **players), average_decay=0.99)

    @jax.jit
    def fit(key):
        def body(state, key):
            return learner.step(state, {"x": loc[None] + scale[None] * jax.random.normal(key, (128, 2))})

        key_init, key_data = jax.random.split(key)
        start = learner.init(key_init, {"x": jnp.zeros((128, 2))})
        return jax.lax.scan(body, start, jax.random.split(key_data, 1000))

    state, metrics = fit(jax.random.key(0))
    assert not metrics["skipped"].any()
    generator = learner.params(state)["generator"]
    np.testing.assert_allclose(generator["loc"], loc, atol=0.05)
    np.testing.assert_allclose(jnp.exp(generator["log_scale"]), scale, atol=0.05)
    np.testing.assert_allclose(metrics["critic"][-100:].mean(), 2 * np.log(2), atol=0.02)  # it cannot tell them apart


def test_neither_player_descends_the_loss_of_the_other():
    """Against the gradient of each loss by its player."""
    model, key = gan(), jax.random.key(0)
    params = {
        "generator": {"loc": jnp.array([0.3, -0.2]), "log_scale": jnp.array([0.1, -0.4])},
        "critic": {"linear": jnp.array([0.5, -1.0]), "square": jnp.array([-0.3, 0.2]), "bias": jnp.float32(0.1)},
    }
    batch = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(8, 2)), jnp.float32)}

    def mean(player):
        def value(params):
            loss, aux = model.loss(params, jax.random.clone(key), batch, 0)
            return jnp.mean(aux.terms[player] if player else loss)

        return jax.grad(value)(params)

    both, critic, generator = mean(None), mean("critic"), mean("generator")
    jax.tree.map(np.testing.assert_array_equal, both, {"critic": critic["critic"], "generator": generator["generator"]})
    for leaf in jax.tree.leaves((critic["generator"], generator["critic"])):
        assert np.all(leaf == 0.0)
    assert all(np.all(leaf != 0.0) for leaf in jax.tree.leaves(both))


# -------------------------------------------------------------------------------------------- a bound and nothing else


def test_a_model_with_a_bound_only_descends_to_the_law_of_its_data():
    """Data N(m, diag s²): the best affine denoisers are known, and their bound is nearly the data's own log p(x)."""
    loc, scale = np.array([0.5, -1.0]), np.array([0.8, 0.8])
    rng = np.random.default_rng(0)
    x = (loc + scale * rng.normal(size=(2048, 2))).astype(np.float32)
    model = bound_only(num_steps=64)
    learner = gradient.gradient(model, gradient.optimizer(name="adam", learning_rate=0.03), average_decay=0.99)

    @jax.jit
    def fit(key):
        start = learner.init(key, {"x": x[:256]})
        return learner.params(jax.lax.scan(lambda s, x: learner.step(s, {"x": x}), start, batches)[0])

    batches = jnp.asarray(np.concatenate([x[rng.permutation(2048)].reshape(8, 256, 2) for _ in range(100)]))
    params = fit(jax.random.key(0))
    alpha, sigma = noise_schedule(64)
    best = (alpha * scale[0] ** 2 / (alpha**2 * scale[0] ** 2 + sigma**2))[1:]
    shift = (1 - best * alpha[1:])[:, None] * loc
    optimal = exact_bound({"scale": best, "shift": shift}, x).mean()
    reached = exact_bound(params, x).mean()
    log_prob = scipy.stats.norm(loc, scale).logpdf(x).sum(axis=1).mean()
    assert optimal - 0.03 < reached < optimal + 5e-3
    assert log_prob - 0.25 < reached < log_prob


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
        ({"schedule": {"name": "cosine"}}, "schedule.name: unknown value 'cosine'"),
    ],
)
def test_a_mistake_in_the_optimiser_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        learner(**options)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "rmsprop", "lion", "radam", "sgd", "muon"])
def test_any_optimiser_of_optax_descends(name):
    any_learner = learner(name=name, learning_rate=0.05)
    state = any_learner.init(jax.random.key(0), batch_of(1.0))
    step = jax.jit(any_learner.step)
    first = None
    for _ in range(20):
        state, metrics = step(state, batch_of(1.0))
        first = metrics["loss"] if first is None else first
    assert float(metrics["loss"]) < float(first)


def test_muon_moves_every_direction_of_a_matrix_by_about_the_same():
    """However different their gradients are, and each of stacked matrices by itself; vectors move as by Adam."""
    u, v = (np.linalg.qr(np.random.default_rng(i).normal(size=(n, 6)))[0] for i, n in enumerate((20, 6)))
    one = u * np.geomspace(0.1, 1.0, 6) @ v.T
    params = {"layers": jnp.zeros((2, 3, 20, 6)), "matrix": jnp.zeros((20, 6)), "bias": jnp.zeros(6)}
    gradients = {"layers": jnp.stack([one, -one])[:, None] * jnp.ones((1, 3, 1, 1)), "matrix": one, "bias": v[0]}
    muon, adam = gradient.optimizer(name="muon", learning_rate=0.1), optax.adam(0.1, nesterov=True)
    moved, _ = muon.update(gradients, muon.init(params), params)
    scale = 0.1 * 0.2 * np.sqrt(20)  # learning rate, rms, and the root of the longer side
    along = -np.diag(u.T @ np.asarray(moved["matrix"]) @ v) / scale
    assert (along > 0.6).all() and (along < 1.3).all()
    np.testing.assert_allclose(moved["layers"][0], np.broadcast_to(moved["matrix"], (3, 20, 6)), atol=1e-5)
    np.testing.assert_allclose(moved["layers"][1], -moved["layers"][0], atol=1e-5)
    np.testing.assert_allclose(moved["bias"], adam.update(v[0], adam.init(v[0]))[0], rtol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ns_steps": 0}, "ns_steps"),
        ({"rms": 0.0}, "rms"),
        ({"beta": 1.0}, "beta"),
        ({"weight_decay": -1.0}, "weight_decay"),
        ({"nesterov": True}, "nesterov"),
    ],
)
def test_a_mistake_in_the_options_of_muon_is_named(options, message):
    with pytest.raises(BadOption, match=message):
        gradient.optimizer(name="muon", learning_rate=0.1, **options)


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
