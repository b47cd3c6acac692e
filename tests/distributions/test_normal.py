"""Gaussians against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.distributions import LowRankNormal, MultivariateNormal, Normal

RNG = np.random.default_rng(0)
LOC, LOG_SCALE = RNG.normal(size=(2, 3)).astype(np.float32), RNG.normal(size=(2, 3)).astype(np.float32)
TRIL = np.array([[1.5, 0.0, 0.0], [-0.7, 0.4, 0.0], [0.2, 1.1, 0.8]], np.float32)
DIAGONAL = Normal(jnp.asarray(LOC), jnp.asarray(LOG_SCALE))
FULL = MultivariateNormal(jnp.asarray(LOC[0]), jnp.asarray(TRIL))

FACTOR = np.array([[1.5, 0.2], [-0.7, 0.4], [0.2, -1.1]], np.float32)
LOW_RANK = LowRankNormal(jnp.asarray(LOC[0]), jnp.asarray(LOG_SCALE[0]), jnp.asarray(FACTOR))
LOW_RANK_COVARIANCE = np.diag(np.exp(2.0 * LOG_SCALE[0].astype(np.float64))) + FACTOR.astype(np.float64) @ FACTOR.T


def draws(distribution, size, seed=0):
    return np.asarray(jax.vmap(distribution.sample)(jax.random.split(jax.random.key(seed), size)), np.float64)


def test_normal_log_prob():
    x = RNG.normal(size=(2, 3)).astype(np.float32)
    expected = scipy.stats.norm(LOC, np.exp(LOG_SCALE)).logpdf(x).sum()
    np.testing.assert_allclose(DIAGONAL.log_prob(x), expected, rtol=1e-5)


def test_normal_samples_are_normal():
    standard = (draws(DIAGONAL, 4000) - LOC) / np.exp(LOG_SCALE)
    assert scipy.stats.kstest(standard.ravel(), "norm").pvalue > 1e-5
    correlation = np.corrcoef(standard.reshape(4000, 6).T)
    assert np.abs(correlation - np.eye(6)).max() < 5 / np.sqrt(4000)


def test_normal_samples_are_reparameterised():
    draw = lambda loc, log_scale: Normal(loc, log_scale).sample(jax.random.key(0))  # noqa: E731
    slope = jax.jacobian(draw)(DIAGONAL.loc, DIAGONAL.log_scale)
    np.testing.assert_allclose(slope.reshape(6, 6), np.eye(6), atol=1e-6)
    slope = jax.jacobian(draw, 1)(DIAGONAL.loc, DIAGONAL.log_scale)
    epsilon_scale = np.ravel(DIAGONAL.sample(jax.random.key(0)) - LOC)
    np.testing.assert_allclose(slope.reshape(6, 6), np.diag(epsilon_scale), rtol=1e-4, atol=1e-5)


def test_standard():
    x = jnp.array([0.3, -2.0])
    np.testing.assert_allclose(Normal.standard((2,)).log_prob(x), scipy.stats.norm.logpdf(x).sum(), rtol=1e-6)


def test_multivariate_log_prob():
    x = RNG.normal(size=3).astype(np.float32)
    expected = scipy.stats.multivariate_normal(LOC[0], TRIL @ TRIL.T).logpdf(x)
    np.testing.assert_allclose(FULL.log_prob(x), expected, rtol=1e-4)


def test_multivariate_samples_have_its_mean_and_covariance(assert_mean):
    centred = draws(FULL, 4000) - LOC[0]
    assert_mean(centred, 0.0)
    assert_mean((centred[:, :, None] * centred[:, None, :]).reshape(4000, 9), (TRIL @ TRIL.T).ravel())


def test_low_rank_log_prob():
    x = 3.0 * RNG.normal(size=(20, 3)).astype(np.float32)
    expected = scipy.stats.multivariate_normal(LOC[0], LOW_RANK_COVARIANCE).logpdf(x)
    np.testing.assert_allclose(jax.vmap(LOW_RANK.log_prob)(x), expected, rtol=1e-4)


def test_low_rank_samples_have_its_mean_and_covariance(assert_mean):
    centred = draws(LOW_RANK, 4000) - LOC[0]
    assert_mean(centred, 0.0)
    assert_mean((centred[:, :, None] * centred[:, None, :]).reshape(4000, 9), LOW_RANK_COVARIANCE.ravel())


def test_a_long_factor_costs_no_precision():
    """The factor 300 times the diagonal: the exponent is the difference of squares near 10⁵, and is not taken so."""
    long = LOW_RANK.replace(log_scale=jnp.zeros(3), factor=300.0 * LOW_RANK.factor)
    normal = scipy.stats.multivariate_normal(LOC[0], np.eye(3) + 9e4 * FACTOR.astype(np.float64) @ FACTOR.T)
    for seed in range(5):
        x, log_prob = long.sample_and_log_prob(jax.random.key(seed))
        np.testing.assert_allclose(log_prob, normal.logpdf(np.asarray(x, np.float64)), atol=2e-2)
        np.testing.assert_allclose(long.log_prob(x), log_prob, atol=2e-2)


@pytest.mark.parametrize("distribution", [DIAGONAL, FULL, LOW_RANK])
def test_a_draw_knows_its_density(distribution):
    x, log_prob = distribution.sample_and_log_prob(jax.random.key(0))
    np.testing.assert_allclose(x, distribution.sample(jax.random.key(0)))
    np.testing.assert_allclose(log_prob, distribution.log_prob(x), rtol=1e-5)
    far = distribution.replace(loc=distribution.loc + 1e6)  # where x - loc has lost what the noise was
    np.testing.assert_allclose(far.sample_and_log_prob(jax.random.key(0))[1], log_prob, rtol=1e-6)


def test_means():
    np.testing.assert_array_equal(DIAGONAL.mean(), LOC)
    np.testing.assert_array_equal(FULL.mean(), LOC[0])
