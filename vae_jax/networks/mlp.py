"""Dense networks, and the head that every network ends in."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.spec import BadOption, flags, nearest, shown, sizes


def activation_function(name: str) -> Callable:
    """The activation of `jax.nn` called `name`. Raises `BadOption` where there is none that acts on every element by
    itself and is finite.
    """
    if not isinstance(name, str) or not _is_elementwise(name):
        allowed = [name for name in dir(jax.nn) if _is_elementwise(name)]
        raise BadOption(f"activation: unknown value {shown(name)}{nearest(str(name), allowed)}")
    return getattr(jax.nn, name)


@functools.cache
def _is_elementwise(name) -> bool:
    """Return True if a function of `jax.nn` gives an array what it gives to each of its elements, all finite."""
    function = getattr(jax.nn, name, None)
    try:
        with jax.ensure_compile_time_eval():  # also while a model is traced
            whole, each = jax.jit(lambda x: (function(x), jax.vmap(function)(x)))(jnp.linspace(-8.0, 8.0, 7))
    except Exception:  # it needs more than an array, or one with axes
        return False
    same = jnp.shape(whole) == jnp.shape(each) == (7,)
    return bool(same and np.all(np.isfinite(whole)) and np.allclose(whole, each, rtol=1e-4, atol=1e-6))


def join(x, context):
    """x as a vector, with the context appended."""
    x = jnp.ravel(x)
    return x if context is None else jnp.concatenate([x, jnp.ravel(context)])


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

    def __post_init__(self):
        sizes(hidden=self.hidden, branches=self.branches)
        flags(gated=self.gated, zero_output=self.zero_output)
        activation_function(self.activation)
        super().__post_init__()

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

        h = join(
            layers(jnp.ravel(x), self.branches), None if context is None else layers(jnp.ravel(context), self.branches)
        )
        return DenseHead(self.outputs, self.zero_output)(layers(h, self.hidden))
