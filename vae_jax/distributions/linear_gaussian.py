"""Gaussians and their mixtures, given a linear observation with Gaussian noise: p(x|y) in closed form.

    y = F x + S ε,  ε ~ N(0, I),  S = diag(scale)

    p(x) = N(m, Σ):          p(x|y) = N(m + K (y - F m), Σ - K F Σ),  K = Σ Fᵀ (F Σ Fᵀ + S²)⁻¹
                             p(y) = N(F m, F Σ Fᵀ + S²)
    p(x) = Σ_k π_k p_k(x):   p(x|y) = Σ_k r_k p_k(x|y),  r_k ∝ π_k p_k(y)

This is the update of Kalman's filter (doi:10.1115/1.3662552). A draw corrects a draw of the prior with a simulated
observation, x + K (y - F x - S ε) (Matheron's rule), so that a scale of 0 needs no factor of a singular covariance.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.mixture import Mixture
from vae_jax.distributions.normal import LowRankNormal, MultivariateNormal, Normal
from vae_jax.numerics import LOG_2PI
from vae_jax.support import Real


@struct.dataclass
class GivenLinear:
    """The distribution p(x|y) of one Gaussian `base`.

    `matrix` is F [M, D], `gain` K [D, M], `y` and `scale` [M]; `log_evidence` is log p(y) in nats.
    """

    base: Any
    matrix: jax.Array
    y: jax.Array
    scale: jax.Array
    gain: jax.Array
    log_evidence: jax.Array

    support = Real()

    def sample(self, key):
        key_x, key_y = jax.random.split(key)
        x = self.base.sample(key_x)
        simulated = self.matrix @ jnp.ravel(x) + self.scale * jax.random.normal(key_y, self.y.shape)
        return x + (self.gain @ (self.y - simulated)).reshape(x.shape)

    def mean(self):
        loc = self.base.mean()
        return loc + (self.gain @ (self.y - self.matrix @ jnp.ravel(loc))).reshape(loc.shape)

    def variance(self):
        """Return the variance of every entry of x."""
        cross = _covariance_times(self.base, self.matrix.T)
        variance = _variance(self.base) - jnp.sum(self.gain * cross, axis=1)
        return jnp.maximum(variance, 0.0).reshape(self.base.mean().shape)

    def log_prob(self, x):
        """Return log p(x) + log p(y|x) - log p(y), nats.

        Entries with scale 0 are given: x must agree with them, and log p(y|x) leaves them out. If F then selects
        entries of x, the value is the density of the others.
        """
        residual = self.y - self.matrix @ jnp.ravel(x)
        free = self.scale > 0
        scale = jnp.where(free, self.scale, 1.0)
        log_lik = jnp.sum(jnp.where(free, -0.5 * (jnp.square(residual / scale) + LOG_2PI) - jnp.log(scale), 0.0))
        return self.base.log_prob(x) + log_lik - self.log_evidence


def given_linear(distribution, matrix, y, scale):
    """Return p(x|y), a `GivenLinear` or a `Mixture` of them, and log p(y) in nats.

    Args:
      distribution: p(x), a `Normal`, `LowRankNormal` or `MultivariateNormal`, or a `Mixture` of such; its event has D
        entries, of any shape.
      matrix: F [M, D].
      y: [M].
      scale: the deviations of the noise [M]; 0 for none, if F Σ Fᵀ is not singular.

    Raises `ValueError` for any other distribution.
    """
    if isinstance(distribution, Mixture):
        parts, log_evidence = jax.vmap(lambda part: given_linear(part, matrix, y, scale))(distribution.components)
        log_joint = distribution.log_weights() + log_evidence
        return Mixture(log_joint, parts), jax.nn.logsumexp(log_joint)
    if not isinstance(distribution, Normal | LowRankNormal | MultivariateNormal):
        raise ValueError(
            "the closed form of p(x|y) is that of Gaussians and their mixtures, and p(x) is a "
            f"{type(distribution).__name__}"
        )
    cross = _covariance_times(distribution, matrix.T)  # Σ Fᵀ [D, M]
    covariance = jnp.matmul(matrix, cross, precision="highest") + jnp.diag(jnp.square(scale))
    tril = jnp.linalg.cholesky(0.5 * (covariance + covariance.T))
    gain = jax.scipy.linalg.cho_solve((tril, True), cross.T).T
    log_evidence = MultivariateNormal(matrix @ jnp.ravel(distribution.mean()), tril).log_prob(y)
    return GivenLinear(distribution, matrix, y, scale, gain, log_evidence), log_evidence


def _covariance_times(distribution, right):
    """Return Σ `right` [D, M] without forming Σ."""
    if isinstance(distribution, MultivariateNormal):
        tril = distribution.scale_tril
        return jnp.matmul(tril, jnp.matmul(tril.T, right, precision="highest"), precision="highest")
    diagonal = jnp.exp(2.0 * jnp.ravel(distribution.log_scale))[:, None] * right
    if isinstance(distribution, Normal):
        return diagonal
    factor = distribution.factor
    return diagonal + jnp.matmul(factor, jnp.matmul(factor.T, right, precision="highest"), precision="highest")


def _variance(distribution):
    if isinstance(distribution, MultivariateNormal):
        return jnp.sum(jnp.square(distribution.scale_tril), axis=1)
    variance = jnp.exp(2.0 * jnp.ravel(distribution.log_scale))
    if isinstance(distribution, Normal):
        return variance
    return variance + jnp.sum(jnp.square(distribution.factor), axis=1)
