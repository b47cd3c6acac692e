"""The discretised mixture is a distribution: its mass is one, wherever its parameters lie."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from vae_jax.distributions import DiscretizedLogisticMixture, NormalMixtures
from vae_jax.support import Levels

LEVELS = np.arange(256)


@jax.jit
def table(logits, locs, log_scales):
    """log P(v) of one pixel, [256]."""
    pixel = DiscretizedLogisticMixture(logits, locs, log_scales)
    return jax.vmap(pixel.log_prob)(jnp.arange(256.0))


def one(loc, log_scale):
    return np.asarray(table(jnp.zeros(1), jnp.array([loc]), jnp.array([log_scale])), np.float64)


def exact(loc, log_scale):
    """Differences of the logistic's distribution function; the first and the last bin take the tails."""
    edges = np.concatenate([[-np.inf], (LEVELS[:-1] + 0.5) / 127.5 - 1, [np.inf]])
    return np.diff(scipy.stats.logistic(loc, np.exp(log_scale)).cdf(edges))


@pytest.mark.parametrize("loc", [-1.0, -0.37, 0.0, 0.9])
@pytest.mark.parametrize("log_scale", [-4.0, -2.0, 0.0, 2.0])
def test_mass_is_the_difference_of_distribution_functions(loc, log_scale):
    expected = exact(loc, log_scale)
    fair = expected > 1e-10  # below, float64's own difference is noise
    np.testing.assert_allclose(np.exp(one(loc, log_scale))[fair], expected[fair], rtol=2e-4)


@pytest.mark.parametrize("loc", [-1e4, -30.0, -1.0, -0.5, 0.0021, 1.0, 3.0, 1e4])
@pytest.mark.parametrize("log_scale", [-8.0, -5.0, -1.0, 3.0, 8.0])
def test_mass_sums_to_one(loc, log_scale):
    np.testing.assert_allclose(np.exp(one(loc, log_scale)).sum(), 1.0, rtol=2e-4)


@pytest.mark.parametrize("num_levels", [2, 17])
def test_mass_of_fewer_levels(num_levels):
    edges = np.concatenate([[-np.inf], 2 * (np.arange(num_levels - 1) + 0.5) / (num_levels - 1) - 1, [np.inf]])
    pixel = DiscretizedLogisticMixture(jnp.zeros(1), jnp.array([0.2]), jnp.array([-1.0]), num_levels)
    given = jax.jit(jax.vmap(pixel.log_prob))(jnp.arange(float(num_levels)))
    np.testing.assert_allclose(np.exp(given), np.diff(scipy.stats.logistic(0.2, np.exp(-1.0)).cdf(edges)), rtol=1e-4)
    drawn = jax.jit(jax.vmap(pixel.sample))(jax.random.split(jax.random.key(0), 400))
    assert set(np.unique(drawn)) == set(range(num_levels)) and pixel.support == Levels(num_levels)


def test_tails_belong_to_the_end_bins():
    assert one(-30.0, 0.0)[0] > -1e-6 and one(30.0, 0.0)[255] > -1e-6
    np.testing.assert_allclose(np.exp(one(0.0, 8.0)[[0, 255]]), 0.5, rtol=1e-2)


def test_a_mixture_is_the_weighted_sum():
    logits, locs, log_scales = np.array([0.3, -1.0, 2.0]), np.array([-0.8, 0.1, 0.9]), np.array([-3.0, -2.0, -4.0])
    given = table(*(jnp.asarray(a, jnp.float32) for a in (logits, locs, log_scales)))
    weights = scipy.special.softmax(logits)
    expected = sum(w * np.exp(one(m, s)) for w, m, s in zip(weights, locs, log_scales, strict=True))
    np.testing.assert_allclose(np.exp(given), expected, rtol=1e-4, atol=1e-12)


def test_events_add():
    rng = np.random.default_rng(0)
    image = [jnp.asarray(rng.normal(size=(2, 3, 1, 3)), jnp.float32) for _ in range(3)]
    x = rng.integers(256, size=(2, 3, 1)).astype(np.float32)
    each = [table(*(a[i, j, 0] for a in image))[int(x[i, j, 0])] for i in range(2) for j in range(3)]
    np.testing.assert_allclose(DiscretizedLogisticMixture(*image).log_prob(x), np.sum(each), rtol=1e-5)


def test_samples_have_its_moments(assert_mean):
    parameters = jnp.array([1.0, 0.0, 0.5]), jnp.array([-0.5, 0.6, 0.0]), jnp.array([-3.0, -2.5, -2.0])
    pixel = DiscretizedLogisticMixture(*parameters)
    p = np.exp(np.asarray(table(*parameters), np.float64))
    x = np.asarray(jax.jit(jax.vmap(pixel.sample))(jax.random.split(jax.random.key(0), 4000)))
    assert x.min() >= 0 and x.max() <= 255 and np.all(x == np.round(x))
    assert_mean(x, p @ LEVELS)
    assert_mean((x - p @ LEVELS) ** 2, p @ (LEVELS - p @ LEVELS) ** 2)
    np.testing.assert_allclose(pixel.mean(), p @ LEVELS, atol=0.5)


def test_every_dimension_has_a_mixture_of_its_own(assert_mean):
    rng = np.random.default_rng(0)
    logits, locs, log_scales = (rng.normal(size=(2, 3)) for _ in range(3))
    x, p = rng.normal(size=2), NormalMixtures(*(jnp.asarray(a, jnp.float32) for a in (logits, locs, log_scales)))
    weights = scipy.special.softmax(logits, axis=1)
    density = np.sum(weights * scipy.stats.norm(locs, np.exp(log_scales)).pdf(x[:, None]), axis=1)
    np.testing.assert_allclose(p.log_prob(jnp.asarray(x, jnp.float32)), np.log(density).sum(), rtol=1e-5)
    drawn = jax.jit(jax.vmap(p.sample))(jax.random.split(jax.random.key(0), 4000))
    mean = np.sum(weights * locs, axis=1)
    np.testing.assert_allclose(p.mean(), mean, rtol=1e-5)
    assert_mean(drawn, mean)
    assert_mean(drawn**2, np.sum(weights * (locs**2 + np.exp(2 * log_scales)), axis=1))
    assert_mean((drawn[:, 0] * drawn[:, 1])[:, None], mean[:1] * mean[1:])  # chosen apart
