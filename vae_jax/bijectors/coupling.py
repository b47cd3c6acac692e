"""Affine couplings: one half of the vector shifts and scales the other half."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import struct

from vae_jax.numerics import soft_clip

LOG_SCALE_LIMIT = 2.0  # scales lie between 0.14 and 7.4, so that deep flows stay within float32


@struct.dataclass
class AffineCoupling:
    """One affine coupling, arXiv:1605.08803 eq. (4) to (6).

        y_a = x_a,     y_b = x_b ⊙ exp(s(x_a)) + t(x_a),     log |det| = Σ s(x_a)

    a is the first D // 2 of the D dimensions, b the others. s is softly clipped to (-2, 2); the paper scales a tanh
    by a learned factor instead.

    Attributes:
      params: the parameters of the conditioner.
      conditioner: (params, x_a) -> t and unclipped s, [D - D // 2] each.
    """

    params: Any
    conditioner: Callable = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        a, b = _halves(x)
        shift, log_scale = self._shift_and_log_scale(a)
        return jnp.concatenate([a, b * jnp.exp(log_scale) + shift]), jnp.sum(log_scale)

    def inverse_and_log_det(self, y):
        """Compute x_b = (y_b - t(y_a)) ⊙ exp(-s(y_a)), arXiv:1605.08803 eq. (8): as fast as the forward map."""
        a, b = _halves(y)
        shift, log_scale = self._shift_and_log_scale(a)
        return jnp.concatenate([a, (b - shift) * jnp.exp(-log_scale)]), -jnp.sum(log_scale)

    def _shift_and_log_scale(self, a):
        shift, raw = self.conditioner(self.params, a)
        return shift, soft_clip(raw, LOG_SCALE_LIMIT)


def dense_conditioner(params, a):
    """Return t and the unclipped s [B] of a coupling from one hidden layer of H units.

        W_2 tanh(W_1 a + b_1) / H + b_2

    a [A]; `params` are the arrays (W_1 [H, A], b_1 [H], W_2 [2, B, H], b_2 [2, B]), which an encoder may return.
    """
    w1, b1, w2, b2 = params
    shift, raw = w2 @ jnp.tanh(w1 @ a + b1) / b1.size + b2
    return shift, raw


def _halves(x):
    return x[: x.size // 2], x[x.size // 2 :]
