"""The tail of importance weights, where it is known."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vae_jax.inference import psis

smooth, fit_tail = jax.jit(jax.vmap(psis.smooth)), jax.jit(jax.vmap(psis.fit_tail))
one = jax.jit(psis.smooth)


def published(log_weights):
    """Normalised log-weights and k̂ by the formulas of arXiv:1507.02646 and Zhang and Stephens (2009), in extended
    precision, whose exponents reach e^±11356. With the tail of arviz and of R's loo.
    """
    x = np.asarray(log_weights, np.longdouble) - np.max(log_weights)
    order = np.argsort(x, kind="stable")
    num_tail = math.ceil(min(len(x) / 5, 3 * math.sqrt(len(x))))
    cutoff, tail = x[order[-num_tail - 1]], order[-num_tail:]
    tail = tail[x[tail] > cutoff]
    size, shape = len(tail), np.inf
    if size > 4:
        y = np.exp(x[tail]) - np.exp(cutoff)
        num = 30 + int(math.sqrt(size))
        half = np.arange(1, num + 1) - np.longdouble(0.5)
        theta = 1 / y[-1] + (1 - np.sqrt(num / half)) / (3 * y[int(size / 4 + 0.5) - 1])
        k = np.log1p(-theta[:, None] * y).mean(axis=1)
        profile = size * (np.log(-theta / k) - k - 1)
        weights = np.exp(profile - profile.max())
        best = np.sum(theta * weights) / np.sum(weights)
        k = np.log1p(-best * y).mean()
        scale, shape = -k / best, (size * k + 5) / (size + 10)
        probability = (np.arange(size) + np.longdouble(0.5)) / size
        quantile = scale * np.expm1(-shape * np.log1p(-probability)) / shape
        x[tail] = np.minimum(np.log(quantile + np.exp(cutoff)), 0)
    return (x - np.log(np.sum(np.exp(x)))).astype(np.float64), float(shape)


def odd_weights():
    """{name: log-weights [100]}: ties, underflow, zeros among the weights, and ranges of up to 10,000 nats."""
    rng = np.random.default_rng(5)
    with np.errstate(divide="ignore"):
        some, few = (np.log(rng.uniform(size=100) < share) for share in (0.6, 0.03))
    cases = {
        "one dominates": np.where(np.arange(100) == 3, 5.0, 0.0),
        "four dominate": np.where(np.arange(100) < 4, 300.0, 0.0),
        "five dominate": np.where(np.arange(100) < 5, 300.0 + np.arange(100), 0.0),
        "tied tail": np.where(np.arange(100) < 10, 3.0 + np.arange(100) % 3, 0.0),
        "tied body": np.maximum(rng.normal(size=100), 0.0),
        "most are zero": np.where(rng.uniform(size=100) < 0.9, -np.inf, rng.normal(size=100)),
        "some are zero": rng.normal(size=100) + some,
        "few are not zero": rng.normal(size=100) + few,
        "all but one are zero": np.where(np.arange(100) == 3, 5.0, -np.inf),
        "even in logarithms": np.linspace(-1e4, 0.0, 100),
        "far below": rng.normal(size=100) - 1e4,
        "tiny differences": 0.01 * rng.normal(size=100),
    }
    return cases | {f"deviation {s:g}": s * rng.normal(size=100) for s in (0.1, 1, 10, 30, 100, 1000, 3000)}


@pytest.mark.parametrize("name", odd_weights())
def test_it_is_the_published_algorithm_whatever_the_weights(name):
    log_w = np.asarray(odd_weights()[name], np.float32)
    expected, shape = published(log_w)
    given = one(log_w)
    weights = np.asarray(given.log_weights, np.float64)
    normalised = weights - np.logaddexp.reduce(weights)
    np.testing.assert_allclose(np.exp(normalised).sum(), 1.0, rtol=1e-9)
    np.testing.assert_array_equal(np.isneginf(normalised), np.isneginf(log_w))
    finite = np.isfinite(log_w)
    scale = max(1.0, np.abs(log_w[finite]).max(), np.ptp(log_w[finite]))
    np.testing.assert_allclose(np.sort(normalised[finite]), np.sort(expected[finite]), atol=1e-5 * scale)
    np.testing.assert_allclose(given.shape, shape, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("size", [25, 26, 101, 226])
def test_the_tail_is_rounded_up(size):
    log_w = np.asarray(np.random.default_rng(size).normal(size=size), np.float32)
    np.testing.assert_allclose(one(log_w).shape, published(log_w)[1], atol=1e-4)


@pytest.mark.parametrize("value", [0.0, -1e4, 1e4, -np.inf])
def test_constant_weights_stay_as_they_are(value):
    log_w = jnp.full(100, value)
    given = one(log_w)
    np.testing.assert_array_equal(given.log_weights, log_w)
    assert given.shape == (-np.inf if np.isfinite(value) else np.inf)  # all weights 0: not to be trusted


@settings(max_examples=60, deadline=None)
@for_all(
    arrays(
        np.float32,
        100,
        elements=st.one_of(
            st.floats(-1e4, 1e4, width=32, allow_subnormal=False),
            st.sampled_from([np.float32(v) for v in (-1e4, -1, 0, 1e-3, 5, 1e4)]),
        ),
    )
)
def test_any_finite_weights_are_smoothed_to_finite_ones(log_w):
    given = one(log_w)
    weights = np.asarray(given.log_weights)
    assert np.isfinite(weights).all() and not np.isnan(given.shape)
    assert weights.max() <= log_w.max()
    order = np.argsort(log_w, kind="stable")
    assert np.all(np.diff(weights[order]) >= -2e-3)  # float32 at 1e4


@pytest.mark.parametrize("shape", [-0.2, 0.3, 0.7, 1.2])
def test_the_shape_of_a_pareto_tail(shape, assert_mean):
    """The estimate is nearly unbiased but for the prior worth ten draws of ½."""
    draws = scipy.stats.genpareto(shape, scale=2.0).rvs((200, 1000), random_state=np.random.default_rng(0))
    shapes, scales = fit_tail(jnp.sort(jnp.asarray(draws, jnp.float32), axis=1))
    np.testing.assert_allclose(np.mean(shapes), (1000 * shape + 5) / 1010, atol=0.03)
    np.testing.assert_allclose(np.mean(scales), 2.0, rtol=0.05)


def test_a_narrow_q_has_the_tail_that_theory_gives_it():
    """q = N(0, s²) for N(0, 1), s < 1: the weights exp(½ z² (1/s² - 1)) have P(w > t) ~ t^(-1/k), k = 1 - s²."""
    z = np.random.default_rng(1).normal(size=(100, 20_000))
    for scale, low, high in ((0.4, 0.7, 0.95), (0.9, -0.1, 0.4)):
        log_w = scipy.stats.norm.logpdf(scale * z) - scipy.stats.norm.logpdf(scale * z, scale=scale)
        shapes = smooth(jnp.asarray(log_w, jnp.float32)).shape
        assert low < np.mean(shapes) < high, (scale, np.mean(shapes))


def test_agrees_with_blackjax():
    diagnostics = pytest.importorskip("blackjax.diagnostics")
    log_w = jnp.asarray(np.random.default_rng(2).standard_t(3, size=2500), jnp.float32)  # it takes the floor of 3 √K
    given = one(log_w)
    with jax.numpy_rank_promotion("allow"):
        expected, shape = diagnostics.psis_weights(log_w)
    np.testing.assert_allclose(given.shape, shape, atol=0.02)
    np.testing.assert_allclose(jax.nn.log_softmax(given.log_weights), expected, atol=0.05)


def test_smoothing_keeps_the_order_and_what_is_not_tail():
    log_w = jnp.asarray(np.random.default_rng(3).normal(size=1000), jnp.float32)
    given = np.asarray(one(log_w).log_weights)
    order = np.argsort(log_w)
    assert np.all(np.diff(given[order]) >= 0) and given.max() <= np.max(log_w)
    body = order[: -math.ceil(3 * np.sqrt(1000))]
    np.testing.assert_allclose(given[body], log_w[body], atol=1e-6)


def test_equal_weights_have_no_tail():
    log_w = jnp.full(100, -30.0)
    given = one(log_w)
    assert given.shape == -np.inf
    np.testing.assert_array_equal(given.log_weights, log_w)


def test_too_few_weights_are_refused():
    with pytest.raises(ValueError, match="at least 25 weights, got 24"):
        psis.smooth(jnp.zeros(24))
