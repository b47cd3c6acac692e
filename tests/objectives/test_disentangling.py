"""Objectives of a batch against quadrature of q(z), closed forms of Gaussians, and the best discriminator."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import scipy.integrate
import scipy.stats
from jax.tree_util import Partial
from toys import watched

from vae_jax import networks, objectives
from vae_jax.core import Latent, per_example
from vae_jax.distributions import MultivariateNormal, Normal
from vae_jax.evaluation import latents
from vae_jax.objectives.disentangling import WAE_SCALES, log_aggregate, squared_mmd
from vae_jax.training import sharding

SIZE = 8  # as many as there are devices
RNG = np.random.default_rng(0)
LOC, SCALE = RNG.normal(size=(SIZE, 2)), RNG.uniform(0.3, 0.8, size=(SIZE, 2))
# x is a number and the row of a table: q(z|x) = N(loc_x, scale_x²), p(x|z) = N(w z, 1).
TABLE = Latent(
    prior=lambda params, context=None: Normal.standard((2,)),
    posterior=lambda params, x, context=None: Normal(params["loc"][x], params["log_scale"][x]),
    likelihood=lambda params, z, context=None: Normal(params["weight"] @ z, jnp.zeros(())),
)
BATCH = {"x": jnp.arange(SIZE)}
NET = networks.mlp(((2,),), (16,), "tanh")
OPTIONS = {
    "beta_tcvae": {"alpha": 2.0, "beta": 4.0, "gamma": 0.5, "num_data": 20},
    "factor_vae": {"gamma": 3.0},
    "dip_vae": {"kind": "II", "lambda_od": 2.0, "lambda_d": 3.0},
    "info_vae": {"alpha": 0.5, "lambda_mmd": 5.0},
    "wae": {"lambda_mmd": 5.0},
}


def table(loc=LOC, scale=SCALE):
    loc, log_scale = jnp.asarray(loc, jnp.float32), jnp.log(jnp.asarray(scale, jnp.float32))
    return {"loc": loc, "log_scale": log_scale, "weight": jnp.array([1.0, -0.5]), "discriminator": DISCRIMINATOR}


DISCRIMINATOR = jax.jit(NET.init)(jax.random.key(7), jnp.zeros(2))
PARAMS = table()


def apply(name, params, key, batch=BATCH, latent=TABLE, **changes):
    options = {**OPTIONS[name], **changes}
    if name == "factor_vae" and "discriminator" not in options:
        options["discriminator"] = Partial(NET.apply, params["discriminator"])
    return getattr(objectives, name)(latent, params, key, batch, **options)


def keys_of(names, seed=3):
    """The same key for each, as arrays of their own: none is used twice."""
    return {name: jax.random.key(seed) for name in names}


@jax.jit
def everything(params, keys, batch):
    """Of every objective (mean value, (value, terms)), gradient."""

    def of(name):
        def mean(params):
            value, terms = apply(name, params, keys[name], batch)
            return jnp.mean(value), (value, terms)

        return jax.value_and_grad(mean, has_aux=True)(params)

    return {name: of(name) for name in OPTIONS}


@pytest.fixture(scope="module")
def at_once():
    """{name: (value, terms)} of the whole table."""
    return {name: given[0][1] for name, given in everything(PARAMS, keys_of(OPTIONS), BATCH).items()}


@pytest.fixture(scope="module")
def bounds():
    """{name: (value, terms)} of the objectives of one example, for the same key."""

    def of(name, key):
        return per_example(functools.partial(getattr(objectives, name), TABLE))(PARAMS, key, BATCH)

    run = jax.jit(lambda keys: {name: of(name, key) for name, key in keys.items()})
    return run(keys_of(("elbo", "elbo_sampled_kl")))


def many(function, count, seed=0):
    return jax.jit(jax.vmap(function))(jax.random.split(jax.random.key(seed), count))


# ------------------------------------------------------------------------------------- the decomposition of the rate


@pytest.fixture(scope="module")
def by_quadrature():
    """The three parts for q(z) = 1/N Σ_n N(z; loc_n, scale_n²) under N(0, I), on a grid."""
    axis = np.linspace(-7.0, 7.0, 701)
    step = axis[1] - axis[0]
    each = scipy.stats.norm.pdf(axis[None, :, None], LOC[:, None], SCALE[:, None])  # [N, grid, D]
    joint, marginals = np.einsum("na,nb->ab", each[..., 0], each[..., 1]) / SIZE, each.mean(axis=0)
    entropy = -np.sum(scipy.special.xlogy(joint, joint)) * step**2
    entropies = -np.sum(scipy.special.xlogy(marginals, marginals), axis=0) * step
    cross = np.sum(marginals * -scipy.stats.norm.logpdf(axis)[:, None], axis=0) * step
    noise = np.mean(np.sum(np.log(SCALE) + 0.5 * np.log(2 * np.pi * np.e), axis=1))
    return {
        "mutual_information": entropy - noise,
        "total_correlation": np.sum(entropies) - entropy,
        "dimension_kl": np.sum(cross - entropies),
    }


@pytest.fixture(scope="module")
def decomposed():
    """Means over all examples, of many keys, with either kind of sampling."""

    def mean(key, sampling):
        _, terms = apply("beta_tcvae", PARAMS, key, num_data=SIZE, sampling=sampling)
        return jax.tree.map(jnp.mean, terms)

    return [many(functools.partial(mean, sampling=sampling), 2000) for sampling in ("stratified", "weighted")]


def test_on_all_data_the_parts_of_the_rate_are_exact(by_quadrature, decomposed, assert_mean):
    for name, expected in by_quadrature.items():
        assert expected > 0.05, name
        assert_mean(decomposed[0][name], expected)
    rate = 0.5 * np.sum(SCALE**2 + LOC**2 - 1.0 - 2.0 * np.log(SCALE)) / SIZE
    np.testing.assert_allclose(sum(by_quadrature.values()), rate, rtol=1e-6)
    np.testing.assert_allclose(decomposed[0]["rate"], rate, rtol=1e-5)


def test_weighted_sampling_differs_by_constants_on_all_data(decomposed):
    stratified, weighted = decomposed
    for name, factor in {"mutual_information": 1, "total_correlation": 1, "dimension_kl": -2}.items():  # 1, D-1, -D
        np.testing.assert_allclose(weighted[name], stratified[name] + factor * np.log(SIZE), atol=1e-4)


def test_stratified_sampling_is_unbiased_for_the_density():
    """The mean of q(z) and of its marginals over all batches of three that hold x_0 is that of all data."""
    q, z = Normal(PARAMS["loc"], PARAMS["log_scale"]), jnp.array([0.4, -0.3])
    rows = jnp.array([(0, *others) for others in itertools.combinations(range(1, SIZE), 2)])
    log_weights = jnp.log(jnp.array([1 / SIZE, (1 - 1 / SIZE) / 2, (1 - 1 / SIZE) / 2]))

    def of_batch(rows):
        return log_aggregate(log_weights, Normal(q.loc[rows], q.log_scale[rows]), z)

    def terms(key):
        return apply("beta_tcvae", PARAMS, key, {"x": rows[0]}, num_data=SIZE)[1]

    parts, whole, given = jax.jit(
        lambda key: (jax.vmap(of_batch)(rows), log_aggregate(jnp.full(SIZE, -np.log(SIZE)), q, z), terms(key))
    )(jax.random.key(0))
    for part, expected in zip(parts, whole, strict=True):
        np.testing.assert_allclose(np.exp(part).mean(axis=0), np.exp(expected), rtol=1e-5)

    # And these are the weights of a batch of three: z_0 drawn anew, as `elbo` draws it.
    key = jax.random.split(jax.random.split(jax.random.key(0), 3)[0], 1)[0]
    z, log_q = Normal(q.loc[0], q.log_scale[0]).sample_and_log_prob(key)
    joint, marginals = of_batch(rows[0])
    np.testing.assert_allclose(given["mutual_information"][0], log_q - joint, rtol=1e-4)
    np.testing.assert_allclose(given["total_correlation"][0], joint - marginals.sum(), rtol=1e-4)


def test_the_weights_weigh_the_parts(at_once, bounds):
    value, terms = at_once["beta_tcvae"]
    parts = [terms[name] for name in ("mutual_information", "total_correlation", "dimension_kl")]
    weighed = 2.0 * parts[0] + 4.0 * parts[1] + 0.5 * parts[2]
    np.testing.assert_allclose(value, -terms["distortion"] - weighed, rtol=1e-5)
    sampled, _ = bounds["elbo_sampled_kl"]
    np.testing.assert_allclose(-terms["distortion"] - sum(parts), sampled, rtol=1e-5)


def test_codes_on_a_grid_have_no_total_correlation():
    loc = np.array(list(itertools.product([-1.0, 0.2, 1.5], [-0.7, 0.6])))
    scale = np.tile([[0.4, 0.7]], (6, 1))
    q = Normal(jnp.asarray(loc, jnp.float32), jnp.log(jnp.asarray(scale, jnp.float32)))
    np.testing.assert_allclose(latents.total_correlation(q, jax.random.key(0)), 0.0, atol=1e-5)


def test_a_correlated_gaussian_has_the_total_correlation_of_its_determinant(assert_mean):
    """1000 means spread evenly over N(0, Σ), noise s: -½ log |corr(Σ + s² I)|."""
    covariance = np.array([[1.0, 0.8], [0.8, 1.0]])
    uniform = scipy.stats.qmc.Sobol(2, seed=0).random(1024)
    loc = scipy.stats.norm.ppf(uniform) @ np.linalg.cholesky(covariance).T
    total = covariance + 0.4**2 * np.eye(2)
    expected = -0.5 * np.log(1.0 - total[0, 1] ** 2 / (total[0, 0] * total[1, 1]))
    params, batch = table(loc, np.full((1024, 2), 0.4)), {"x": jnp.arange(1024)}
    _, terms = jax.jit(lambda key: apply("beta_tcvae", params, key, batch, num_data=1024))(jax.random.key(0))
    assert_mean(terms["total_correlation"], expected)
    given = latents.total_correlation(Normal(params["loc"], params["log_scale"]), jax.random.key(1))
    np.testing.assert_allclose(given, expected, atol=0.1)
    with pytest.raises(TypeError, match="total correlation of a MultivariateNormal does not split"):
        latents.total_correlation(MultivariateNormal(params["loc"], jnp.zeros((1024, 2, 2))), jax.random.key(1))


# ------------------------------------------------------------------------------------------------ the discriminator

CORRELATION = 0.8
TRIL = np.linalg.cholesky([[1.0, CORRELATION], [CORRELATION, 1.0]])
CORRELATED = TABLE._replace(
    posterior=lambda params, x, context=None: MultivariateNormal(jnp.zeros(2), jnp.asarray(TRIL, jnp.float32))
)
EXACT_TC = -0.5 * np.log(1.0 - CORRELATION**2)


def codes(size):
    return {"x": jnp.zeros(size, jnp.int32)}


def test_the_best_discriminator_knows_the_total_correlation(assert_mean):
    def best(z):
        joint = MultivariateNormal(jnp.zeros(2), jnp.asarray(TRIL, jnp.float32)).log_prob(z)
        return (jnp.stack([joint, Normal.standard((2,)).log_prob(z)]),)

    given = {"latent": CORRELATED, "discriminator": Partial(best)}
    run = jax.jit(lambda key: apply("factor_vae", PARAMS, key, codes(5000), **given))
    value, terms = run(jax.random.key(0))
    assert_mean(terms["total_correlation"], EXACT_TC)
    np.testing.assert_allclose(value, terms["bound"] - 3.0 * terms["total_correlation"], rtol=1e-4, atol=1e-4)
    # Cross-entropy of the best: log 2 - the Jensen-Shannon divergence of q(z) and Π q(z_d), on a grid.
    axis = np.linspace(-7.0, 7.0, 701)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1)
    p = scipy.stats.multivariate_normal([0, 0], TRIL @ TRIL.T).pdf(grid)
    r = scipy.stats.norm.pdf(grid).prod(axis=-1)
    divergence = 0.5 * np.sum(p * np.log(2 * p / (p + r)) + r * np.log(2 * r / (p + r))) * (axis[1] - axis[0]) ** 2
    assert_mean(terms["discriminator_loss"], np.log(2) - divergence)


def test_a_trained_discriminator_finds_it():
    net, optimizer = networks.mlp(((2,),), (32, 32), "tanh"), optax.adam(optax.cosine_decay_schedule(1e-2, 1000))

    def run(own, key, size):
        return apply("factor_vae", PARAMS, key, codes(size), CORRELATED, discriminator=Partial(net.apply, own))

    @jax.jit
    def fit(own, key):
        def step(carry, key):
            own, state = carry
            gradient = jax.grad(lambda own: -jnp.mean(run(own, key, 512)[0]))(own)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(own, updates), state), None

        key_fit, key_test = jax.random.split(key)
        (own, _), _ = jax.lax.scan(step, (own, optimizer.init(own)), jax.random.split(key_fit, 1000))
        return jnp.mean(run(own, key_test, 20_000)[1]["total_correlation"])

    own = jax.jit(net.init)(jax.random.key(1), jnp.zeros(2))
    np.testing.assert_allclose(fit(own, jax.random.key(0)), EXACT_TC, rtol=0.05)


def test_neither_player_sees_the_gradient_of_the_other():
    names = ("value", "bound", "total_correlation", "discriminator_loss")

    def means(params):
        value, terms = apply("factor_vae", params, jax.random.key(0))
        return {name: jnp.mean({**terms, "value": value}[name]) for name in names}

    of = jax.jit(jax.jacrev(means))(PARAMS)
    codes_of = lambda tree: [tree["loc"], tree["log_scale"], tree["weight"]]  # noqa: E731
    assert all(np.all(leaf == 0) for leaf in jax.tree.leaves(of["total_correlation"]["discriminator"]))
    assert all(np.all(leaf == 0) for leaf in codes_of(of["discriminator_loss"]))
    assert np.abs(of["total_correlation"]["loc"]).max() > 1e-3
    for value, loss in zip(*(jax.tree.leaves(of[n]["discriminator"]) for n in (names[0], names[3])), strict=True):
        np.testing.assert_allclose(value, -loss, rtol=1e-5, atol=1e-7)
        assert np.abs(loss).max() > 1e-4
    for value, bound, correlation in zip(*(codes_of(of[n]) for n in names[:3]), strict=True):
        np.testing.assert_allclose(value, bound - 3.0 * correlation, rtol=1e-4, atol=1e-5)


# ------------------------------------------------------------------------------------------ covariances, discrepancies


@pytest.mark.parametrize("kind", ["I", "II"])
def test_the_penalty_is_of_the_covariance(kind, at_once):
    value, terms = at_once["dip_vae"]
    if kind == "I":
        value, terms = jax.jit(lambda key: apply("dip_vae", PARAMS, key, kind="I"))(jax.random.key(0))
    covariance = np.cov(LOC.T, bias=True) + (np.diag(np.mean(SCALE**2, axis=0)) if kind == "II" else 0.0)
    off, diagonal = 2 * covariance[0, 1] ** 2, np.sum((np.diag(covariance) - 1) ** 2)
    np.testing.assert_allclose(terms["off_diagonal"], off, rtol=1e-4)
    np.testing.assert_allclose(terms["diagonal"], diagonal, rtol=1e-4)
    np.testing.assert_allclose(value, terms["bound"] - 2.0 * off - 3.0 * diagonal, rtol=1e-5)


def mean_kernel(kernel, variance, distance, dim, scales):
    """E[k(d)] for d ~ N(δ, variance I), |δ|² = `distance`: for C/(C + d²) = ∫ C exp(-t (C + d²)) dt by quadrature."""

    def gaussian(t):  # E[exp(-t d²)]
        wide = 1.0 + 2.0 * t * variance
        return wide ** (-dim / 2) * np.exp(-t * distance / wide)

    def one(c):
        if kernel == "rbf":
            return gaussian(1.0 / c)
        return scipy.integrate.quad(lambda t: c * np.exp(-t * c) * gaussian(t), 0, np.inf)[0]

    return sum(one(2.0 * dim * scale) for scale in scales)


@pytest.mark.parametrize("kernel, scales", [("rbf", (1.0,)), ("inverse_multiquadric", WAE_SCALES)])
def test_the_discrepancy_is_unbiased(kernel, scales, assert_mean):
    """Between N(δ, s² I) and N(0, I) in three dimensions it is known; between N(0, I) and itself it is 0."""
    shift, scale = np.array([0.5, -0.3, 0.0]), 0.6

    def draw(key):
        a, b = jax.random.normal(key, (2, 8, 3))
        other = scale * a + jnp.asarray(shift, jnp.float32)[None]
        return tuple(squared_mmd(c, b, kernel=kernel, scales=scales) for c in (a, other))

    same, apart = many(draw, 5000)
    assert_mean(same, 0.0)
    expected = functools.partial(mean_kernel, kernel, dim=3, scales=scales)
    exact = expected(2 * scale**2, 0.0) + expected(2.0, 0.0) - 2 * expected(scale**2 + 1.0, np.sum(shift**2))
    assert exact > 0.01
    assert_mean(apart, exact)


def test_a_prior_like_the_aggregate_costs_nothing(assert_mean):
    """q(z|x) = p(z) at every x: of both, mmd is 0 in the mean, and of another p(z) it is not."""
    params = table(np.zeros((SIZE, 2)), np.ones((SIZE, 2)))
    far = TABLE._replace(prior=lambda params, context=None: Normal(jnp.full(2, 2.0), jnp.zeros(2)))

    def draw(key):
        keys = jax.random.split(key, 3)
        given = ("info_vae", TABLE), ("wae", TABLE), ("wae", far)
        return [apply(n, params, k, latent=p)[1]["mmd"][0] for k, (n, p) in zip(keys, given, strict=True)]

    info, wae, apart = many(draw, 2000)
    assert_mean(info, 0.0)
    assert_mean(wae, 0.0)
    assert np.mean(apart) > 0.5


def test_the_family_of_info_vae(at_once, bounds):
    value, terms = at_once["info_vae"]
    np.testing.assert_allclose(value, -terms["distortion"] - 0.5 * terms["rate"] - 4.5 * terms["mmd"], rtol=1e-5)
    value, terms = at_once["wae"]
    np.testing.assert_allclose(value, -terms["distortion"] - 5.0 * terms["mmd"], rtol=1e-5)
    plain, _ = jax.jit(lambda key: apply("info_vae", PARAMS, key, alpha=0.0, lambda_mmd=1.0))(jax.random.key(3))
    np.testing.assert_allclose(plain, bounds["elbo"][0], rtol=1e-6)


# ----------------------------------------------------------------------------------------------------- what all share


def test_every_objective_of_the_module_is_tested_here():
    public = {name for name in objectives.__all__ if getattr(objectives, name).__module__.endswith("disentangling")}
    assert set(OPTIONS) == public


@pytest.mark.parametrize("name", OPTIONS)
def test_printed_nats_are_the_elbos(name, at_once, bounds):
    value, terms = at_once[name]
    for part, expected in bounds["elbo"][1].items():
        np.testing.assert_allclose(terms[part], expected, rtol=1e-5)
    assert all(term.shape == (SIZE,) for term in (value, *terms.values()))


def test_a_batch_of_one_is_finite_and_coupled_to_nothing():
    given = everything(PARAMS, keys_of(OPTIONS), {"x": jnp.array([2])})
    for path, leaf in jax.tree.leaves_with_path(given):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)
    nothing = {"beta_tcvae": ("mutual_information", "total_correlation"), "info_vae": ("mmd",), "wae": ("mmd",)}
    for name, term in [(name, term) for name, terms in nothing.items() for term in terms]:
        np.testing.assert_allclose(given[name][0][1][1][term], 0.0, atol=1e-5)


def test_no_output_of_an_encoder_breaks_them():
    """Locations up to 1e4 and scales at both ends of `heads.normal`, mixed in one batch."""
    rng = np.random.default_rng(1)
    far = table(rng.choice([-1e4, -100.0, 0.0, 1e4], (SIZE, 2)), np.exp(rng.choice([-8.0, 0.0, 8.0], (SIZE, 2))))
    for path, leaf in jax.tree.leaves_with_path(everything(far, keys_of(OPTIONS), BATCH)):
        assert np.isfinite(leaf).all(), jax.tree_util.keystr(path)


def test_eight_devices_see_one_batch():
    """Values, terms and gradients, the batch cut over the devices as training cuts it."""
    mesh = sharding.make_mesh(batch_size=SIZE)
    assert mesh.shape["data"] == 8
    cut = jax.jit(lambda params, keys, batch: everything(params, keys, sharding.cut_batch(mesh, batch)))
    spread = jax.device_put(PARAMS, sharding.replicated(mesh))
    given, expected = cut(spread, keys_of(OPTIONS), BATCH), everything(PARAMS, keys_of(OPTIONS), BATCH)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), given, expected)


@pytest.mark.parametrize("name", OPTIONS)
def test_context_reaches_every_distribution(name):
    latent, calls = watched(TABLE)
    batch = {**BATCH, "context": jnp.zeros((SIZE, 3))}
    jax.eval_shape(lambda key: apply(name, PARAMS, key, batch, latent=latent), jax.random.key(0))
    assert {(part, context.shape) for part, context in calls} == {
        (part, (3,)) for part in ("prior", "posterior", "likelihood")
    }


@pytest.mark.parametrize(
    "name, changes, words",
    [
        ("beta_tcvae", {"sampling": "uniform"}, "sampling: unknown value 'uniform' .*stratified, weighted"),
        ("beta_tcvae", {"num_data": 5}, "num_data must be at least the 8 examples of a batch, got 5"),
        ("dip_vae", {"kind": "III"}, "kind: unknown value 'III'.*I, II"),
        ("wae", {"kernel": "cosine"}, "kernel: unknown value 'cosine' .*inverse_multiquadric, rbf"),
    ],
)
def test_options_that_cannot_be(name, changes, words):
    with pytest.raises(ValueError, match=words):
        jax.eval_shape(lambda key: apply(name, PARAMS, key, **changes), jax.random.key(0))
