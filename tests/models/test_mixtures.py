"""Mixtures by EM against scikit-learn, enumeration, and the law that the penalised likelihood never falls."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture
from toys import kind

from vae_jax import models
from vae_jax.models.mixture import bernoulli, gaussian, heirs, k_means_plus_plus, mixture
from vae_jax.tasks import cluster
from vae_jax.training import em, sharding

PIXELS = load_digits().data[:1200]
BITS = jnp.asarray(PIXELS > 7, jnp.float32).reshape(-1, 8, 8, 1)
COVARIANCES = ("spherical", "diagonal", "full", "tied")
PLAIN = {"concentration": 0.0, "revive_below": 0.0}


def gaussians(shape, num, covariance, floor=1e-6, **options):
    return mixture(shape, gaussian(shape, covariance=covariance, floor=floor), num_components=num, **PLAIN | options)


def bernoullis(shape, num, smoothing=0.5, **options):
    return mixture(shape, bernoulli(shape, smoothing=smoothing), num_components=num, **PLAIN | options)


@functools.cache
def learned(model, passes, batches):
    """(parts, params or None, key) -> params, bounds: one program for all data of a shape."""

    @jax.jit
    def run(parts, params, key):
        started = model if params is None else model._replace(init=lambda key, batch: params)
        learner = em.em(started, batches_per_pass=batches)
        state = learner.init(key, {"x": parts[0]})
        step = lambda state, i: learner.step(state, {"x": parts[i % batches]})  # noqa: E731
        state, metrics = jax.lax.scan(step, state, jnp.arange(passes * batches))
        return learner.params(state), metrics["bound"]

    return run


def fit(model, x, passes, batches=1, params=None):
    """Params after `passes` of EM over `x` in so many batches, and the mean log p(x) before each."""
    parts = jnp.reshape(jnp.asarray(x, jnp.float32), (batches, -1, *x.shape[1:]))
    params, bounds = learned(model, passes, batches)(parts, params, jax.random.key(0))
    return params, np.asarray(bounds).reshape(passes, batches).mean(1)


@functools.cache
def blobs():
    """Four clouds of 150 points in the plane times three, of different shapes; labels; in units far from 0."""
    rng = np.random.default_rng(0)
    label = rng.integers(4, size=600)
    centres, shapes = rng.normal(scale=4.0, size=(4, 3)), np.eye(3) + 0.4 * rng.normal(size=(4, 3, 3))
    x = centres[label] + np.einsum("nij,nj->ni", shapes[label], rng.normal(size=(600, 3))) + 7.0
    return x.astype(np.float32), label


def covariances(params, covariance):
    """In the shape that scikit-learn has for it."""
    components = params["components"]
    scale = np.asarray(components["log_scale" if "log_scale" in components else "scale_tril"], np.float64)
    if covariance in ("spherical", "diagonal"):
        return np.exp(2 * scale)[:, 0] if covariance == "spherical" else np.exp(2 * scale)
    full = scale @ np.swapaxes(scale, 1, 2)
    return full[0] if covariance == "tied" else full


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_gaussians_are_those_of_scikit_learn_step_by_step(covariance):
    x, _ = blobs()
    model = gaussians((3,), 4, covariance)
    start = jax.jit(model.init)(jax.random.key(1), {"x": x})
    began, weights = covariances(start, covariance), np.exp(np.asarray(start["logits"], np.float64))
    theirs = GaussianMixture(
        4,
        covariance_type="diag" if covariance == "diagonal" else covariance,
        weights_init=weights / weights.sum(),
        means_init=np.asarray(start["components"]["mean"], np.float64),
        precisions_init=np.linalg.inv(began) if covariance in ("full", "tied") else 1 / began,
        tol=0.0,
        reg_covar=0.0,
        max_iter=7,
    )
    with pytest.warns(ConvergenceWarning):
        theirs.fit(x.astype(np.float64))
    params, bounds = fit(model, x, passes=7, batches=3, params=start)
    np.testing.assert_allclose(jax.nn.softmax(params["logits"]), theirs.weights_, rtol=1e-4)
    np.testing.assert_allclose(params["components"]["mean"], theirs.means_, rtol=1e-4)
    scale = np.abs(theirs.covariances_).max()
    np.testing.assert_allclose(covariances(params, covariance), theirs.covariances_, rtol=1e-4, atol=1e-5 * scale)
    ours = jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, x)
    np.testing.assert_allclose(ours, theirs.score_samples(x), rtol=1e-4)
    density = jax.jit(jax.vmap(lambda x: model.density(params).log_prob(x)))(x)
    np.testing.assert_allclose(density, ours, rtol=1e-4)
    r = jax.jit(jax.vmap(lambda x: cluster.responsibilities(model, params, x)))(x)
    np.testing.assert_allclose(r, theirs.predict_proba(x), atol=1e-3)
    assert np.all(np.diff(bounds) > 0)


def log_prior(params, *, smoothing, concentration):
    """Dirichlet(1 + c) of the weights and Beta(1 + a, 1 + a) of the biases, up to a constant."""
    logits = np.asarray(params["components"]["logits"], np.float64)
    beta = smoothing * (scipy.special.log_expit(logits) + scipy.special.log_expit(-logits)).sum()
    return beta + concentration * np.asarray(jax.nn.log_softmax(params["logits"]), np.float64).sum()


def test_em_never_lowers_the_penalised_likelihood_of_bernoullis():
    priors = {"smoothing": 0.5, "concentration": 2.0}
    model = bernoullis((8, 8, 1), 20, **priors)
    learner = em.em(model, batches_per_pass=4)
    parts = BITS.reshape(4, 300, 8, 8, 1)

    @jax.jit
    def one_pass(state):
        return jax.lax.scan(learner.step, state, {"x": parts})

    state, values = jax.jit(learner.init)(jax.random.key(0), {"x": parts[0]}), []
    for _ in range(25):
        params = state.params
        state, metrics = one_pass(state)
        values.append(len(BITS) * float(metrics["bound"].mean()) + log_prior(params, **priors))
    gains = np.diff(values)
    assert np.all(gains > -0.02) and gains[:5].min() > 10  # nats, of 25,000 in float32
    # And what it climbs to is a stationary point of just that: its gradient in the logits is zero.
    given = jax.jit(jax.grad(lambda p: jnp.sum(model.loss(p, None, {"x": BITS}, 0)[0])))
    late, _ = fit(model, BITS, 300, params=state.params)
    slope = given(late)["components"]["logits"] - 0.5 * (1 - 2 * jax.nn.sigmoid(late["components"]["logits"]))
    assert np.abs(slope).max() < 0.05


@pytest.fixture(scope="module")
def small():
    model = bernoullis((3, 3), 5)
    x = np.asarray(BITS[:300, 2:5, 2:5, 0])
    params, _ = fit(model, x, 10)
    every = (np.arange(512)[:, None] >> np.arange(9) & 1).reshape(-1, 3, 3).astype(np.float32)
    return model, params, every, np.exp(jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, every))


def test_it_sums_to_one(small):
    model, params, every, p = small
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(np.exp(jax.vmap(lambda x: model.density(params).log_prob(x))(every)), p, rtol=1e-4)


def test_draws_have_its_moments(small, assert_mean):
    model, params, every, p = small
    drawn = np.asarray(jax.jit(jax.vmap(lambda k: model.sample(params, k)))(jax.random.split(jax.random.key(3), 4000)))
    flat = every.reshape(512, 9)
    assert_mean(drawn.reshape(-1, 9), p @ flat)
    pairs = np.einsum("ni,nj->nij", flat, flat)[:, *np.triu_indices(9, 1)]
    assert_mean((drawn.reshape(-1, 9, 1) * drawn.reshape(-1, 1, 9))[:, *np.triu_indices(9, 1)], p @ pairs)


@pytest.mark.parametrize("covariance", ["diagonal", "tied"])
def test_clusters_far_apart_are_found(covariance):
    rng = np.random.default_rng(1)
    label = rng.integers(6, size=900)
    centres = 30.0 * np.stack(np.meshgrid([0, 1, 2], [0, 1]), -1).reshape(6, 2)
    x = (centres[label] + rng.normal(size=(900, 2)) * [1.0, 2.0]).astype(np.float32)
    model = gaussians((2,), 6, covariance)
    params, _ = fit(model, x, 5, batches=3)
    assert adjusted_rand_score(label, jax.vmap(lambda x: cluster.label(model, params, x))(x)) == 1.0
    found = np.asarray(params["components"]["mean"])
    of = np.array([np.abs(found - c).sum(1).argmin() for c in centres])
    np.testing.assert_allclose(found[of], [x[label == k].mean(0) for k in range(6)], atol=1e-3)
    np.testing.assert_allclose(jax.nn.softmax(params["logits"])[of], np.bincount(label) / 900, rtol=1e-4)


@pytest.mark.parametrize(
    "model", [bernoullis((8, 8, 1), 6), gaussians((8, 8, 1), 6, "full", floor=0.1)], ids=["b", "g"]
)
def test_parts_of_the_data_are_the_whole(model):
    x = BITS[:600]
    start = jax.jit(model.init)(jax.random.key(0), {"x": x[:200]})
    once, thrice = (fit(model, x, 3, batches, start) for batches in (1, 3))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4), once[0], thrice[0])
    np.testing.assert_allclose(once[1], thrice[1], rtol=1e-5)


@pytest.mark.parametrize("model", [bernoullis((4, 4), 4), gaussians((4, 4), 4, "full", floor=0.1)], ids=["b", "g"])
def test_eight_devices_are_one(model):
    x = BITS[:160, 2:6, 2:6, 0].reshape(4, 40, 4, 4)
    learner = em.em(model, batches_per_pass=4)

    def run(devices):
        mesh = sharding.make_mesh(data=devices, batch_size=40)
        parts = jax.device_put({"x": x}, NamedSharding(mesh, P(None, "data")))

        @functools.partial(jax.jit, out_shardings=sharding.replicated(mesh))
        def fitted(parts):
            start = learner.init(jax.random.key(0), jax.tree.map(lambda a: a[0], parts))
            return jax.lax.scan(lambda state, i: learner.step(state, {"x": parts["x"][i % 4]}), start, jnp.arange(12))

        state, _ = fitted(parts)
        return state.params

    one, eight = run(1), run(8)
    assert len(eight["logits"].sharding.device_set) == 8
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), one, eight)


@pytest.mark.parametrize("covariance", COVARIANCES)
def test_constant_pixels_and_repeated_examples_are_safe(covariance):
    rng = np.random.default_rng(2)
    x = np.concatenate([np.full((40, 5), 3.0), np.repeat(rng.normal(size=(4, 5)), 10, 0)]).astype(np.float32)
    x[:, 1], x[:, 2] = 0.25, x[:, 0]  # a constant, and a copy: every covariance is singular
    model = gaussians((5,), 12, covariance, floor=1e-3, revive_below=0.5)  # more components than distinct points
    params, bounds = fit(model, x, 10, batches=2)
    assert np.isfinite(bounds).all()
    variances = covariances(params, covariance)
    least = np.linalg.eigvalsh(variances) if covariance in ("full", "tied") else variances
    assert least.min() > 0.99e-3


@pytest.mark.parametrize("covariance", ["diagonal", "full"])
def test_the_likelihood_never_falls_though_covariances_touch_the_floor(covariance):
    x = (PIXELS[:400] / 17).astype(np.float32)[:, 10:30]  # pixels 8 and 15 of a row are nearly constant
    _, bounds = fit(gaussians((20,), 8, covariance, floor=0.003), x, 20)
    assert np.all(np.diff(bounds) > -1e-5 * np.abs(bounds[1:]))


def test_components_without_examples_live_again():
    model = bernoullis((8, 8, 1), 10, revive_below=0.5, concentration=1.0)
    params, _ = fit(model, BITS, 1)
    far = params["components"]["logits"].at[3].set(-40.0).at[7].set(40.0)  # nothing is like these
    dead = params | {"components": {"logits": far}}

    @jax.jit
    def turn(params):
        sums, value = model.sums.expect(params, {"x": BITS})
        return model.sums.maximize(params, sums), sums["count"], value.mean()

    alive, count, before = turn(dead)
    assert np.all(count[jnp.array([3, 7])] < 1e-3)
    jax.tree.map(np.testing.assert_array_equal, alive, turn(dead)[0])
    _, count, after = turn(alive)
    assert np.all(count > 5) and after > before


def test_the_empty_inherit_from_the_heaviest():
    inherit = jax.jit(heirs, static_argnums=1)
    owner, count = inherit(jnp.array([0.0, 10.0, 0.4, 30.0, 2.0]), 0.5)
    np.testing.assert_array_equal(owner, [3, 1, 1, 3, 4])
    np.testing.assert_array_equal(count, [15, 5, 5, 15, 2])
    owner, count = inherit(jnp.array([0.0, 0.1, 9.0, 0.2, 0.3]), 0.5)  # more empty ones than heirs
    np.testing.assert_array_equal(owner, 5 * [2])
    np.testing.assert_allclose(count, 5 * [9 / 5], rtol=1e-6)
    np.testing.assert_array_equal(inherit(jnp.zeros(5), 0.5)[0], np.arange(5))  # no data at all


def test_a_copy_beside_its_original_changes_nothing():
    """What `heirs` promises, but for the move."""
    model = gaussians((3,), 4, "full")
    params = jax.jit(model.init)(jax.random.key(0), {"x": blobs()[0]})
    owner, count = heirs(600 * jax.nn.softmax(params["logits"]).at[2].set(0.0), 0.5)
    bare = params | {"logits": params["logits"].at[2].set(-1e9)}
    kind = gaussian((3,), covariance="full", floor=1e-6)
    twice = {"logits": jnp.log(count), "components": kind.revive(params["components"], owner, jnp.zeros((4, 3)))}
    value = jax.jit(jax.vmap(model.log_prob, (None, 0)))
    np.testing.assert_allclose(value(bare, blobs()[0]), value(twice, blobs()[0]), rtol=1e-4)


def test_batches_with_nan_are_left_out():
    model = gaussians((3,), 3, "full")
    half, spoiled = blobs()[0][:400], blobs()[0][:400].copy()
    spoiled[[3, 250]] = np.nan  # one row of each batch
    start, _ = fit(model, np.concatenate([half, half]), 1, batches=4)
    some, _ = fit(model, np.concatenate([half, spoiled]), 1, batches=4, params=start)
    twice, _ = fit(model, np.concatenate([half, half]), 1, batches=4, params=start)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), some, twice)
    none, _ = fit(model, np.concatenate([spoiled, spoiled]), 1, batches=4, params=start)
    jax.tree.map(np.testing.assert_array_equal, none, start)


def test_k_means_plus_plus_draws_by_squared_distance():
    x = jnp.array([[0.0], [0.0], [1.0], [3.0]])
    pick = jax.jit(jax.vmap(lambda k: k_means_plus_plus(k, x, 2)))
    draws = pick(jax.random.split(jax.random.key(0), 4000))[..., 0]
    first = np.asarray(draws[:, 0])
    assert scipy.stats.chisquare([np.sum(first == v) for v in (0, 1, 3)], [2000, 1000, 1000]).pvalue > 1e-6
    after_zero = np.asarray(draws[first == 0, 1])
    assert not np.any(after_zero == 0)
    assert scipy.stats.binomtest(int(np.sum(after_zero == 3)), len(after_zero), 0.9).pvalue > 1e-6
    assert np.isfinite(k_means_plus_plus(jax.random.key(0), x, 4)).all()  # more than there are distinct


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_components": 0}, "num_components must be at least 1, got 0"),
        ({"concentration": -1.0}, "concentration must be at least 0, got -1.0"),
        ({"revive_below": float("nan")}, "revive_below must be one finite number, at least 0, got nan"),
        ({"components": {"name": "gausian"}}, "components.name: unknown value 'gausian'; did you mean 'gaussian'"),
        ({"components": {"name": "bernoulli", "smoothing": 0.0}}, "smoothing must be above 0, got 0"),
        ({"components": {"name": "gaussian", "covariance": "diag", "floor": 1.0}}, "unknown value 'diag'"),
        ({"components": {"name": "gaussian", "covariance": "full", "floor": 0.0}}, "floor must be above 0, got 0"),
        (
            {"num_components": 99},
            "num_components must be at most the 50 examples of the first batch, .* got 99; raise batch_size",
        ),
        ({"num_classes": 10}, "family: 'mixture' takes no context"),
    ],
)
def test_a_mistake_is_named(change, message):
    config = {"num_components": 3, "components": {"name": "bernoulli", "smoothing": 1.0}, **PLAIN} | change
    data = kind((8, 8, 1), config.pop("num_classes", 0))
    with pytest.raises(ValueError, match=message):
        models.from_config("mixture", config, **data).init(jax.random.key(0), {"x": BITS[:50]})


def in_float64(params, x):
    """log p(x) [N] and the responsibilities [N, K] of the very parameters."""
    components, x = params["components"], np.asarray(x, np.float64)
    mean = np.asarray(components["mean"], np.float64)
    e = x[:, None] - mean
    if "log_scale" in components:
        log_scale = np.broadcast_to(np.asarray(components["log_scale"], np.float64), mean.shape)
        z, log_det = e * np.exp(-log_scale), log_scale.sum(1)
    else:
        tril = np.broadcast_to(np.asarray(components["scale_tril"], np.float64), (len(mean), *2 * mean.shape[1:]))
        z = np.einsum("kij,nkj->nki", np.linalg.inv(tril), e)
        log_det = np.log(np.diagonal(tril, axis1=1, axis2=2)).sum(1)
    log_joint = -0.5 * np.square(z).sum(2) - log_det - 0.5 * x.shape[1] * np.log(2 * np.pi)
    log_joint = log_joint + np.asarray(jax.nn.log_softmax(params["logits"]), np.float64)
    log_prob = np.logaddexp.reduce(log_joint, axis=1)
    return log_prob, np.exp(log_joint - log_prob[:, None])


@functools.cache
def narrow():
    """Clusters far apart, half of whose pixels vary by 1e-4 of their distance: x [500, 12]."""
    rng = np.random.default_rng(0)
    label = rng.integers(5, size=500)
    width = np.where(rng.random((5, 12)) < 0.5, 1e-4, 0.1)
    return rng.uniform(size=(5, 12))[label] + width[label] * rng.normal(size=(500, 12))


@functools.cache
def compiled(covariance, floor):
    model = gaussians((12,), 5, covariance, floor=floor)
    log_prob = jax.jit(jax.vmap(model.log_prob, (None, 0)))
    return model, jax.jit(model.init), jax.jit(model.sums.expect), jax.jit(model.sums.maximize), log_prob


@pytest.mark.parametrize(
    "floor", [1e-6, *(pytest.param(floor, marks=pytest.mark.every) for floor in (1.0, 1e-3, 1e-8))]
)
@pytest.mark.parametrize("covariance", COVARIANCES)
def test_log_prob_and_responsibilities_are_those_of_float64(covariance, floor):
    """To 1e-3 nats, in evaluation and in EM, at any offset; float32 itself holds 1e-7 of |log p|."""
    _, init, statistics, maximize, log_prob = compiled(covariance, floor)
    for offset in (0.0, 100.0, 1000.0):
        x = (narrow() + offset).astype(np.float32)
        params = init(jax.random.key(0), {"x": x})
        for _ in range(3):
            params = maximize(params, statistics(params, {"x": x})[0])
        expected, r = in_float64(params, x)
        sums, value = statistics(params, {"x": x})
        np.testing.assert_allclose(log_prob(params, x), expected, rtol=1e-6, atol=1e-3)
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-3)
        np.testing.assert_allclose(sums["count"], r.sum(0), atol=1e-2)
        if covariance == "diagonal":
            e = x.astype(np.float64)[:, None] - np.asarray(params["components"]["mean"], np.float64)
            second = np.einsum("nk,nkd->kd", r, e**2)
            np.testing.assert_allclose(sums["second"], second, rtol=2e-3, atol=2e-3 * floor * len(x))


@pytest.mark.parametrize("level", [5.0, 30.0, 1000.0])
def test_bernoullis_are_right_where_log_p_is_near_0(level):
    """Pixels that hardly ever differ: sums of large logits of both signs leave nothing."""
    model = bernoullis((64,), 3)
    rng = np.random.default_rng(0)
    bits = rng.integers(2, size=(3, 64))
    logits = np.asarray(level * (2 * bits - 1) * rng.uniform(0.9, 1.1, size=(3, 64)), np.float32)
    params = {"logits": jnp.zeros(3), "components": {"logits": jnp.asarray(logits)}}
    x = np.concatenate([bits, 1 - bits, rng.integers(2, size=(5, 64))]).astype(np.float32)
    wide = logits.astype(np.float64)
    joint = x @ -np.logaddexp(0, -wide).T + (1 - x) @ -np.logaddexp(0, wide).T - np.log(3)
    expected = np.logaddexp.reduce(joint, axis=1)
    given = [
        jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, x),
        jax.jit(jax.vmap(lambda x: model.density(params).log_prob(x)))(x),
        jax.jit(model.sums.expect)(params, {"x": x})[1],
    ]
    for value in given:
        np.testing.assert_allclose(value, expected, rtol=1e-6, atol=1e-3)
