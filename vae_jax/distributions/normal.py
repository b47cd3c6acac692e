"""Gaussians."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.numerics import LOG_2PI


@struct.dataclass
class Normal:
    """N(x; loc, diag(exp(log_scale)²)) over one event of any shape; `log_scale` has the shape of `loc`."""

    loc: jax.Array
    log_scale: jax.Array

    support = "real"

    @classmethod
    def standard(cls, shape):
        return cls(jnp.zeros(shape), jnp.zeros(shape))

    def sample(self, key):
        """Reparameterised: x = loc + scale ⊙ ε, ε ~ N(0, I).  arXiv:1312.6114 sec. 2.4."""
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """A draw x and log p(x) from its noise ε itself: nothing is lost by x - loc where loc is far from 0."""
        epsilon = jax.random.normal(key, jnp.shape(self.loc))
        return self.loc + jnp.exp(self.log_scale) * epsilon, self._log_prob(epsilon)

    def log_prob(self, x):
        """Σ_d -½ (ε_d² + log 2π) - log scale_d, in nats."""
        return self._log_prob((x - self.loc) * jnp.exp(-self.log_scale))

    def _log_prob(self, epsilon):
        return jnp.sum(-0.5 * (jnp.square(epsilon) + LOG_2PI) - self.log_scale)

    def mean(self):
        return self.loc


@struct.dataclass
class MultivariateNormal:
    """N(x; loc, L Lᵀ) with a full covariance; `scale_tril` is L [D, D], lower triangular, positive diagonal."""

    loc: jax.Array
    scale_tril: jax.Array

    support = "real"

    def sample(self, key):
        """x = loc + L ε."""
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """A draw x and log p(x) from its noise ε itself, without L⁻¹: safe for an L of any condition."""
        epsilon = jax.random.normal(key, self.loc.shape, self.loc.dtype)
        return self.loc + self.scale_tril @ epsilon, self._log_prob(epsilon)

    def log_prob(self, x):
        """-½ |L⁻¹(x - loc)|² - log |L| - D/2 log 2π, in nats."""
        return self._log_prob(jax.scipy.linalg.solve_triangular(self.scale_tril, x - self.loc, lower=True))

    def _log_prob(self, epsilon):
        log_det = jnp.sum(jnp.log(jnp.diagonal(self.scale_tril)))
        return -0.5 * jnp.sum(jnp.square(epsilon) + LOG_2PI) - log_det

    def mean(self):
        return self.loc
