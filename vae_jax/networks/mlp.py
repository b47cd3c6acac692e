"""Dense networks, and the affine map to all outputs at the end of a network."""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.spec import BadOption, flags, nearest, shown, sizes


def activation_function(name: str) -> Callable:
    """Return the activation of `jax.nn` that is called `name`.

    Raises `BadOption` if `jax.nn` has no such function, or one that is not elementwise or not finite.
    """
    if not isinstance(name, str) or not _is_elementwise(name):
        allowed = [name for name in dir(jax.nn) if _is_elementwise(name)]
        raise BadOption(f"activation: unknown value {shown(name)}{nearest(str(name), allowed)}")
    return getattr(jax.nn, name)


@functools.cache
def _is_elementwise(name) -> bool:
    """Return True if a function of `jax.nn` is elementwise and finite."""
    function = getattr(jax.nn, name, None)
    try:
        with jax.ensure_compile_time_eval():  # also while a model is traced
            whole, each = jax.jit(lambda x: (function(x), jax.vmap(function)(x)))(jnp.linspace(-8.0, 8.0, 7))
    except Exception:  # it takes more arguments, or an array with axes
        return False
    same = jnp.shape(whole) == jnp.shape(each) == (7,)
    return bool(same and np.all(np.isfinite(whole)) and np.allclose(whole, each, rtol=1e-4, atol=1e-6))


def join(x, context):
    """Return x as a vector, with the context appended."""
    x = jnp.ravel(x)
    return x if context is None else jnp.concatenate([x, jnp.ravel(context)])


def split(h, sizes):
    """Cut the last axis of `h` into pieces of these sizes."""
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [h[..., end - size : end] for size, end in zip(sizes, ends, strict=True)]


class DenseHead(nn.Module):
    """One affine map to all outputs: h [F] -> a tuple of arrays of the shapes `outputs`."""

    outputs: tuple
    zero: bool = False  # True if all outputs are zero at initialisation

    @nn.compact
    def __call__(self, h):
        sizes = [math.prod(shape) for shape in self.outputs]
        init = nn.initializers.zeros if self.zero else nn.initializers.lecun_normal()
        pieces = split(nn.Dense(sum(sizes), kernel_init=init)(h), sizes)
        return tuple(piece.reshape(shape) for piece, shape in zip(pieces, self.outputs, strict=True))


class MLP(nn.Module):
    """Dense layers of the widths `hidden`, for any event shape; an encoder or a decoder.

    With `gated`, h = act(A x + a) ⊙ σ(B x + b). With the activation "identity" this is arXiv:1612.08083 eq. (1), as in
    arXiv:1705.07120. `branches` are the widths of layers that process x and the context separately, before they are
    joined, as in the two-level networks of arXiv:1705.07120. With `zero_output` the last layer is zero at
    initialisation, and so are all outputs.
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
