"""Maps between bounded intervals and real numbers."""

import math

import jax
import jax.numpy as jnp
from flax import struct
from jax.scipy.special import ndtr, ndtri

from vae_jax.numerics import LOG_2PI


@struct.dataclass
class Logit:
    """The map y = logit(α + (1 - 2α) x / V) of x in [0, V] to the reals, arXiv:1605.08803 sec. 4.1.

    V = `num_levels` and α = `margin`. The inverse of a real number may lie up to α V beyond the interval. A forward
    input beyond it is clipped to this range.
    """

    num_levels: float = struct.field(pytree_node=False)
    margin: float = struct.field(pytree_node=False, default=0.05)

    def forward_and_log_det(self, x):
        inner = 1.0 - 2.0 * self.margin
        share = jnp.clip(self.margin + inner * x / self.num_levels, 1e-6, 1.0 - 1e-6)
        y = jnp.log(share) - jnp.log1p(-share)
        return y, self._log_det(y)

    def inverse_and_log_det(self, y):
        inner = 1.0 - 2.0 * self.margin
        return (jax.nn.sigmoid(y) - self.margin) * (self.num_levels / inner), -self._log_det(y)

    def _log_det(self, y):
        constant = math.log((1.0 - 2.0 * self.margin) / self.num_levels)
        return jnp.sum(jax.nn.softplus(y) + jax.nn.softplus(-y)) + y.size * constant


@struct.dataclass
class Rescale:
    """The map y = 2 x / V - 1 of [0, V] to [-1, 1], V = `num_levels`."""

    num_levels: float = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        return x * (2.0 / self.num_levels) - 1.0, jnp.asarray(x.size * math.log(2.0 / self.num_levels))

    def inverse_and_log_det(self, y):
        return (y + 1.0) * (self.num_levels / 2.0), jnp.asarray(-y.size * math.log(2.0 / self.num_levels))


@struct.dataclass
class Probability:
    """The map y = m + (1 - 2m) Φ(x) of the reals to (0, 1), Φ the distribution function of N(0, 1).

    A standard normal x becomes uniform. m = `margin` keeps y away from both ends.
    """

    margin: float = struct.field(pytree_node=False, default=1e-4)

    def forward_and_log_det(self, x):
        return self.margin + (1.0 - 2.0 * self.margin) * ndtr(x), self._log_det(x)

    def inverse_and_log_det(self, y):
        share = (y - self.margin) / (1.0 - 2.0 * self.margin)
        x = ndtri(jnp.clip(share, 1e-7, 1.0 - 1e-7))
        return x, -self._log_det(x)

    def _log_det(self, x):
        return x.size * math.log(1.0 - 2.0 * self.margin) - 0.5 * jnp.sum(jnp.square(x) + LOG_2PI)
