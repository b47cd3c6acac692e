"""Networks whose outputs for a dimension depend only on earlier dimensions; one pass gives all of them."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.masked import MADE
from vae_jax.networks.mlp import activation_function, split
from vae_jax.networks.network import network
from vae_jax.spec import flags, integers

__all__ = ["made", "nade"]

BLOCK = 7  # dimensions of NADE that are computed at once, half of their product masked; measured on CPU


class NADE(nn.Module):
    """NADE, arXiv:1605.02226 sec. 2: one hidden layer for every dimension, with shared weights.

    h_d = act(Σ_{d' < d} W_{d'} x_{d'} + c), outputs_d = V_dᵀ h_d + b_d; x [D], `outputs` [D, ...], h_d [`num_hidden`].

    The input of h_d is a running sum: one pass costs O(D · num_hidden), whereas the masks of `MADE` multiply by zeros.
    Blocks of x are processed in turn, and the gradient recomputes each of them: memory holds h for one block only.
    A context is added to c. With `zero_output` V, and thus every output, is zero at initialisation.
    Raises `ValueError` unless x and all outputs have the same leading dimension D.
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
            raise ValueError(f"NADE: {dim} inputs, but outputs of shapes {self.outputs}: each must begin with {dim}")
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
        def block(before, inputs):
            x, kernel, out_kernel = inputs
            # x is masked, not x ⊙ W: all examples of a batch then share the factor W, in one matrix product.
            h = act(before[None] + jnp.matmul(earlier * x[None], kernel, precision="highest"))
            return before + jnp.matmul(x, kernel, precision="highest"), jnp.einsum("dh,dho->do", h, out_kernel)

        _, out = jax.lax.scan(
            block, bias, jax.tree.map(blocks, (jnp.ravel(x).astype(kernel.dtype), kernel, out_kernel))
        )
        out = out.reshape(-1, sum(sizes))[:dim] + self.param("out_bias", nn.initializers.zeros, (dim, sum(sizes)))
        return tuple(piece.reshape(shape) for piece, shape in zip(split(out, sizes), self.outputs, strict=True))


made, nade = network(MADE), network(NADE)
