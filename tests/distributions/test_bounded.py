"""Continuous Bernoulli, beta and Student's t against scipy, by quadrature, and by their draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.distributions import Beta, ContinuousBernoulli, StudentT

UNIT = np.linspace(0.0, 1.0, 20_001)
LOGITS = np.array([-40.0, -3.0, -0.51, -0.49, -1e-3, 0.0, 1e-4, 0.2, 0.6, 8.0], np.float32)


def test_continuous_bernoulli_is_a_density_with_its_mean():
    bits = ContinuousBernoulli(jnp.asarray(LOGITS)[:, None])
    p = np.exp(np.asarray(bits.log_probs(jnp.asarray(UNIT, jnp.float32)[None]), np.float64))
    np.testing.assert_allclose(np.trapezoid(p, UNIT), 1.0, atol=1e-5)
    np.testing.assert_allclose(np.trapezoid(p * UNIT, UNIT), np.ravel(bits.mean()), atol=1e-5)


def test_continuous_bernoulli_is_the_paper_s():
    """C(λ) = 2 atanh(1 - 2λ) / (1 - 2λ), arXiv:1907.06845 eq. (7), away from ½, and 2 at ½."""
    l = LOGITS[np.abs(LOGITS) > 0.1].astype(np.float64)  # noqa: E741
    rate, x = 1 / (1 + np.exp(-l)), 0.3
    constant = -l / (1 - 2 * rate)
    expected = x * np.log(rate) + (1 - x) * np.log1p(-rate) + np.log(constant)
    found = ContinuousBernoulli(jnp.asarray(l, jnp.float32)).log_probs(jnp.full(l.shape, x))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(ContinuousBernoulli(jnp.zeros(1)).log_prob(jnp.full(1, x)), 0.0, atol=1e-6)
    gradient = jax.grad(lambda l: ContinuousBernoulli(l).log_prob(jnp.full(1, x)))(jnp.zeros(1))  # noqa: E741
    np.testing.assert_allclose(gradient, x - 0.5, atol=1e-6)


def test_beta_is_scipy_s():
    log_a, log_b = np.array([-3.0, 0.0, 2.0, 5.0], np.float32), np.array([-1.0, 0.0, 1.0, 4.0], np.float32)
    x = np.linspace(0.01, 0.99, 50).astype(np.float32)[:, None]
    expected = scipy.stats.beta(np.exp(log_a.astype(float)), np.exp(log_b.astype(float))).logpdf(x)
    found = Beta(jnp.asarray(log_a)[None], jnp.asarray(log_b)[None]).log_probs(jnp.asarray(x))
    np.testing.assert_allclose(found, expected, rtol=3e-4, atol=3e-4)


def test_student_is_scipy_s():
    loc, log_scale, df = np.array([0.0, -1.0, 5.0]), np.array([0.0, 1.0, -2.0]), np.array([1.1, 4.0, 50.0])
    x = np.linspace(-20, 20, 41)[:, None]
    expected = scipy.stats.t(df, loc, np.exp(log_scale)).logpdf(x)
    t = StudentT(*(jnp.asarray(v, jnp.float32)[None] for v in (loc, log_scale, df)))
    np.testing.assert_allclose(t.log_probs(jnp.asarray(x, jnp.float32)), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("distribution", "same"),
    [
        (ContinuousBernoulli(jnp.array([-4.0, 0.0, 0.7])), None),
        (Beta(jnp.array([0.0, 1.0, -1.0]), jnp.array([1.0, 2.0, -1.0])), scipy.stats.beta),
        (
            StudentT(jnp.array([1.0, 0.0, -2.0]), jnp.array([0.0, 0.5, -1.0]), jnp.array([5.0, 9.0, 30.0])),
            scipy.stats.t,
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_draws_have_their_distribution(distribution, same, assert_mean):
    x = np.asarray(jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), 4000)))
    assert_mean(x, np.asarray(distribution.mean()))
    for d in range(3):
        if same is None:
            logit = float(distribution.logits[d])
            cdf = lambda v, logit=logit: v if logit == 0 else np.expm1(logit * v) / np.expm1(logit)  # noqa: E731
        elif same is scipy.stats.beta:
            cdf = same(*(np.exp(float(v[d])) for v in (distribution.log_a, distribution.log_b))).cdf
        else:
            cdf = same(*(float(v[d]) for v in (distribution.df, distribution.loc, jnp.exp(distribution.log_scale)))).cdf
        assert scipy.stats.kstest(x[:, d], cdf).pvalue > 1e-5
