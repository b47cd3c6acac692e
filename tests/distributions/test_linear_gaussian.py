"""p(x|y) of Gaussians and mixtures in closed form, against Bayes' rule with dense matrices and against rejection."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.distributions import (
    Bernoulli,
    LowRankNormal,
    Mixture,
    MultivariateNormal,
    Normal,
    given_linear,
)

RNG = np.random.default_rng(0)
FACTOR = jnp.asarray(RNG.normal(size=(4, 4)), jnp.float32)
LOC, LOG_SCALE = jnp.asarray(RNG.normal(size=4), jnp.float32), jnp.array([0.1, -0.3, 0.2, 0.0])
KINDS = {
    "diagonal": (Normal(LOC, LOG_SCALE), jnp.diag(jnp.exp(2 * LOG_SCALE))),
    "low rank": (
        LowRankNormal(LOC, LOG_SCALE, FACTOR[:, :2]),
        jnp.diag(jnp.exp(2 * LOG_SCALE)) + FACTOR[:, :2] @ FACTOR[:, :2].T,
    ),
    "full": (MultivariateNormal(LOC, jnp.linalg.cholesky(FACTOR @ FACTOR.T)), FACTOR @ FACTOR.T),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scale", [(0.5, 0.2), (0.0, 0.0)], ids=["noisy", "exact"])
def test_against_dense_matrices(kind, scale):
    base, covariance = KINDS[kind]
    matrix, y = jnp.array([[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0]]), jnp.array([0.3, -0.4])
    if all(scale):
        matrix = matrix + 0.3
    scale = jnp.array(scale)
    posterior, log_evidence = given_linear(base, matrix, y, scale)
    m, c, f, noise, y = (np.asarray(a, np.float64) for a in (LOC, covariance, matrix, jnp.diag(scale**2), y))
    marginal = f @ c @ f.T + noise
    gain = c @ f.T @ np.linalg.inv(marginal)
    mean, left = m + gain @ (y - f @ m), c - gain @ f @ c
    np.testing.assert_allclose(posterior.mean(), mean, atol=2e-5)
    np.testing.assert_allclose(posterior.variance(), np.diag(left), atol=2e-5)
    expected = scipy.stats.multivariate_normal(f @ m, marginal).logpdf(y)
    np.testing.assert_allclose(log_evidence, expected, rtol=1e-4)
    draws = np.asarray(jax.vmap(posterior.sample)(jax.random.split(jax.random.key(0), 20_000)))
    np.testing.assert_allclose(draws.mean(0), mean, atol=0.05)
    np.testing.assert_allclose(np.cov(draws.T), left, atol=0.12)
    x = draws[0]
    if all(scale):
        np.testing.assert_allclose(
            posterior.log_prob(x), scipy.stats.multivariate_normal(mean, left).logpdf(x), rtol=1e-3
        )
    else:  # the density of the entries that are not given
        free = [1, 3]
        np.testing.assert_allclose(draws[:, [0, 2]], np.broadcast_to(y, (20_000, 2)), atol=1e-4)
        np.testing.assert_allclose(
            posterior.log_prob(x),
            scipy.stats.multivariate_normal(mean[free], left[np.ix_(free, free)]).logpdf(x[np.array(free)]),
            rtol=1e-3,
        )


def test_a_mixture_against_a_grid():
    """Two components in the plane, one noisy sum of both coordinates: mean and evidence by quadrature."""
    parts = MultivariateNormal(
        jnp.array([[-1.0, 0.5], [1.5, 0.0]]), jnp.stack([0.5 * jnp.eye(2), jnp.array([[0.6, 0.0], [0.4, 0.3]])])
    )
    p = Mixture(jnp.log(jnp.array([0.3, 0.7])), parts)
    matrix, y, scale = jnp.array([[1.0, 1.0]]), jnp.array([0.4]), jnp.array([0.3])
    posterior, log_evidence = given_linear(p, matrix, y, scale)
    line = np.linspace(-6, 6, 401)
    points = jnp.asarray(np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2), jnp.float32)
    log_joint = jax.vmap(p.log_prob)(points) + scipy.stats.norm(points.sum(1), 0.3).logpdf(0.4)
    area = (line[1] - line[0]) ** 2
    np.testing.assert_allclose(log_evidence, jax.nn.logsumexp(log_joint) + np.log(area), atol=1e-3)
    weights = jax.nn.softmax(log_joint)
    np.testing.assert_allclose(posterior.mean(), weights @ points, atol=1e-3)
    draws = jax.vmap(posterior.sample)(jax.random.split(jax.random.key(1), 20_000))
    np.testing.assert_allclose(draws.mean(0), posterior.mean(), atol=0.03)
    np.testing.assert_allclose(draws.var(0), weights @ points**2 - (weights @ points) ** 2, atol=0.03)
    log_prob = jax.vmap(posterior.log_prob)(points)
    np.testing.assert_allclose(jax.nn.logsumexp(log_prob) + np.log(area), 0.0, atol=1e-3)


def test_other_distributions_are_refused():
    with pytest.raises(ValueError, match=r"that of Gaussians and their mixtures, and p\(x\) is a Bernoulli"):
        given_linear(Bernoulli(jnp.zeros(2)), jnp.eye(2), jnp.zeros(2), jnp.ones(2))
