"""The inverse autoregressive flow: each dimension is shifted and scaled by functions of the earlier ones."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.bijectors.coupling import LOG_SCALE_LIMIT
from vae_jax.numerics import soft_clip


@struct.dataclass
class InverseAutoregressive:
    """One step of the inverse autoregressive flow (IAF), arXiv:1606.04934 sec. 3.

        y_d = x_d exp(s_d(x_<d, h)) + t_d(x_<d, h),     log |det| = Σ_d s_d

    The forward map needs one call of the conditioner, the inverse D calls. The paper's numerically stable step has
    the scale σ(s) and the shift (1 - σ(s)) t; here s is softly clipped to (-2, 2).

    Attributes:
      params: the parameters of the conditioner.
      context: h, anything that the conditioner takes.
      conditioner: (params, x, h) -> t [D] and unclipped s [D], whose entries d depend on x_1, ..., x_{d-1} and h.
    """

    params: Any
    context: jax.Array
    conditioner: Callable = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        shift, log_scale = self._shift_and_log_scale(x)
        return x * jnp.exp(log_scale) + shift, jnp.sum(log_scale)

    def inverse_and_log_det(self, y):
        """Solve x_d = (y_d - t_d) exp(-s_d) for d = 1, ..., D in this order: t_d and s_d depend on earlier x only."""

        def solve(d, x):
            shift, log_scale = self._shift_and_log_scale(x)
            return x.at[d].set(((y - shift) * jnp.exp(-log_scale))[d])

        x = jax.lax.fori_loop(0, y.size, solve, jnp.zeros_like(y))
        return x, -jnp.sum(self._shift_and_log_scale(x)[1])

    def _shift_and_log_scale(self, x):
        shift, raw = self.conditioner(self.params, x, self.context)
        return shift, soft_clip(raw, LOG_SCALE_LIMIT)
