"""Finite sets against scipy, and by adding up to one."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
import scipy.stats

from vae_jax.distributions import Bernoulli, Categorical, OneHot

RNG = np.random.default_rng(0)
LOGITS = RNG.normal(scale=2.0, size=(2, 2)).astype(np.float32)
FLIPS = Bernoulli(jnp.asarray(LOGITS))
TABLE = RNG.normal(scale=2.0, size=(2, 5)).astype(np.float32)
PIXELS = Categorical(jnp.asarray(TABLE))


def draws(distribution, size):
    return np.asarray(jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), size)))


def test_bernoulli_log_prob():
    for bits in itertools.product([0.0, 1.0], repeat=4):
        x = np.reshape(bits, (2, 2)).astype(np.float32)
        expected = scipy.stats.bernoulli(scipy.special.expit(LOGITS.astype(np.float64))).logpmf(x).sum()
        np.testing.assert_allclose(FLIPS.log_prob(x), expected, rtol=1e-5)


def test_bernoulli_is_exact_where_the_probability_rounds_to_one():
    sure = Bernoulli(jnp.array([100.0, -1e4]))
    np.testing.assert_allclose(sure.log_prob(jnp.array([1.0, 0.0])), 0.0)
    np.testing.assert_allclose(sure.log_prob(jnp.array([0.0, 1.0])), -10_100.0)


def test_bernoulli_samples(assert_mean):
    x = draws(FLIPS, 4000)
    assert x.dtype == np.float32 and set(np.unique(x)) == {0.0, 1.0}
    assert_mean(x.reshape(4000, 4), scipy.special.expit(LOGITS).ravel())
    np.testing.assert_allclose(FLIPS.mean(), scipy.special.expit(LOGITS), rtol=1e-6)


def test_categorical_log_prob():
    log_p = scipy.special.log_softmax(TABLE.astype(np.float64), axis=-1)
    for x in itertools.product(range(5), repeat=2):
        expected = log_p[0, x[0]] + log_p[1, x[1]]
        np.testing.assert_allclose(PIXELS.log_prob(jnp.array(x)), expected, rtol=1e-5)
        np.testing.assert_allclose(PIXELS.log_prob(jnp.array(x, jnp.float32)), expected, rtol=1e-5)


def test_categorical_samples(assert_mean):
    x = draws(PIXELS, 4000)
    p = scipy.special.softmax(TABLE.astype(np.float64), axis=-1)
    for pixel in range(2):
        counts = np.bincount(x[:, pixel], minlength=5)
        assert scipy.stats.chisquare(counts, 4000 * p[pixel]).pvalue > 1e-5
    np.testing.assert_allclose(PIXELS.mean(), p @ np.arange(5), rtol=1e-5)
    assert_mean(x, p @ np.arange(5))


def test_one_hot_is_categorical_as_indicators(assert_mean):
    hot = OneHot(PIXELS.logits)
    for x in itertools.product(range(5), repeat=2):
        indicators = jax.nn.one_hot(jnp.array(x), 5)
        np.testing.assert_allclose(hot.log_prob(indicators), PIXELS.log_prob(jnp.array(x)), rtol=1e-5)
    x = draws(hot, 4000)
    assert set(np.unique(x)) == {0.0, 1.0} and np.all(x.sum(axis=-1) == 1)
    np.testing.assert_array_equal(x.argmax(axis=-1), draws(PIXELS, 4000))
    assert_mean(x.reshape(4000, -1), np.ravel(hot.mean()))
