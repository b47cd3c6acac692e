"""Networks whose outputs for a dimension depend on the dimensions before it alone: of a whole vector in one pass."""

import math

import flax.linen as nn
import jax.numpy as jnp

from vae_jax.networks.masked import MADE as made
from vae_jax.networks.mlp import activation_function, split

__all__ = ["made", "nade"]


class NADE(nn.Module):
    """A hidden layer for every dimension, their weights shared, arXiv:1605.02226 sec. 2:

    h_d = act(Σ_{d' < d} W_{d'} x_{d'} + c), outputs_d = V_dᵀ h_d + b_d; x [D], `outputs` [D, ...], h_d [`num_hidden`].

    What reaches h_d is a running sum: one pass costs O(D · num_hidden), where the masks of `MADE` multiply by zeros.
    A context is added to c. `zero_output`: V starts at zero, and so do all outputs.
    Raises `ValueError` where x or the outputs do not lead with one and the same D.
    """

    outputs: tuple
    num_hidden: int = 64
    activation: str = "sigmoid"
    zero_output: bool = False

    @nn.compact
    def __call__(self, x, context=None):
        act, dim = activation_function(self.activation), x.size
        if any(shape[0] != dim for shape in self.outputs):
            raise ValueError(f"NADE: {dim} inputs, but outputs of the shapes {self.outputs}: each must lead with {dim}")
        sizes = [math.prod(shape[1:]) for shape in self.outputs]
        init = nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (dim, self.num_hidden))
        bias = self.param("bias", nn.initializers.zeros, (self.num_hidden,))
        if context is not None:
            bias = bias + nn.Dense(self.num_hidden, use_bias=False, name="context")(jnp.ravel(context))
        seen = jnp.ravel(x)[:-1, None] * kernel[:-1]
        before = jnp.concatenate([jnp.zeros((1, self.num_hidden)), jnp.cumsum(seen, axis=0)])
        h = act(before + bias[None])
        out_init = nn.initializers.zeros if self.zero_output else nn.initializers.lecun_normal(in_axis=1, batch_axis=0)
        out = jnp.einsum("dh,dho->do", h, self.param("out_kernel", out_init, (dim, self.num_hidden, sum(sizes))))
        out = out + self.param("out_bias", nn.initializers.zeros, (dim, sum(sizes)))
        return tuple(piece.reshape(shape) for piece, shape in zip(split(out, sizes), self.outputs, strict=True))


nade = NADE
