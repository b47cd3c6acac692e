"""The tail of importance weights, where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.inference import psis

smooth, fit_tail = jax.jit(jax.vmap(psis.smooth)), jax.jit(jax.vmap(psis.fit_tail))


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
    log_w = jnp.asarray(np.random.default_rng(2).standard_t(3, size=2000), jnp.float32)
    given = psis.smooth(log_w)
    with jax.numpy_rank_promotion("allow"):
        expected, shape = diagnostics.psis_weights(log_w)
    np.testing.assert_allclose(given.shape, shape, atol=0.02)
    np.testing.assert_allclose(jax.nn.log_softmax(given.log_weights), expected, atol=0.05)


def test_smoothing_keeps_the_order_and_what_is_not_tail():
    log_w = jnp.asarray(np.random.default_rng(3).normal(size=1000), jnp.float32)
    given = np.asarray(psis.smooth(log_w).log_weights)
    order = np.argsort(log_w)
    assert np.all(np.diff(given[order]) >= 0) and given.max() <= np.max(log_w)
    body = order[: -int(3 * np.sqrt(1000))]
    np.testing.assert_allclose(given[body], log_w[body], atol=1e-6)


def test_equal_weights_have_no_tail():
    log_w = jnp.full(100, -30.0)
    given = psis.smooth(log_w)
    assert given.shape == -np.inf
    np.testing.assert_array_equal(given.log_weights, log_w)


def test_too_few_weights_are_refused():
    with pytest.raises(ValueError, match="at least 25 weights, got 24"):
        psis.smooth(jnp.zeros(24))
