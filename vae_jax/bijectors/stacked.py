"""Equal layers as one loop, so that a program does not grow with their number."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Stacked:
    """The composition f_K ∘ ... ∘ f_1 of equal layers, as `Chain`, by one `lax.scan` over their parameters.

    Attributes:
      params: the parameters of all layers, whose arrays lead with K.
      context: what all layers share.
      layer: (params of one layer, context) -> its bijector.
    """

    params: Any
    context: Any
    layer: Callable = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        return self._run(x, lambda bijector, x: bijector.forward_and_log_det(x), reverse=False)

    def inverse_and_log_det(self, y):
        return self._run(y, lambda bijector, y: bijector.inverse_and_log_det(y), reverse=True)

    def _run(self, x, apply, *, reverse):
        def step(carry, params):
            x, total = carry
            x, log_det = apply(self.layer(params, self.context), x)
            return (x, total + log_det), None

        params = jax.tree.map(jnp.asarray, self.params)
        (x, total), _ = jax.lax.scan(step, (x, jnp.zeros((), x.dtype)), params, reverse=reverse)
        return x, total
