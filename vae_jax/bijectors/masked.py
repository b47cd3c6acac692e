"""Couplings of vectors and images: a part of the entries is mapped by functions of the others."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.bijectors.elementwise import Elementwise


@struct.dataclass
class _Coupling:
    """The two directions of a coupling, whose subclass says by `_map` which entries are mapped."""

    params: Any
    context: Any
    conditioner: Callable = struct.field(pytree_node=False)
    elementwise: Elementwise = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        y, log_slope = self._map(self.elementwise.forward, x)
        return y, jnp.sum(log_slope)

    def inverse_and_log_det(self, y):
        x, log_slope = self._map(self.elementwise.inverse, y)
        return x, -jnp.sum(log_slope)


@struct.dataclass
class ChannelCoupling(_Coupling):
    """A coupling along the last axis of x [..., C], a vector or an image, arXiv:1605.08803 sec. 3.4.

        y_a = x_a,     y_b = g(x_b; θ(x_a, h)),     log |det| = Σ log g'

    a are the first `num_fixed` channels, and b are the others. g maps each entry by itself.

    Attributes:
      params: the parameters of the conditioner.
      context: h, anything that the conditioner takes.
      conditioner: (params, x_a, h) -> θ, the raw parameters of each entry of x_b in order; any shape of that size.
      elementwise: g.
      num_fixed: how many channels stay as they are.
    """

    num_fixed: int = struct.field(pytree_node=False)

    def _map(self, function, x):
        fixed, changed = x[..., : self.num_fixed], x[..., self.num_fixed :]
        raw = self.conditioner(self.params, fixed, self.context)
        changed, log_slope = function(changed, raw.reshape(*changed.shape, self.elementwise.num_params))
        return jnp.concatenate([fixed, changed], axis=-1), log_slope


@struct.dataclass
class CheckerboardCoupling(_Coupling):
    """A coupling of the pixels of an image [H, W, C] with i + j + `parity` odd, arXiv:1605.08803 sec. 3.4.

    They are mapped by functions of the other pixels. The conditioner sees zeros in their place, and the mask.

    Attributes:
      params: the parameters of the conditioner.
      context: h, anything that the conditioner takes.
      conditioner: (params, [H, W, C + 1], h) -> the raw parameters of all entries of x; any shape of that size.
      elementwise: the map g of one entry.
      parity: 0 or 1.
    """

    parity: int = struct.field(pytree_node=False)

    def _map(self, function, x):
        height, width, _ = x.shape
        is_fixed = ((jnp.arange(height)[:, None] + jnp.arange(width)[None] + self.parity) % 2 == 0)[..., None]
        seen = jnp.concatenate([x * is_fixed, jnp.broadcast_to(is_fixed, (height, width, 1)).astype(x.dtype)], -1)
        raw = self.conditioner(self.params, seen, self.context)
        mapped, log_slope = function(x, raw.reshape(*x.shape, self.elementwise.num_params))
        return jnp.where(is_fixed, x, mapped), jnp.where(is_fixed, 0.0, log_slope)


@struct.dataclass
class MaskedAutoregressive:
    """The masked autoregressive flow with any map of one entry, arXiv:1705.07057 eq. (3), of x of any shape.

        y_d = g(x_d; θ_d(x_<d, h)),     log |det| = Σ log g'

    The forward map needs one call of the conditioner. The inverse needs D calls.

    Attributes:
      params: the parameters of the conditioner.
      context: h, anything that the conditioner takes.
      conditioner: (params, x [D], h) -> θ [D, num_params], whose row d depends on x_1, ..., x_{d-1} and h.
      elementwise: g.
    """

    params: Any
    context: Any
    conditioner: Callable = struct.field(pytree_node=False)
    elementwise: Elementwise = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        y, log_slope = self.elementwise.forward(x.ravel(), self.conditioner(self.params, x.ravel(), self.context))
        return y.reshape(x.shape), jnp.sum(log_slope)

    def inverse_and_log_det(self, y):
        """Solve y_d = g(x_d; θ_d) for d = 1, ..., D in this order: θ_d depends on earlier entries only."""
        flat = jnp.asarray(y).ravel()

        def solve(d, carry):
            x, total = carry
            raw = jax.lax.dynamic_index_in_dim(self.conditioner(self.params, x, self.context), d, keepdims=False)
            entry, log_slope = self.elementwise.inverse(flat[d], raw)
            return x.at[d].set(entry), total + log_slope

        x, total = jax.lax.fori_loop(0, flat.size, solve, (jnp.zeros_like(flat), jnp.zeros((), flat.dtype)))
        return x.reshape(y.shape), -total
