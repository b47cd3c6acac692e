"""Dense networks, and the head that every network ends in."""

import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


def activation_function(name: str) -> Callable:
    """An activation of `jax.nn` by name. Raises `ValueError` for an unknown one."""
    if not callable(getattr(jax.nn, name, None)):
        raise ValueError(f"unknown activation {name!r}; any function of jax.nn: relu, tanh, elu, gelu, silu ...")
    return getattr(jax.nn, name)


def join(x, context):
    """x as a vector, with the context appended."""
    x = jnp.ravel(x)
    return x if context is None else jnp.concatenate([x, context])


def split(h, sizes):
    """The last axis of `h` cut into pieces of the given sizes."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [h[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]


class DenseHead(nn.Module):
    """One affine map to all outputs, cut and shaped: h [F] -> tuple of arrays of the shapes `outputs`."""

    outputs: tuple
    zero: bool = False  # whether all outputs start at zero

    @nn.compact
    def __call__(self, h):
        sizes = [math.prod(shape) for shape in self.outputs]
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        pieces = split(nn.Dense(sum(sizes), kernel_init=init)(h), sizes)
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, self.outputs, strict=True))


class MLP(nn.Module):
    """Dense layers of the widths `hidden`, for any event shape; an encoder or a decoder.

    `gated`: h = act(A x + a) ⊙ σ(B x + b); with act = identity, arXiv:1612.08083 eq. (1), as arXiv:1705.07120 has it.
    `branches`: widths of layers that x and the context pass apart before they are joined, as the two-level networks of
    arXiv:1705.07120 do. `zero_output`: the last layer starts at zero, and so do all outputs.
    """

    outputs: tuple
    hidden: tuple = (500,)
    activation: str = "relu"
    gated: bool = False
    branches: tuple = ()
    zero_output: bool = False

    @nn.compact
    def __call__(self, x, context=None):
        act = activation_function(self.activation)

        def layers(h, widths):
            for width in widths:
                if self.gated:
                    h, gate = split(nn.Dense(2 * width)(h), [width, width])  # one product for both
                    h = act(h) * jax.nn.sigmoid(gate)
                else:
                    h = act(nn.Dense(width)(h))
            return h

        h = join(layers(jnp.ravel(x), self.branches), None if context is None else layers(context, self.branches))
        return DenseHead(self.outputs, self.zero_output)(layers(h, self.hidden))
