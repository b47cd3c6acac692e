"""Networks whose outputs for a dimension depend on the dimensions before it alone: of a whole vector in one pass."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.masked import MADE
from vae_jax.networks.mlp import activation_function, split
from vae_jax.networks.network import network
from vae_jax.spec import flags, integers

__all__ = ["made", "nade"]

BLOCK = 7  # dimensions of NADE that are computed at once, of whose matrix product half is masked; measured on CPU


class NADE(nn.Module):
    """A hidden layer for every dimension, their weights shared, arXiv:1605.02226 sec. 2:

    h_d = act(Σ_{d' < d} W_{d'} x_{d'} + c), outputs_d = V_dᵀ h_d + b_d; x [D], `outputs` [D, ...], h_d [`num_hidden`].

    What reaches h_d is a running sum: one pass costs O(D · num_hidden), where the masks of `MADE` multiply by zeros. It
    goes along x in blocks, and the gradient makes each anew: of h no more than a block is ever held.
    A context is added to c. `zero_output`: V starts at zero, and so do all outputs.
    Raises `ValueError` where x or the outputs do not lead with one and the same D.
    """

    outputs: tuple
    num_hidden: int = 64
    activation: str = "sigmoid"
    zero_output: bool = False

    def __post_init__(self):
        integers(num_hidden=self.num_hidden)
        flags(zero_output=self.zero_output)
        activation_function(self.activation)
        super().__post_init__()

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
        out_init = nn.initializers.zeros if self.zero_output else nn.initializers.lecun_normal(in_axis=1, batch_axis=0)
        out_kernel = self.param("out_kernel", out_init, (dim, self.num_hidden, sum(sizes)))
        number = -(-dim // BLOCK)
        earlier = jnp.tril(jnp.ones((BLOCK, BLOCK), kernel.dtype), -1)

        def blocks(a):
            return jnp.pad(a, [(0, number * BLOCK - dim)] + [(0, 0)] * (a.ndim - 1)).reshape(
                number, BLOCK, *a.shape[1:]
            )

        @jax.checkpoint
        def block(before, own):
            x, kernel, out_kernel = own
            # Masked is x, not x ⊙ W: so the examples of a batch share the factor W, and their products are one.
            h = act(before[None] + jnp.matmul(earlier * x[None], kernel, precision="highest"))
            return before + jnp.matmul(x, kernel, precision="highest"), jnp.einsum("dh,dho->do", h, out_kernel)

        _, out = jax.lax.scan(
            block, bias, jax.tree.map(blocks, (jnp.ravel(x).astype(kernel.dtype), kernel, out_kernel))
        )
        out = out.reshape(-1, sum(sizes))[:dim] + self.param("out_bias", nn.initializers.zeros, (dim, sum(sizes)))
        return tuple(piece.reshape(shape) for piece, shape in zip(split(out, sizes), self.outputs, strict=True))


made, nade = network(MADE), network(NADE)
