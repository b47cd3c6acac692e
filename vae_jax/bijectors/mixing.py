"""Linear maps between channels: the invertible 1x1 convolution, and an exchange."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.bijectors.coupling import LOG_SCALE_LIMIT
from vae_jax.numerics import soft_clip


@struct.dataclass
class Mixing:
    """The invertible 1x1 convolution y = P L (U + diag(e^s)) x of the channels of x, arXiv:1807.03039 eq. (10).

    x is [..., C]. P reverses the order of the channels. L has ones on its diagonal, and U is strictly upper triangular.
    log |det| is
    Σ s for each pixel. s is softly clipped to (-2, 2), and the entries of L and U to (-1, 1).

    Attributes:
      lower: [C, C], whose strictly lower part is that of L.
      upper: [C, C], whose strictly upper part is U.
      log_diagonal: s [C].
    """

    lower: jax.Array
    upper: jax.Array
    log_diagonal: jax.Array

    def forward_and_log_det(self, x):
        lower, upper, log_diagonal = self._triangles()
        y = jnp.einsum("ij,...j->...i", lower @ upper, x, precision="highest")
        return y[..., ::-1], self._log_det(x, log_diagonal)

    def inverse_and_log_det(self, y):
        lower, upper, log_diagonal = self._triangles()
        flat = y[..., ::-1].reshape(-1, y.shape[-1]).T
        x = jax.scipy.linalg.solve_triangular(lower, flat, lower=True, unit_diagonal=True)
        x = jax.scipy.linalg.solve_triangular(upper, x)
        return x.T.reshape(y.shape), -self._log_det(y, log_diagonal)

    def _triangles(self):
        log_diagonal = soft_clip(self.log_diagonal, LOG_SCALE_LIMIT)
        lower = jnp.tril(soft_clip(self.lower, 1.0), -1) + jnp.eye(self.lower.shape[-1])
        return lower, jnp.triu(soft_clip(self.upper, 1.0), 1) + jnp.diag(jnp.exp(log_diagonal)), log_diagonal

    @staticmethod
    def _log_det(x, log_diagonal):
        return jnp.sum(log_diagonal) * (x.size // x.shape[-1])


@struct.dataclass
class Reverse:
    """The map that reverses the order of the channels of x [..., C]."""

    def forward_and_log_det(self, x):
        return x[..., ::-1], jnp.zeros(())

    def inverse_and_log_det(self, y):
        return y[..., ::-1], jnp.zeros(())
