"""Counts against scipy and the formulas of scvi-tools, by adding up to one, and by their draws."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from vae_jax.distributions import NegativeBinomial, Poisson, ZeroInflated
from vae_jax.distributions.counts import stirling_error

X = np.concatenate([np.arange(60), [100, 255, 3000, 60_000]]).astype(np.float32)
LOG_MEANS, LOG_THETAS, LOGITS = (-6.0, 0.0, 2.5, 9.0), (-7.0, 0.0, 4.0, 8.0), (-3.0, 0.0, 4.0)
GRID = [np.array(v, np.float32) for v in zip(*itertools.product(LOG_MEANS, LOG_THETAS, LOGITS), strict=True)]


@jax.jit
def each(x, log_mean, log_theta, logits):
    """log p of every family at every x, [N] each."""
    full = lambda v: jnp.broadcast_to(v, x.shape)  # noqa: E731
    poisson, nb = Poisson(full(log_mean)), NegativeBinomial(full(log_mean), full(log_theta))
    inflated = [ZeroInflated(full(logits), base) for base in (poisson, nb)]
    return [distribution.log_probs(x) for distribution in (poisson, nb, *inflated)]


@pytest.fixture(scope="module")
def found():
    return np.asarray(jax.vmap(each, (None, 0, 0, 0))(X, *GRID), np.float64)  # [family, parameters, x]


def expected():
    """The same in float64: scipy's mass functions, and their mixtures with a point at 0."""
    mean, theta, logits = (v.astype(np.float64)[:, None] for v in (np.exp(GRID[0]), np.exp(GRID[1]), GRID[2]))
    x = X.astype(np.float64)[None]
    poisson, nb = scipy.stats.poisson(mean).logpmf(x), scipy.stats.nbinom(theta, theta / (theta + mean)).logpmf(x)

    def inflated(log_p):
        return np.logaddexp(
            np.where(x == 0, scipy.special.log_expit(logits), -np.inf), scipy.special.log_expit(-logits) + log_p
        )

    return np.stack([np.broadcast_to(p, (len(mean), len(X))) for p in (poisson, nb, inflated(poisson), inflated(nb))])


def test_mass_functions_are_those_of_scipy(found):
    np.testing.assert_allclose(found, expected(), rtol=2e-5, atol=2e-5)


def log_nb_positive(x, mu, theta, eps=1e-8):
    """The negative binomial as arXiv:1709.02082 and scvi-tools write it, in float64."""
    log_theta_mu_eps = np.log(theta + mu + eps)
    return (
        theta * (np.log(theta + eps) - log_theta_mu_eps)
        + x * (np.log(mu + eps) - log_theta_mu_eps)
        + scipy.special.gammaln(x + theta)
        - scipy.special.gammaln(theta)
        - scipy.special.gammaln(x + 1)
    )


def log_zinb_positive(x, mu, theta, pi, eps=1e-8):
    """The same with additional zeros of the log-odds π, in float64."""
    softplus = lambda v: np.logaddexp(0.0, v)  # noqa: E731
    log_ratio = np.log(theta + eps) - np.log(theta + mu + eps)
    zero = softplus(-pi + theta * log_ratio) - softplus(-pi)
    rest = -softplus(-pi) - pi + log_nb_positive(x, mu, theta, eps)
    return np.where(x < eps, zero, rest)


def test_negative_binomials_are_those_of_scvi_tools():
    rng = np.random.default_rng(0)
    log_mean, log_theta, logits = (rng.normal(size=(50, 200)).astype(np.float32) * s for s in (1.5, 1.0, 2.0))
    theta, mean = (np.exp(v.astype(np.float64)) for v in (log_theta, log_mean))
    x = rng.poisson(rng.gamma(theta, mean / theta)).astype(np.float32)
    nb = NegativeBinomial(jnp.asarray(log_mean), jnp.asarray(log_theta))
    np.testing.assert_allclose(nb.log_probs(x), log_nb_positive(x, mean, theta), rtol=1e-5, atol=1e-5)
    zinb = ZeroInflated(jnp.asarray(logits), nb)
    published = log_zinb_positive(x, mean, theta, logits.astype(np.float64))
    np.testing.assert_allclose(zinb.log_probs(x), published, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(zinb.log_prob(x), published.sum(), rtol=1e-5)


def test_masses_add_up_to_one():
    x = np.arange(3000, dtype=np.float32)
    for log_mean, log_theta, logits in ((0.0, 0.0, 1.0), (3.0, 1.0, -2.0), (-2.0, -1.0, 0.0)):
        for log_p in each(x, log_mean, log_theta, logits):
            assert abs(np.exp(np.asarray(log_p, np.float64)).sum() - 1.0) < 1e-4


def test_a_large_inverse_dispersion_is_a_poisson(found):
    nearly = NegativeBinomial(jnp.full(60, 1.0), jnp.full(60, 15.0)).log_probs(X[:60])
    np.testing.assert_allclose(nearly, Poisson(jnp.full(60, 1.0)).log_probs(X[:60]), atol=2e-3)


def test_draws_have_the_moments(assert_mean):
    log_mean, log_theta, logits = jnp.array([-1.0, 2.0]), jnp.array([0.5, 1.5]), jnp.array([0.3, -1.0])
    mean, theta, kept = np.exp(log_mean), np.exp(log_theta), scipy.special.expit(-np.asarray(logits))
    nb = NegativeBinomial(log_mean, log_theta)
    square = mean + mean**2 / theta + mean**2
    for seed, (distribution, first, second) in enumerate(
        (
            (Poisson(log_mean), mean, mean + mean**2),
            (nb, mean, square),
            (ZeroInflated(logits, nb), kept * mean, kept * square),
        )
    ):
        x = np.asarray(jax.jit(jax.vmap(distribution.sample))(jax.random.split(jax.random.key(seed), 4000)))
        assert x.dtype == np.float32 and np.all(x == np.round(x)) and x.min() == 0
        assert_mean(x, first)
        assert_mean(x**2, second)
        np.testing.assert_allclose(distribution.mean(), first, rtol=1e-5)


def test_keys_of_every_kind_draw():
    draw = Poisson(jnp.full(50, 1.0)).sample(jax.random.key(0, impl="rbg"))
    assert 0 < np.mean(draw) < 10


def test_the_rest_of_stirlings_formula():
    x = np.array([1e-3, 0.5, 1.0, 7.9, 8.1, 1e3, 1e6], np.float32)
    v = x.astype(np.float64)
    exact = scipy.special.gammaln(v + 1) - (v + 0.5) * np.log(v) + v - 0.5 * np.log(2 * np.pi)
    np.testing.assert_allclose(stirling_error(jnp.asarray(x)), exact, rtol=1e-3, atol=3e-6)
