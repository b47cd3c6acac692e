"""Masked dense networks: what they put out for a dimension depends on the dimensions before it alone."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vae_jax.networks.mlp import activation_function, split
from vae_jax.spec import INT_MAX, BadOption, flags, sizes


class MADE(nn.Module):
    """An autoregressive network, arXiv:1502.03509 sec. 3: outputs d are functions of x_1, ..., x_{d-1} and the context.

    x [D, ...] and all `outputs` [D, ...] lead with the D dimensions. A hidden unit of degree m sees the first m of
    them, directly or by way of units of no higher degree, and is seen by the outputs of the dimensions behind them.
    Degrees are spread evenly over 1, ..., D - 1 (the paper draws them), with a context from 0: such a unit sees that
    alone. The context reaches every unit. `zero_output`: the last layer starts at zero, and so do all outputs.

    Raises `ValueError` where x or the outputs do not lead with one and the same D.
    """

    outputs: tuple
    hidden: tuple = (64,)
    activation: str = "relu"
    zero_output: bool = False

    def __post_init__(self):
        sizes(hidden=self.hidden)
        flags(zero_output=self.zero_output)
        activation_function(self.activation)
        widths = (sum(math.prod(shape) for shape in self.outputs), *self.hidden)
        if max(a * b for a, b in zip(widths, (*widths[1:], widths[0]), strict=True)) > INT_MAX:
            raise BadOption(f"hidden: the masks of {self.hidden} do not fit into memory; take smaller widths")
        super().__post_init__()

    @nn.compact
    def __call__(self, x, context=None):
        act, dim = activation_function(self.activation), x.shape[0]
        if any(shape[0] != dim for shape in self.outputs):
            raise ValueError(f"MADE: {dim} inputs, but outputs of the shapes {self.outputs}: each must lead with {dim}")
        h, degrees = x.ravel(), np.repeat(np.arange(1, dim + 1), x.size // dim)
        for width in self.hidden:
            own = hidden_degrees(dim, width, lowest=1 if context is None else 0)
            h = act(MaskedDense(degrees[:, None] <= own)(h, context))
            degrees = own
        sizes = [math.prod(shape[1:]) for shape in self.outputs]
        last = np.concatenate([np.repeat(np.arange(1, dim + 1), size) for size in sizes])
        h = MaskedDense(degrees[:, None] < last, self.zero_output)(h, context)
        pieces = split(h, [dim * size for size in sizes])
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, self.outputs, strict=True))


class MaskedDense(nn.Module):
    """(W ⊙ M)ᵀ h + V c + b, the `mask` M [F, G] given, the context c free to reach all G."""

    mask: np.ndarray
    zero: bool = False

    @nn.compact
    def __call__(self, h, context=None):
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        h = h @ (self.param("kernel", init, self.mask.shape) * self.mask)
        h = h + self.param("bias", nn.initializers.zeros, self.mask.shape[1:])
        if context is None:
            return h
        return h + nn.Dense(self.mask.shape[1], use_bias=False, kernel_init=init, name="context")(jnp.ravel(context))


def hidden_degrees(dim, width, lowest):
    """Degrees [width] spread over `lowest`, ..., dim - 1; the highest is always there, so that no input goes unseen."""
    return np.maximum(dim - 1 - np.arange(width) * (dim - lowest) // width, 0)
