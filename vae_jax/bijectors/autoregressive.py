"""Every dimension shifted and scaled by those before it."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.bijectors.coupling import LOG_SCALE_LIMIT
from vae_jax.numerics import soft_clip


@struct.dataclass
class InverseAutoregressive:
    """y_d = x_d exp(s_d(x_<d, h)) + t_d(x_<d, h);  log |det| = Σ s_d: the step of IAF, arXiv:1606.04934 sec. 3.

    `conditioner(params, x, h)` gives (t, raw s) [D] each, the d-th of them functions of x_1, ..., x_{d-1} and of the
    `context` h. s is the raw one softly clipped to (-2, 2); the paper's numerically stable step has the scale σ(s) and
    the shift (1 - σ(s)) t. Forward is one call, the inverse D of them.
    """

    params: Any
    context: jax.Array
    conditioner: Callable = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        shift, log_scale = self._shift_and_log_scale(x)
        return x * jnp.exp(log_scale) + shift, jnp.sum(log_scale)

    def inverse_and_log_det(self, y):
        """x_d = (y_d - t_d) exp(-s_d), d = 1, ..., D: when its turn comes, all that it hangs on is known."""

        def solve(d, x):
            shift, log_scale = self._shift_and_log_scale(x)
            return x.at[d].set(((y - shift) * jnp.exp(-log_scale))[d])

        x = jax.lax.fori_loop(0, y.size, solve, jnp.zeros_like(y))
        return x, -jnp.sum(self._shift_and_log_scale(x)[1])

    def _shift_and_log_scale(self, x):
        shift, raw = self.conditioner(self.params, x, self.context)
        return shift, soft_clip(raw, LOG_SCALE_LIMIT)
