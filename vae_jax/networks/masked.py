"""Masked dense networks, whose outputs for a dimension depend only on earlier dimensions."""

import math

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from vae_jax.networks.mlp import activation_function, split
from vae_jax.spec import INT_MAX, BadOption, flags, sizes


class MADE(nn.Module):
    """MADE, arXiv:1502.03509 sec. 3: outputs d are functions of x_1, ..., x_{d-1} and the context.

    x is [D, ...] and all `outputs` are [D, ...]. A hidden unit of degree m sees the first m dimensions, directly or
    through units of the same or a lower degree. The outputs of the dimensions after m see it. Degrees are spread evenly
    over 1, ..., D - 1 (the paper draws them). With a context they begin at 0: such a unit sees only the context. The
    context reaches every unit. With `zero_output` the last layer, and thus every output, is zero at initialisation.

    Raises `ValueError` unless x and all outputs have the same leading dimension D.
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
            raise BadOption(f"hidden: the masks of {self.hidden} do not fit into memory; use smaller widths")
        super().__post_init__()

    @nn.compact
    def __call__(self, x, context=None):
        act, dim = activation_function(self.activation), x.shape[0]
        if any(shape[0] != dim for shape in self.outputs):
            raise ValueError(f"MADE: {dim} inputs, but outputs of shapes {self.outputs}: each must begin with {dim}")
        h, degrees = x.ravel(), np.repeat(np.arange(1, dim + 1), x.size // dim)
        for width in self.hidden:
            next_degrees = hidden_degrees(dim, width, lowest=1 if context is None else 0)
            h = act(MaskedDense(degrees[:, None] <= next_degrees)(h, context))
            degrees = next_degrees
        sizes = [math.prod(shape[1:]) for shape in self.outputs]
        last = np.concatenate([np.repeat(np.arange(1, dim + 1), size) for size in sizes])
        h = MaskedDense(degrees[:, None] < last, self.zero_output)(h, context)
        pieces = split(h, [dim * size for size in sizes])
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, self.outputs, strict=True))


class MaskedDense(nn.Module):
    """(W ⊙ M)ᵀ h + V c + b, with the `mask` M [F, G]; the context c reaches all G units."""

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
    """Return degrees [width] spread over `lowest`, ..., dim - 1. The highest is included, so every input is seen."""
    return np.maximum(dim - 1 - np.arange(width) * (dim - lowest) // width, 0)
