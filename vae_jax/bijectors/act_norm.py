"""Activation normalisation: an affine map of every channel, fitted to the first batch."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.numerics import soft_clip

LEAST_DEVIATION = 0.05  # a channel that is constant in the first batch is not blown up
LOG_SCALE_LIMIT = 4.0


@struct.dataclass
class ActNorm:
    """The map y = (x - loc) exp(-s) of each channel of x [..., C], arXiv:1807.03039 sec. 3.1.

    s = `log_scale` is softly clipped to (-4, 4). `fitted` chooses both by a batch, after which they are learned.
    """

    loc: jax.Array
    log_scale: jax.Array

    @classmethod
    def fitted(cls, x):
        """Return the map that gives each channel of a batch x [B, ..., C] the mean 0 and the deviation 1.

        Deviations below 0.05 count as 0.05, as those of pixels that never change.
        """
        flat = x.reshape(-1, x.shape[-1])
        deviation = jnp.maximum(jnp.std(flat, axis=0), LEAST_DEVIATION)
        inside = jnp.clip(jnp.log(deviation) / LOG_SCALE_LIMIT, -0.999, 0.999)
        return cls(jnp.mean(flat, axis=0), LOG_SCALE_LIMIT * jnp.arctanh(inside))

    def forward_and_log_det(self, x):
        log_scale = soft_clip(self.log_scale, LOG_SCALE_LIMIT)
        return (x - _along(self.loc, x)) * _along(jnp.exp(-log_scale), x), -self._log_det(x, log_scale)

    def inverse_and_log_det(self, y):
        log_scale = soft_clip(self.log_scale, LOG_SCALE_LIMIT)
        return y * _along(jnp.exp(log_scale), y) + _along(self.loc, y), self._log_det(y, log_scale)

    @staticmethod
    def _log_det(x, log_scale):
        return jnp.sum(log_scale) * (x.size // x.shape[-1])


def _along(a, x):
    """Return a vector `a` [C] as an array that broadcasts over x [..., C]."""
    return jnp.reshape(a, (1,) * (x.ndim - 1) + (-1,))
