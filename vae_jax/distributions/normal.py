"""Gaussians: diagonal, low-rank, and with a full covariance."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from vae_jax.numerics import LOG_2PI
from vae_jax.support import Real


@struct.dataclass
class Normal:
    """N(x; loc, diag(exp(log_scale)²)) over one event of any shape; `log_scale` has the shape of `loc`."""

    loc: jax.Array
    log_scale: jax.Array

    support = Real()

    @classmethod
    def standard(cls, shape):
        return cls(jnp.zeros(shape), jnp.zeros(shape))

    def sample(self, key):
        """Reparameterised: x = loc + scale ⊙ ε, ε ~ N(0, I).  arXiv:1312.6114 sec. 2.4."""
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """Return a draw x, and log p(x) from its noise ε: x - loc would lose digits if loc is far from 0."""
        epsilon = jax.random.normal(key, jnp.shape(self.loc))
        return self.loc + jnp.exp(self.log_scale) * epsilon, self._log_prob(epsilon)

    def log_prob(self, x):
        """Σ_d -½ (ε_d² + log 2π) - log scale_d, in nats."""
        return self._log_prob((x - self.loc) * jnp.exp(-self.log_scale))

    def log_probs(self, x):
        """Return log p(x_d) of every entry, in nats."""
        epsilon = (x - self.loc) * jnp.exp(-self.log_scale)
        return -0.5 * (jnp.square(epsilon) + LOG_2PI) - self.log_scale

    def _log_prob(self, epsilon):
        return jnp.sum(-0.5 * (jnp.square(epsilon) + LOG_2PI) - self.log_scale)

    def mean(self):
        return self.loc


@struct.dataclass
class LowRankNormal:
    """N(x; loc, diag(s²) + F Fᵀ), s = exp(log_scale) [D], `factor` F [D, R]: R directions beyond the diagonal.

    With A = diag(s)⁻¹ F and M = I + AᵀA [R, R], |Σ| = |M| Π s² and Σ⁻¹ is Woodbury's: O(D R²) instead of O(D³). float32
    requires AᵀA well below 10⁷, so F should be in units of s, as in `heads.low_rank_normal`.
    """

    loc: jax.Array
    log_scale: jax.Array
    factor: jax.Array

    support = Real()

    def sample(self, key):
        """Return x = loc + s ⊙ ε + F η."""
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """Return a draw x, and log p(x) from its noises ε, η: the exponent is |ε + Aδ|² + |η - δ|², M δ = η - Aᵀε."""
        key_diagonal, key_factor = jax.random.split(key)
        epsilon = jax.random.normal(key_diagonal, self.loc.shape, self.loc.dtype)
        eta = jax.random.normal(key_factor, self.factor.shape[1:], self.loc.dtype)
        a, tril = self.whitened()
        delta = jax.scipy.linalg.cho_solve((tril, True), eta - a.T @ epsilon)
        square = jnp.sum(jnp.square(epsilon + a @ delta)) + jnp.sum(jnp.square(eta - delta))
        x = self.loc + jnp.exp(self.log_scale) * epsilon + self.factor @ eta
        return x, self._log_prob(square, tril)

    def log_prob(self, x):
        """-½ (|e|² - |L_M⁻¹ Aᵀ e|²) - log |L_M| - Σ log s - D/2 log 2π, e = (x - loc) / s, M = L_M L_Mᵀ, in nats."""
        a, tril = self.whitened()
        e = (x - self.loc) * jnp.exp(-self.log_scale)
        delta = jax.scipy.linalg.cho_solve((tril, True), a.T @ e)
        # |e - Aδ|² + |δ|² is the same exponent without the difference of two large squares.
        return self._log_prob(jnp.sum(jnp.square(e - a @ delta)) + jnp.sum(jnp.square(delta)), tril)

    def whitened(self):
        """Return A and the Cholesky factor of I + AᵀA."""
        a = self.factor * jnp.exp(-self.log_scale)[:, None]
        return a, jnp.linalg.cholesky(jnp.eye(a.shape[1]) + a.T @ a)

    def _log_prob(self, square, tril):
        log_det = jnp.sum(self.log_scale) + jnp.sum(jnp.log(jnp.diagonal(tril)))
        return -0.5 * (square + self.loc.size * LOG_2PI) - log_det

    def mean(self):
        return self.loc


@struct.dataclass
class MultivariateNormal:
    """N(x; loc, L Lᵀ) with a full covariance; `scale_tril` is L [D, D], lower triangular, with a positive diagonal.

    The event has the shape of `loc`, whose D entries are taken in order.
    """

    loc: jax.Array
    scale_tril: jax.Array

    support = Real()

    def sample(self, key):
        """Return x = loc + L ε."""
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """Return a draw x, and log p(x) from its noise ε without L⁻¹: exact for an L of any condition."""
        epsilon = jax.random.normal(key, (self.loc.size,), self.loc.dtype)
        return self.loc + (self.scale_tril @ epsilon).reshape(self.loc.shape), self._log_prob(epsilon)

    def log_prob(self, x):
        """-½ |L⁻¹(x - loc)|² - log |L| - D/2 log 2π, in nats."""
        return self._log_prob(jax.scipy.linalg.solve_triangular(self.scale_tril, jnp.ravel(x - self.loc), lower=True))

    def _log_prob(self, epsilon):
        log_det = jnp.sum(jnp.log(jnp.diagonal(self.scale_tril)))
        return -0.5 * jnp.sum(jnp.square(epsilon) + LOG_2PI) - log_det

    def mean(self):
        return self.loc


def is_standard_normal(distribution) -> bool:
    """Return True for N(0, I) over one event, by its type and its values."""
    return isinstance(distribution, Normal) and not np.any(distribution.loc) and not np.any(distribution.log_scale)
