"""Closed forms against quadrature, samples, enumeration and each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats

from vae_jax.distributions import (
    Bernoulli,
    Categorical,
    LowRankNormal,
    MultivariateNormal,
    Normal,
    OneHot,
    has_closed_form,
    kl_divergence,
    kl_per_dim,
)
from vae_jax.distributions.kl import kl_normal_normal_per_dim


def array(seed, *shape, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(scale=scale, size=shape), jnp.float32)


def tril(seed, dim):
    return jnp.tril(array(seed, dim, dim), -1) + jnp.diag(jnp.exp(array(seed + 1, dim, scale=0.5)))


def low_rank(seed):
    return LowRankNormal(array(seed, 3), array(seed + 1, 3, scale=0.5), array(seed + 2, 3, 2))


PAIRS = {
    "diagonal": (Normal(array(0, 3), array(1, 3, scale=0.5)), Normal(array(2, 3), array(3, 3, scale=0.5))),
    "full": (MultivariateNormal(array(4, 3), tril(5, 3)), MultivariateNormal(array(7, 3), tril(8, 3))),
    "diagonal in full": (Normal(array(0, 3), array(1, 3, scale=0.5)), MultivariateNormal(array(7, 3), tril(8, 3))),
    "full in diagonal": (MultivariateNormal(array(7, 3), tril(8, 3)), Normal.standard((3,))),
    "low rank in diagonal": (low_rank(10), Normal(array(2, 3), array(3, 3, scale=0.5))),
    "low rank in low rank": (low_rank(10), low_rank(14)),
    "diagonal in low rank": (Normal(array(0, 3), array(1, 3, scale=0.5)), low_rank(14)),
    "bits": (Bernoulli(array(0, 2, 3)), Bernoulli(array(1, 2, 3))),
    "levels": (Categorical(array(0, 2, 5)), Categorical(array(1, 2, 5))),
    "indicators": (OneHot(array(0, 2, 5)), OneHot(array(1, 2, 5))),
}


@pytest.mark.parametrize("name", PAIRS)
def test_kl_is_the_mean_log_ratio(name, assert_mean):
    q, p = PAIRS[name]

    def log_ratio(key):
        x = q.sample(key)
        return q.log_prob(x) - p.log_prob(x)

    assert has_closed_form(q, p)
    assert_mean(jax.vmap(log_ratio)(jax.random.split(jax.random.key(0), 4000)), kl_divergence(q, p))


@pytest.mark.parametrize("name", PAIRS)
def test_kl_is_positive_and_zero_only_between_equals(name):
    q, p = PAIRS[name]
    assert kl_divergence(q, p) > 0.01 and kl_divergence(p, q) > 0.01
    np.testing.assert_allclose([kl_divergence(q, q), kl_divergence(p, p)], 0.0, atol=1e-6)


def test_kl_of_each_dimension_by_quadrature():
    q, p = PAIRS["diagonal"]
    for d, given in enumerate(kl_normal_normal_per_dim(q, p)):
        q_d, p_d = (scipy.stats.norm(float(a.loc[d]), np.exp(float(a.log_scale[d]))) for a in (q, p))
        expected, _ = scipy.integrate.quad(lambda x, q=q_d, p=p_d: q.pdf(x) * (q.logpdf(x) - p.logpdf(x)), -12, 12)
        np.testing.assert_allclose(given, expected, rtol=1e-4)


@pytest.mark.parametrize("name, shape", [("diagonal", (3,)), ("bits", (2, 3)), ("levels", (2,)), ("indicators", (2,))])
def test_the_kl_is_the_sum_over_dimensions(name, shape):
    given = kl_per_dim(*PAIRS[name])
    assert given.shape == shape and np.all(given > 0)
    np.testing.assert_allclose(jnp.sum(given), kl_divergence(*PAIRS[name]), rtol=1e-5)


def test_a_kl_that_does_not_split_is_refused():
    with pytest.raises(TypeError, match=r"KL\(MultivariateNormal \|\| Normal\) does not split by dimension"):
        kl_per_dim(*PAIRS["full in diagonal"])


def test_the_diagonal_rule_is_a_case_of_the_full_one():
    q, p = PAIRS["diagonal"]
    full_q, full_p = (MultivariateNormal(a.loc, jnp.diag(jnp.exp(a.log_scale))) for a in (q, p))
    expected = kl_divergence(q, p)
    for pair in ((full_q, full_p), (full_q, p), (q, full_p)):
        np.testing.assert_allclose(kl_divergence(*pair), expected, rtol=1e-5)


def test_the_low_rank_rule_is_a_case_of_the_full_one():
    q, p = PAIRS["low rank in diagonal"]
    covariance = jnp.diag(jnp.exp(2.0 * q.log_scale)) + q.factor @ q.factor.T
    full = MultivariateNormal(q.loc, jnp.linalg.cholesky(covariance))
    np.testing.assert_allclose(kl_divergence(q, p), kl_divergence(full, p), rtol=1e-5)


@pytest.mark.parametrize("kind", [Bernoulli, Categorical])
def test_kl_is_finite_at_far_logits(kind):
    far = [jnp.array([-1e4, 1e4]), jnp.array([1e4, -1e4])]
    for a in far:
        for b in far:
            value, gradient = jax.value_and_grad(lambda a, b: kl_divergence(kind(a), kind(b)), (0, 1))(a, b)
            assert np.isfinite(value) and all(np.isfinite(g).all() for g in gradient)
            np.testing.assert_allclose(value, 0.0 if a is b else 2e4, rtol=1e-6)


def test_unknown_pairs_are_refused_by_name():
    q, p = PAIRS["bits"][0], Normal.standard((3,))
    assert not has_closed_form(q, p)
    with pytest.raises(TypeError, match=r"KL\(Bernoulli \|\| Normal\); use objective 'elbo_sampled_kl'"):
        kl_divergence(q, p)
