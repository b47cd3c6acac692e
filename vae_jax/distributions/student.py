"""Student's t: a normal of heavy tails."""

import math

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.support import Real


@struct.dataclass
class StudentT:
    """Independent t-distributions of `loc`, exp(log_scale) and `df` degrees of freedom, all of one shape.

    One outlier moves a fit less than with a normal: its log-density falls like a logarithm.
    """

    loc: jax.Array
    log_scale: jax.Array
    df: jax.Array

    support = Real()

    def sample(self, key):
        return self.loc + jnp.exp(self.log_scale) * jax.random.t(key, self.df, jnp.shape(self.loc))

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log p(x_d) of every entry, in nats."""
        gammaln, half = jax.scipy.special.gammaln, 0.5 * (self.df + 1.0)
        square = jnp.square((x - self.loc) * jnp.exp(-self.log_scale)) / self.df
        log_c = gammaln(half) - gammaln(0.5 * self.df) - 0.5 * (jnp.log(self.df) + math.log(math.pi))
        return log_c - self.log_scale - half * jnp.log1p(square)

    def mean(self):
        """Return `loc`, the mean for more than one degree of freedom."""
        return self.loc
