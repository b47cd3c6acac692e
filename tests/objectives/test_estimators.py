"""Every estimator against the exact gradient: by enumeration of discrete latents, by quadrature of Gaussian ones."""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind, watched

from vae_jax import models, objectives
from vae_jax.core import Latent, Learner
from vae_jax.distributions import Bernoulli, Categorical, Normal, OneHot
from vae_jax.evaluation.gradients import (
    against_exact,
    gradient_moments,
    signal_to_noise,
    total_variance,
    variance_along,
)
from vae_jax.numerics import log_mean_exp
from vae_jax.objectives import objective as objective_of
from vae_jax.objectives.bounds import log_joint, plain_elbo
from vae_jax.spec import BadOption
from vae_jax.training import gradient

NUM_DRAWS = 100_000


def named(name, **options):
    function = plain_elbo if name == "plain_elbo" else getattr(objectives, name)
    return functools.partial(function, **options)


def assert_unbiased(moments, exact):
    """|z| < 5 in every coordinate, but for the rounding of those in closed form."""
    error = against_exact(moments, exact)
    for (path, z), bias in zip(jax.tree.leaves_with_path(error["z"]), jax.tree.leaves(error["bias"]), strict=True):
        assert np.all((np.abs(z) < 5) | (np.abs(bias) < 1e-6)), f"{jax.tree_util.keystr(path)}: z = {z}, bias {bias}"


# ------------------------------------------------------------------------------------------ three bits, four pixels


def array(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


PARAMS = {"prior": array(0, 3), "encoder": array(1, 3, 4), "decoder": array(2, 4, 3), "offset": array(3, 4)}
X = jnp.array([1.0, 0.0, 1.0, 1.0])
BITS = Latent(
    prior=lambda params, context=None: Bernoulli(params["prior"]),
    posterior=lambda params, x, context=None: Bernoulli(params["encoder"] @ x),
    likelihood=lambda params, z, context=None: Bernoulli(params["decoder"] @ z + params["offset"]),
)
BIT_STATES = jnp.array(list(itertools.product([0.0, 1.0], repeat=3)))

# One variable of three values, as an integer and as an indicator vector: the same model.
LEVELS = Latent(
    prior=lambda params, context=None: Categorical(params["prior"][None]),
    posterior=lambda params, x, context=None: Categorical((params["encoder"] @ x)[None]),
    likelihood=lambda params, z, context=None: Bernoulli(params["decoder"][:, z[0]] + params["offset"]),
)
INDICATORS = Latent(
    prior=lambda params, context=None: OneHot(params["prior"][None]),
    posterior=lambda params, x, context=None: OneHot((params["encoder"] @ x)[None]),
    likelihood=lambda params, z, context=None: Bernoulli(params["decoder"] @ z[0] + params["offset"]),
)
LEVEL_STATES, INDICATOR_STATES = jnp.arange(3)[:, None], jnp.eye(3)[:, None, :]


@functools.partial(jax.jit, static_argnums=(0, 2))
@functools.partial(jax.grad, argnums=3)
def exact_gradient(latent, states, num_samples, params, beta=1.0):
    """Of E[log (1/K) Σ_k w_k] over all K-tuples of states; for K = 1 with the rate weighted by β."""
    q = latent.posterior(params, X)
    log_q = jax.vmap(q.log_prob)(states)
    log_lik, log_prior = jax.vmap(log_joint(latent, params, X))(states)
    tuples = np.array(list(itertools.product(range(len(states)), repeat=num_samples)))
    log_w = (log_lik + beta * (log_prior - log_q))[tuples]
    return jnp.sum(jnp.exp(log_q[tuples].sum(axis=1)) * log_mean_exp(log_w, axis=1))


@functools.cache
def moments(latent, name, **options):
    return gradient_moments(named(name, **options), latent, PARAMS, jax.random.key(0), X, num_draws=NUM_DRAWS)


@pytest.mark.parametrize(
    "latent, states", [(BITS, BIT_STATES), (LEVELS, LEVEL_STATES), (INDICATORS, INDICATOR_STATES)], ids=range(3)
)
def test_rloo_is_unbiased_for_every_kind_of_discrete_latent(latent, states):
    assert_unbiased(moments(latent, "rloo", num_samples=4), exact_gradient(latent, states, 1, PARAMS))


def test_the_score_function_is_unbiased():
    assert_unbiased(moments(BITS, "score_function", num_samples=4), exact_gradient(BITS, BIT_STATES, 1, PARAMS))


def test_beta_weighs_the_rate_of_scores():
    exact = exact_gradient(BITS, BIT_STATES, 1, PARAMS, 0.3)
    assert_unbiased(moments(BITS, "rloo", beta=0.3, num_samples=2), exact)


def test_vimco_is_unbiased_for_the_bound_of_two_samples():
    exact = exact_gradient(BITS, BIT_STATES, 2, PARAMS)
    given = moments(BITS, "vimco", num_samples=2)
    assert_unbiased(given, exact)
    elbo = against_exact(given, exact_gradient(BITS, BIT_STATES, 1, PARAMS))
    assert np.abs(elbo["z"]["encoder"]).max() > 20  # the test can tell the two bounds apart


def test_a_baseline_lowers_the_variance():
    """The same number of samples: per draw, in all coordinates together."""
    plain, centred = (total_variance(moments(BITS, name, num_samples=4)) for name in ("score_function", "rloo"))
    assert plain > 2 * centred


# ------------------------------------------------------------------------------------------- baselines that are learned


class Linear(NamedTuple):
    """A network whose input and parameters are vectors."""

    def init(self, key, x):
        return jnp.zeros_like(x)

    def apply(self, params, x):
        return (params @ x,)


LEARNED = {"objective": {"baseline": array(4, 4)}}
MEANS = {"running_mean": jnp.float32(-3.0), "running_variance": jnp.float32(9.0)}
DECAYS = {"running_mean": 0.8, "running_variance": 0.5}


def of_one(name, **options):
    """The objective as `objectives.objective` makes it, of one example, and its next running means beside the terms."""
    value = objective_of.of(getattr(objectives, name), **options).value
    means = {name: MEANS[name] for name in DECAYS if name in options}

    def objective(latent, params, key, x, context=None):
        bound, aux = value(lambda dropout_key: latent, {**params, "state": means}, key, {"x": x[None]}, 0)
        return bound[0], jax.tree.map(lambda term: term[0], aux.terms) | aux.state

    return objective


@jax.jit
def exact_with_baseline(params):
    """The gradients of the ELBO, and of the squares that a baseline minimises."""

    def all_of(params):
        q = BITS.posterior(params, X)
        log_q = jax.vmap(q.log_prob)(BIT_STATES)
        f = sum(jax.vmap(log_joint(BITS, params, X))(BIT_STATES)) - log_q
        elbo = jnp.exp(log_q) @ f
        p, f = jax.lax.stop_gradient((jnp.exp(log_q), f))
        error = f - MEANS["running_mean"] - params["objective"]["baseline"] @ X
        return elbo - 0.5 * (p @ jnp.square(error))

    return jax.grad(all_of)(params)


@functools.cache
def moments_with_baseline(name, **options):
    """Of draws at a place where the baseline is not yet right."""
    options |= {"baseline": Linear()} if name == "nvil" else {}
    params = {**PARAMS, **(LEARNED if name == "nvil" else {})}
    return gradient_moments(of_one(name, **options), BITS, params, jax.random.key(0), X, num_draws=NUM_DRAWS)


def test_nvil_is_unbiased_for_the_model_and_its_baseline_descends_the_error():
    """In all that is learned: that of the baseline does not reach the model, nor the model's the baseline."""
    given = moments_with_baseline("nvil", running_mean=0.8, num_samples=2)
    assert_unbiased(given, exact_with_baseline({**PARAMS, **LEARNED}))


def test_the_score_function_with_a_running_mean_is_unbiased_and_less_noisy():
    given = moments_with_baseline("score_function", running_mean=0.8, num_samples=4)
    assert_unbiased(given, exact_gradient(BITS, BIT_STATES, 1, PARAMS))
    centred, plain = (m.variance["encoder"].sum() for m in (given, moments(BITS, "score_function", num_samples=4)))
    assert 1.5 * centred < plain


def test_normalisation_divides_the_gradient_of_the_posterior_and_nothing_else():
    """By max(1, √v) = 3, as is stated."""
    exact = exact_with_baseline({**PARAMS, **LEARNED})
    assert_unbiased(moments_with_baseline("nvil", **DECAYS), {**exact, "encoder": exact["encoder"] / 3.0})


def test_the_running_means_follow_the_signal_and_its_squares(assert_mean):
    """m ← d m + (1-d) f, and v ← d v + (1-d) (f - m - C)² with the m before: in the mean, by enumeration."""
    objective = of_one("nvil", baseline=Linear(), **DECAYS)
    run = jax.jit(jax.vmap(lambda key: objective(BITS, {**PARAMS, **LEARNED}, key, X)[1]))
    drawn = run(jax.random.split(jax.random.key(0), 5000))
    log_q = jax.vmap(BITS.posterior(PARAMS, X).log_prob)(BIT_STATES)
    f = np.asarray(sum(jax.vmap(log_joint(BITS, PARAMS, X))(BIT_STATES)) - log_q, np.float64)
    p, m, v = np.exp(np.asarray(log_q, np.float64)), *(float(mean) for mean in MEANS.values())
    square = np.square(f - m - float(LEARNED["objective"]["baseline"] @ X))
    assert_mean(drawn["running_mean"], 0.8 * m + 0.2 * (p @ f))
    assert_mean(drawn["running_variance"], 0.5 * v + 0.5 * (p @ square))


def test_a_baseline_is_learned_beside_the_model_and_pays():
    """Half the images are blank and half are noise, so that the signal depends on x."""
    noise = np.random.default_rng(0).integers(2, size=(16, 12))
    batch = {"x": jnp.asarray(np.concatenate([0 * noise, noise]), jnp.float32)}
    names = {
        "score_function": {},
        "running mean": {"name": "score_function", "running_mean": 0.9},
        "nvil": {"baseline": {"name": "mlp", "hidden": (8,)}, "running_mean": 0.9},
    }

    def build(name, **options):
        net = {"name": "mlp", "hidden": ()}
        bits = {"posterior": {"name": "bernoulli"}, "prior": {"name": "bernoulli"}, "likelihood": {"name": "bernoulli"}}
        spec = {"latent_dim": 4, "encoder": net, "decoder": net, **bits}
        objective = {"name": name, "num_samples": 2, **options}
        return models.from_config("vae", {**spec, "objective": objective}, **kind((12,)))

    built = {name: build(**{"name": name, **options}) for name, options in names.items()}
    learner = gradient.gradient(built["nvil"], gradient.optimizer(name="adam", learning_rate=0.03))

    def fit(key):
        start = learner.init(key, batch)
        return jax.lax.scan(lambda state, _: learner.step(state, batch), start, length=200)

    state, metrics = jax.jit(fit)(jax.random.key(0))
    average = 0.0
    for signal in np.asarray(metrics["bound"], np.float64):  # with β = 1 the signal is the bound of the samples
        average = 0.9 * average + 0.1 * signal
    np.testing.assert_allclose(state.params["state"]["running_mean"], average, rtol=1e-5)
    assert metrics["bound"][-20:].mean() > metrics["bound"][:20].mean() + 1.0

    losses = {name: model.loss for name, model in built.items()}
    there = Learner(lambda key, batch: state, lambda state, batch: (state, {}), learner.params)
    given = variance_along(there, losses, lambda step: batch, jax.random.key(0), batch, steps=[0], num_draws=100)
    plain, mean, own = (given[name][0] for name in names)
    assert plain > 1.5 * mean and mean > 1.5 * own


def test_reparameterisation_alone_misses_the_gradient_of_discrete_latents():
    given = against_exact(moments(BITS, "plain_elbo", num_samples=1), exact_gradient(BITS, BIT_STATES, 1, PARAMS))
    assert np.abs(given["bias"]["encoder"]).max() > 0.05
    assert np.all(np.abs(given["z"]["offset"]) < 5)  # θ is fine


@pytest.mark.parametrize("latent, states", [(BITS, BIT_STATES), (INDICATORS, INDICATOR_STATES)], ids=range(2))
def test_the_relaxed_gradient_is_biased_and_less_so_when_cold(latent, states):
    """The bias is real, it falls with the temperature, and the variance grows."""
    exact = exact_gradient(latent, states, 1, PARAMS)
    warm, cold = (moments(latent, "gumbel_softmax", temperature=t) for t in (1.0, 0.2))
    bias = [against_exact(m, exact) for m in (warm, cold)]
    size = [np.linalg.norm(b["bias"]["encoder"]) for b in bias]
    assert np.abs(bias[0]["z"]["encoder"]).max() > 20
    assert size[1] < 0.5 * size[0]
    assert cold.variance["encoder"].sum() > warm.variance["encoder"].sum()


@pytest.mark.parametrize("latent, states", [(BITS, BIT_STATES), (INDICATORS, INDICATOR_STATES)], ids=range(2))
def test_straight_through_is_biased_for_the_posterior_alone(latent, states):
    given = moments(latent, "gumbel_softmax", temperature=1.0, hard=True)
    error = against_exact(given, exact_gradient(latent, states, 1, PARAMS))
    assert np.abs(error["z"]["encoder"]).max() > 20
    assert np.all(np.abs(error["z"]["decoder"]) < 5) and np.all(np.abs(error["z"]["offset"]) < 5)
    assert np.abs(error["bias"]["prior"]).max() < 1e-5  # its KL is in closed form


# ------------------------------------------------------------------------------- two Gaussian dimensions, three pixels

GRID, GRID_WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
NODES = jnp.asarray(list(itertools.product(GRID, repeat=2)), jnp.float32)
WEIGHTS = jnp.asarray(np.outer(GRID_WEIGHTS, GRID_WEIGHTS).ravel() / (2 * np.pi), jnp.float32)


@pytest.fixture(scope="module")
def gaussian(linear_gaussian):
    """`linear_gaussian` with parameters in p(z) and p(x|z) too, at a place where none of them is optimal."""
    given = linear_gaussian.latent

    def likelihood(params, z, context=None):
        p = given.likelihood(params, z)
        return p.replace(loc=p.loc + params["bias"])

    latent = given._replace(
        prior=lambda params, context=None: Normal(params["prior"], jnp.zeros(2)), likelihood=likelihood
    )
    params = {**linear_gaussian.wrong, "bias": jnp.array([0.1, -0.2, 0.3]), "prior": jnp.array([0.2, 0.1])}
    return latent, params, linear_gaussian.data(1)[0]


def elbo_of_two(a, b):
    return 0.5 * (a + b)


def renyi_of_two(a, b, alpha=0.0):
    power = 1.0 - alpha
    return (jnp.logaddexp(power * a, power * b) - np.log(2.0)) / power


def quadrature(gaussian, of_two, beta=1.0):
    """The gradient of E[f(log w_1, log w_2)] over two samples, on a grid of 16 points a dimension."""
    latent, params, x = gaussian

    @jax.jit
    @jax.grad
    def gradient(params):
        q = latent.posterior(params, x)
        z = q.loc[None] + NODES @ q.scale_tril.T
        log_lik, log_prior = jax.vmap(log_joint(latent, params, x))(z)
        log_w = log_lik + beta * (log_prior - jax.vmap(q.log_prob)(z))
        return WEIGHTS @ of_two(log_w[:, None], log_w[None, :]) @ WEIGHTS

    return gradient(params)


@pytest.fixture(scope="module")
def measured(gaussian):
    """(name, options) -> moments at that place, each computed once."""
    latent, params, x = gaussian

    @functools.cache
    def measure(name, num_draws=NUM_DRAWS, **options):
        return gradient_moments(named(name, **options), latent, params, jax.random.key(0), x, num_draws=num_draws)

    return measure


@pytest.fixture(scope="module")
def exact(gaussian):
    """The gradients of ELBO, IWAE of two samples and Rényi's bound at α = ½ of two samples."""
    half = functools.partial(renyi_of_two, alpha=0.5)
    return {
        name: quadrature(gaussian, f) for name, f in {"elbo": elbo_of_two, "iwae": renyi_of_two, "renyi": half}.items()
    }


def test_the_quadrature_is_the_closed_form_of_the_elbo(gaussian, exact, linear_gaussian):
    """Along the shift of q it is -S⁻¹ shift, where p is the one that q was made for."""
    latent, params, x = gaussian
    plain = {**params, "bias": jnp.zeros(3), "prior": jnp.zeros(2)}
    precision = np.linalg.inv(linear_gaussian.posterior_covariance)
    expected = -precision @ np.asarray(params["shift"])
    given = quadrature((latent, plain, x), elbo_of_two)
    np.testing.assert_allclose(given["shift"], expected, rtol=1e-3)
    stretch = float(params["stretch"])
    np.testing.assert_allclose(given["stretch"], 2 / stretch - 2 * stretch, rtol=1e-3)


@pytest.mark.parametrize(
    "name, num_samples, bound, options",
    [
        ("elbo", 1, "elbo", {}),
        ("elbo_sampled_kl", 4, "elbo", {}),
        ("sticking_the_landing", 1, "elbo", {}),
        ("score_function", 4, "elbo", {}),
        ("rloo", 4, "elbo", {}),
        ("dreg", 1, "elbo", {}),
        ("iwae", 2, "iwae", {}),
        ("dreg", 2, "iwae", {}),
        ("vimco", 2, "iwae", {}),
        ("miwae", 2, "iwae", {"num_outer": 2}),
        ("renyi", 2, "renyi", {"alpha": 0.5}),
    ],
)
def test_an_estimator_is_unbiased(measured, exact, name, num_samples, bound, options):
    assert_unbiased(measured(name, num_samples=num_samples, **options), exact[bound])


def test_beta_weighs_the_rate_of_sticking_the_landing(gaussian, measured):
    assert_unbiased(measured("sticking_the_landing", beta=3.0), quadrature(gaussian, elbo_of_two, beta=3.0))


def test_partial_importance_weighting_gives_each_side_its_own_bound(measured, exact):
    """Two groups of one sample: q climbs the ELBO, p(z) and p(x|z) the bound of two samples."""
    sides = {"shift": "elbo", "stretch": "elbo", "bias": "iwae", "prior": "iwae"}
    mixed = {name: exact[bound][name] for name, bound in sides.items()}
    assert_unbiased(measured("piwae", num_samples=1, num_outer=2), mixed)


def test_the_combination_has_the_combined_gradient(measured, exact):
    combined = jax.tree.map(lambda a, b: 0.3 * a + 0.7 * b, exact["elbo"], exact["iwae"])
    assert_unbiased(measured("ciwae", num_samples=2, elbo_weight=0.3), combined)


def test_the_variance_falls_from_score_to_baseline_to_path(measured):
    """Four samples each; the variance of the gradient of q."""
    of_q = lambda m: m._replace(variance={k: m.variance[k] for k in ("shift", "stretch")})  # noqa: E731
    names = ("score_function", "rloo", "elbo_sampled_kl")
    score, centred, path = (total_variance(of_q(measured(name, num_samples=4))) for name in names)
    assert score > 2 * centred and centred > 1.2 * path


def test_sticking_the_landing_has_no_variance_at_the_exact_posterior(linear_gaussian):
    def variance(name, **options):
        place = (linear_gaussian.latent, linear_gaussian.exact, jax.random.key(0), linear_gaussian.data(1)[0])
        return total_variance(gradient_moments(named(name, **options), *place, num_draws=1000))

    assert variance("sticking_the_landing") < 1e-8
    assert variance("dreg", num_samples=4) < 1e-8
    assert variance("elbo_sampled_kl") > 0.1


def test_more_samples_drown_the_signal_of_iwae_and_not_of_dreg(measured):
    """arXiv:1802.04537 sec. 3: for q the ratio falls as 1/√K; arXiv:1810.04152: doubly reparameterised it grows."""

    def ratio(name, num_samples):
        return signal_to_noise(measured(name, num_samples=num_samples, num_draws=5000))["stretch"]

    assert ratio("iwae", 64) < 0.6 * ratio("iwae", 4)
    assert ratio("dreg", 64) > ratio("dreg", 4)
    assert ratio("dreg", 64) > 3 * ratio("iwae", 64)


# -------------------------------------------------------------------------------------------------- values and errors


def values(latent, params, x, objective):
    run = jax.jit(jax.vmap(lambda key: objective(latent, params, key, x)))
    return run(jax.random.split(jax.random.key(0), 100))


@pytest.mark.parametrize(
    "name, honest, options",
    [
        ("score_function", "elbo_sampled_kl", {"num_samples": 3, "beta": 0.3}),
        ("rloo", "elbo_sampled_kl", {"num_samples": 3, "beta": 0.3}),
        ("sticking_the_landing", "elbo_sampled_kl", {"num_samples": 3, "beta": 0.3}),
        ("vimco", "iwae", {"num_samples": 3}),
        ("dreg", "iwae", {"num_samples": 3}),
    ],
)
def test_the_value_is_the_honest_bound(gaussian, name, honest, options):
    given, expected = (values(*gaussian, named(n, **options)) for n in (name, honest))
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5), given, expected)


@pytest.mark.parametrize("latent, hard", [(BITS, False), (INDICATORS, True)], ids=["bits", "one-hot"])
def test_the_value_of_a_relaxed_gradient_is_that_of_the_bits(latent, hard):
    given = values(latent, PARAMS, X, named("gumbel_softmax", temperature=0.5, hard=hard, num_samples=3, beta=0.3))
    _, terms = values(latent, PARAMS, X, named("plain_elbo", num_samples=3))
    expected = (-terms["distortion"] - 0.3 * terms["rate"], terms)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), given, expected)


@pytest.mark.parametrize("name", ["score_function", "rloo", "vimco", "gumbel_softmax", "sticking_the_landing", "dreg"])
def test_context_reaches_every_distribution(name, gaussian):
    latent, params, x = gaussian if name in ("sticking_the_landing", "dreg") else (BITS, PARAMS, X)
    latent, calls = watched(latent)
    objective = named(name, temperature=0.5) if name == "gumbel_softmax" else named(name)
    jax.eval_shape(lambda key: objective(latent, params, key, x, "the context"), jax.random.key(0))
    assert set(calls) == {(part, "the context") for part in ("prior", "posterior", "likelihood")}


@pytest.mark.parametrize("name", ["rloo", "vimco"])
@pytest.mark.parametrize("num_samples", [1, 0])
def test_a_baseline_wants_others(name, num_samples):
    with pytest.raises(ValueError, match=f"num_samples must be at least 2, got {num_samples}"):
        named(name, num_samples=num_samples)(BITS, PARAMS, jax.random.key(0), X)


@pytest.mark.parametrize("decay", [1.0, -0.1])
def test_a_running_mean_that_stands_still_or_runs_backwards_is_refused(decay):
    with pytest.raises(ValueError, match=rf"running_mean must be at least 0 and below 1, got {decay}"):
        objective_of.of(objectives.score_function, running_mean=decay)


@pytest.mark.parametrize("name", ["score_function", "sticking_the_landing", "dreg", "gumbel_softmax"])
def test_no_samples_are_refused(gaussian, name):
    latent, params, x = (BITS, PARAMS, X) if name == "gumbel_softmax" else gaussian
    options = {"temperature": 0.5} if name == "gumbel_softmax" else {}
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        named(name, num_samples=0, **options)(latent, params, jax.random.key(0), x)


@pytest.mark.parametrize("latent", [BITS, LEVELS, INDICATORS], ids=["bits", "levels", "one-hot"])
@pytest.mark.parametrize(
    "name", ["elbo", "elbo_sampled_kl", "iwae", "miwae", "piwae", "stratified_elbo", "sticking_the_landing", "dreg"]
)
def test_a_path_through_a_discrete_posterior_is_refused(name, latent):
    words = rf"^name: '{name}' cannot be used with a \w+ posterior: no gradient passes .*; use 'rloo', 'vimco' or"
    with pytest.raises(BadOption, match=words):
        named(name)(latent, PARAMS, jax.random.key(0), X)


def test_a_gaussian_has_no_relaxation(gaussian):
    latent, params, x = gaussian
    words = "^name: 'gumbel_softmax' cannot be used with a MultivariateNormal posterior: .*; use 'elbo'$"
    with pytest.raises(BadOption, match=words):
        named("gumbel_softmax", temperature=0.5)(latent, params, jax.random.key(0), x)
