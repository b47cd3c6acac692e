"""A distribution transformed by a bijector."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.support import Real

MEAN_DRAWS = 128


@struct.dataclass
class Transformed:
    """The distribution of y = f(z), z ~ base:  log p(y) = log p(z) - log |det ∂f/∂z|.  arXiv:1505.05770 eq. (5)."""

    base: Any
    bijector: Any

    support = Real()

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        """Return a draw and its density from the draw of the base: no inverse is needed, and none rounds."""
        z, log_prob = self.base.sample_and_log_prob(key)
        y, log_det = self.bijector.forward_and_log_det(z)
        return y, log_prob - log_det

    def log_prob(self, y):
        z, log_det = self.bijector.inverse_and_log_det(y)
        return self.base.log_prob(z) + log_det

    def mean(self):
        """Return the average of 128 draws of one fixed key, since E[y] has no closed form.

        Its standard error is a tenth of the deviation of y.
        """
        return mean_of_draws(self)


def mean_of_draws(distribution):
    """Return the average of 128 draws of one fixed key."""
    return jnp.mean(jax.vmap(distribution.sample)(jax.random.split(jax.random.key(0), MEAN_DRAWS)), axis=0)
