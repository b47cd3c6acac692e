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

    @nn.compact
    def __call__(self, h):
        sizes = [math.prod(shape) for shape in self.outputs]
        pieces = split(nn.Dense(sum(sizes))(h), sizes)
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, self.outputs, strict=True))


class MLP(nn.Module):
    """Dense layers of the widths `hidden`, for any event shape; an encoder or a decoder."""

    outputs: tuple
    hidden: tuple = (500,)
    activation: str = "relu"

    @nn.compact
    def __call__(self, x, context=None):
        h = join(x, context)
        for width in self.hidden:
            h = activation_function(self.activation)(nn.Dense(width)(h))
        return DenseHead(self.outputs)(h)
