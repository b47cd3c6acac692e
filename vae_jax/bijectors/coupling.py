"""Affine couplings: half of the vector shifts and scales the other half."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import struct

from vae_jax.numerics import soft_clip

LOG_SCALE_LIMIT = 2.0  # a coupling scales by 0.14 to 7.4: no depth of a flow then leaves float32


@struct.dataclass
class AffineCoupling:
    """y_a = x_a,  y_b = x_b ⊙ exp(s(x_a)) + t(x_a);  log |det| = Σ s(x_a).  arXiv:1605.08803 eq. (4) to (6).

    a is the first D // 2 of the D dimensions. `conditioner(params, x_a)` gives (t, raw s) [D - D // 2] each; s is the
    raw one softly clipped to (-2, 2), where the paper scales a tanh by a learned factor.
    """

    params: Any
    conditioner: Callable = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        a, b = _halves(x)
        shift, log_scale = self._shift_and_log_scale(a)
        return jnp.concatenate([a, b * jnp.exp(log_scale) + shift]), jnp.sum(log_scale)

    def inverse_and_log_det(self, y):
        """x_b = (y_b - t(y_a)) ⊙ exp(-s(y_a)): as cheap as the forward map.  arXiv:1605.08803 eq. (8)."""
        a, b = _halves(y)
        shift, log_scale = self._shift_and_log_scale(a)
        return jnp.concatenate([a, (b - shift) * jnp.exp(-log_scale)]), -jnp.sum(log_scale)

    def _shift_and_log_scale(self, a):
        shift, raw = self.conditioner(self.params, a)
        return shift, soft_clip(raw, LOG_SCALE_LIMIT)


def dense_conditioner(params, a):
    """(t, raw s) from one hidden layer of H units, its weights given as arrays: those that an encoder has put out.

    W_2 tanh(W_1 a + b_1) / H + b_2;  `params` is (W_1 [H, A], b_1 [H], W_2 [2, B, H], b_2 [2, B]).
    """
    w1, b1, w2, b2 = params
    shift, raw = w2 @ jnp.tanh(w1 @ a + b1) / b1.size + b2
    return shift, raw


def _halves(x):
    return x[: x.size // 2], x[x.size // 2 :]
