"""AIS and its reverse against the exact log p(x) of a linear-Gaussian model."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.distributions import UniformSphere
from vae_jax.inference import annealed
from vae_jax.numerics import log_mean_exp
from vae_jax.objectives.bounds import log_weight

pytest.importorskip("blackjax", reason="pip install 'vae_jax[inference]'")

HMC = {"num_leapfrog": 4, "step_size": 0.35}
CHAINS = 4000


@functools.partial(jax.jit, static_argnums=0, static_argnames=("num_chains", "num_leapfrog", "initial"))
def anneal(latent, params, key, x, **options):
    return annealed.anneal(latent, params, key, x, **options)


def betas(num_temperatures, steepness=4.0):
    return annealed.temperatures(num_temperatures, steepness=steepness)


@pytest.fixture(scope="module")
def x(linear_gaussian):
    return linear_gaussian.data(1)[0]


@pytest.mark.parametrize("initial", ["prior", "posterior"])
def test_the_weights_are_unbiased(linear_gaussian, x, initial, assert_mean):
    latent, params = linear_gaussian.latent, linear_gaussian.wrong
    result = anneal(latent, params, jax.random.key(0), x, betas=betas(8), num_chains=CHAINS, initial=initial, **HMC)
    assert_mean(np.exp(result.log_weights - linear_gaussian.log_prob(x[None])), 1.0)
    assert np.all((result.acceptance > 0.3) & (result.acceptance < 1.0))


def test_a_path_from_the_posterior_has_equal_weights_and_stays_there(linear_gaussian, x, assert_mean):
    """Whatever the temperatures; and HMC leaves the posterior as it is."""
    latent, params = linear_gaussian.latent, linear_gaussian.exact
    result = anneal(latent, params, jax.random.key(1), x, betas=betas(8), num_chains=CHAINS, initial="posterior", **HMC)
    np.testing.assert_allclose(result.log_weights, np.full(CHAINS, linear_gaussian.log_prob(x[None])), atol=1e-4)
    assert_mean(result.z, linear_gaussian.posterior_mean(x[None])[0])
    centred = np.asarray(result.z) - linear_gaussian.posterior_mean(x[None])
    assert_mean(centred[:, :, None] * centred[:, None, :], linear_gaussian.posterior_covariance)


def test_one_temperature_is_importance_sampling_from_the_prior(linear_gaussian, x):
    given = anneal(
        linear_gaussian.latent, linear_gaussian.exact, jax.random.key(2), x, betas=betas(1), num_chains=1, **HMC
    )
    key, _ = jax.random.split(jax.random.key(2))
    z = linear_gaussian.latent.prior({}).sample(jax.random.split(key, 1)[0])
    expected = linear_gaussian.latent.likelihood({}, z).log_prob(x)
    np.testing.assert_allclose(given.log_weights[0], expected, rtol=1e-5)


@pytest.fixture(scope="module")
def sandwiches(linear_gaussian):
    """BDMC of 400 simulated examples with 4 chains each, by the number of temperatures."""

    @jax.jit
    def run(keys, betas):
        latent, params = linear_gaussian.latent, linear_gaussian.exact
        one = lambda key: annealed.sandwich(latent, params, key, betas=betas, num_chains=4, **HMC)  # noqa: E731
        return jax.vmap(one)(keys)

    return {count: run(jax.random.split(jax.random.key(3), 400), betas(count)) for count in (8, 64)}


def test_the_reverse_weights_are_unbiased(linear_gaussian, sandwiches, assert_mean):
    """E[p(x) / w] = 1 where x and its exact posterior draw come from the model."""
    for result in sandwiches.values():
        exact = linear_gaussian.log_prob(result.x)
        assert_mean(np.exp(exact[:, None] - result.backward.log_weights).mean(axis=1), 1.0)
        assert_mean(np.exp(result.forward.log_weights - exact[:, None]).mean(axis=1), 1.0)


def test_the_ladder_of_bounds(linear_gaussian, sandwiches):
    """ELBO ≤ IWAE_5 ≤ IWAE_50 ≤ AIS ≤ log p(x) ≤ reverse AIS, in means over data, within 5 errors of each step."""
    latent, result = linear_gaussian.latent, sandwiches[64]
    params = {"shift": jnp.array([0.8, -0.5]), "stretch": jnp.array(0.5)}  # narrow and beside the posterior

    @jax.jit
    def weights(keys, x):
        return jax.vmap(lambda key, x: jax.vmap(lambda k: log_weight(latent, params, k, x))(key))(keys, x)

    log_w = weights(jax.random.split(jax.random.key(4), (len(result.x), 50)), result.x)
    exact = linear_gaussian.log_prob(result.x)
    ladder = [log_mean_exp(log_w[:, :k], axis=1) for k in (1, 5, 50)] + [result.lower, exact, result.upper]
    steps = np.diff(np.asarray(ladder, np.float64), axis=0)
    mean, error = steps.mean(axis=1), steps.std(axis=1, ddof=1) / np.sqrt(len(exact))
    assert np.all(mean > -5 * error), mean
    assert np.all(mean[:3] > 5 * error[:3]), mean  # q is poor: there is something to gain
    assert mean[3:].sum() < 0.1


def test_more_temperatures_bring_the_bounds_together(sandwiches):
    few, many = sandwiches[8], sandwiches[64]
    np.testing.assert_array_equal(few.x, many.x)  # the data depend on the key alone
    assert np.mean(many.upper - many.lower) < 0.5 * np.mean(few.upper - few.lower)


def test_the_tuned_step_size_is_accepted_two_times_of_three(linear_gaussian, x):
    options = {"betas": betas(200), "num_chains": 50, "num_leapfrog": 4}

    @jax.jit
    def run(start):
        latent, params, key = linear_gaussian.latent, linear_gaussian.exact, jax.random.key(6)
        size = annealed.tuned_step_size(latent, params, key, x, step_size=start, **options)
        return size, annealed.anneal(latent, params, jax.random.fold_in(key, 1), x, step_size=size, **options)

    for start in (0.05, 1.0):
        size, result = run(start)
        assert size.shape == (200,)
        np.testing.assert_allclose(np.mean(result.acceptance[100:]), 0.65, atol=0.1)


def test_temperatures():
    for steepness in (0.0, 4.0):
        line = np.asarray(betas(10, steepness))
        assert line.shape == (11,) and line[0] == 0 and line[-1] == 1 and np.all(np.diff(line) > 0)
    np.testing.assert_allclose(betas(4, 0.0), [0, 0.25, 0.5, 0.75, 1])
    assert betas(10)[1] < 0.1
    with pytest.raises(ValueError, match="num_temperatures must be at least 1, got 0"):
        betas(0)


def test_a_wrong_start_is_named(linear_gaussian, x):
    with pytest.raises(ValueError, match="initial must be 'prior' or 'posterior', got 'encoder'"):
        annealed.anneal(
            linear_gaussian.latent, {}, jax.random.key(0), x, betas=betas(2), num_chains=1, initial="encoder", **HMC
        )


def test_a_code_that_is_not_real_is_refused(linear_gaussian, x):
    latent = linear_gaussian.latent._replace(prior=lambda params, context=None: UniformSphere(2))
    with pytest.raises(ValueError, match="require real z, but the prior, UniformSphere, has the support sphere"):
        annealed.anneal(latent, {}, jax.random.key(0), x, betas=betas(2), num_chains=1, **HMC)


def test_without_blackjax_the_extra_is_named(linear_gaussian, x, monkeypatch):
    monkeypatch.setitem(sys.modules, "blackjax.mcmc", None)
    with pytest.raises(ImportError, match=r"pip install 'vae_jax\[inference\]'"):
        annealed.anneal(linear_gaussian.latent, {}, jax.random.key(0), x, betas=betas(2), num_chains=1, **HMC)
