"""Learned bijectors: how their parameters begin, given a first batch, and how they become bijectors.

A flow is a chain of parts. Parameters begin one part after the other: each sees the batch as the parts before it have
mapped it, as the first activation norms need.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import bijectors
from vae_jax.networks.autoregressive import made
from vae_jax.spec import BadOption


class Part(NamedTuple):
    """A learned bijector of arrays x, which may depend on an embedded context c (None for none)."""

    init: Callable  # (key, x [B, ...], c [B, ...]) -> params
    bijector: Callable  # (params, c) -> the bijector of one example
    sees: bool = False  # True if `init` depends on the values of x, not only on their shapes


def push(part, params, x, c):
    """Return the forward map of a batch x [B, ...] with contexts c."""
    return jax.vmap(lambda x, c: part.bijector(params, c).forward_and_log_det(x)[0])(x, c)


def _like(part, params, x, c):
    """Return zeros of the shape that `push` returns."""
    shapes = jax.eval_shape(lambda: push(part, params[-1], x, c))
    return jnp.zeros(shapes.shape, shapes.dtype)


def fixed(bijector) -> Part:
    """Return the part of a bijector without parameters."""
    return Part(lambda key, x, c: {}, lambda params, c: bijector)


def chain(*parts) -> Part:
    """Return the composition of `parts`, the first one first. The parameters are a tuple."""

    def init(key, x, c):
        params = []
        for n, (k, part) in enumerate(zip(jax.random.split(key, len(parts)), parts, strict=True)):
            params.append(part.init(k, x, c))
            x = (
                push(part, params[-1], x, c)
                if any(later.sees for later in parts[n + 1 :])
                else _like(part, params, x, c)
            )
        return tuple(params)

    def bijector(params, c):
        return bijectors.Chain(tuple(part.bijector(p, c) for part, p in zip(parts, params, strict=True)))

    return Part(init, bijector, any(part.sees for part in parts))


def stacked(part, depth) -> Part:
    """Return `depth` parts like `part` in a row, as one loop. Arrays of the parameters lead with `depth`."""

    def init(key, x, c):
        def step(x, key):
            params = part.init(key, x, c)
            return push(part, params, x, c), params

        keys = jax.random.split(key, depth)
        return jax.lax.scan(step, x, keys)[1] if part.sees else jax.vmap(lambda k: part.init(k, x, c))(keys)

    return Part(init, lambda params, c: bijectors.Stacked(params, c, part.bijector), part.sees)


def act_norm() -> Part:
    """Return an activation norm, fitted to the first batch."""

    def init(key, x, c):
        norm = bijectors.ActNorm.fitted(x)
        return {"loc": norm.loc, "log_scale": norm.log_scale}

    return Part(init, lambda params, c: bijectors.ActNorm(**params), sees=True)


def mixing() -> Part:
    """Return an invertible 1x1 convolution, which begins near the reversal of the channels."""

    def init(key, x, c):
        channels, keys = x.shape[-1], jax.random.split(key)
        lower, upper = (jax.random.normal(k, (channels, channels)) * 0.5 / channels**0.5 for k in keys)
        return {"lower": lower, "upper": upper, "log_diagonal": jnp.zeros(channels)}

    return Part(init, lambda params, c: bijectors.Mixing(**params))


def channel_coupling(shape, num_fixed, elementwise, network, see=None) -> Part:
    """Return a coupling that maps the last channels of `shape` given the first `num_fixed` ones.

    Args:
      shape: of x, [..., C].
      num_fixed: how many channels stay.
      elementwise: the map of one entry.
      network: a function of the shapes of outputs that returns a `Network` of x_a and c.
      see: x_a -> what the network sees of it; None for x_a itself.

    Raises `BadOption` unless both parts have channels.
    """
    if not 0 < num_fixed < shape[-1]:
        raise BadOption(
            f"a coupling needs at least two channels, one of which stays; an array of shape {tuple(shape)} has too "
            "few: squeeze it first, or give vectors of at least two dimensions"
        )
    place = tuple(shape[:-1])
    net = network(((*place, shape[-1] - num_fixed, elementwise.num_params),))
    conditioner = _first_of(net, see)

    def init(key, x, c):
        return net.init(key, x[0, ..., :num_fixed], None if c is None else c[0])

    def bijector(params, c):
        return bijectors.ChannelCoupling(params, c, conditioner, elementwise, num_fixed)

    return Part(init, bijector)


def checkerboard_coupling(shape, parity, elementwise, network) -> Part:
    """Return a coupling between the two colours of a checkerboard, for images of `shape` [H, W, C].

    The other arguments are those of `channel_coupling`; `parity` chooses the colour.
    """
    net = network(((*shape, elementwise.num_params),))
    conditioner = _first_of(net)

    def init(key, x, c):
        return net.init(key, jnp.zeros((*shape[:2], shape[2] + 1)), None if c is None else c[0])

    def bijector(params, c):
        return bijectors.CheckerboardCoupling(params, c, conditioner, elementwise, parity)

    return Part(init, bijector)


def masked_autoregressive(shape, elementwise, *, hidden, activation="relu", see=None) -> Part:
    """Return the masked autoregressive flow of an array of `shape`, whose conditioner is a MADE.  arXiv:1705.07057.

    The outputs of the MADE are zero at initialisation. It sees `see(x)`, or x.
    """
    dim = functools.reduce(lambda a, b: a * b, shape, 1)
    net = made(((dim, elementwise.num_params),), hidden, activation, zero_output=True)
    conditioner = _first_of(net, see)

    def init(key, x, c):
        return net.init(key, jnp.zeros(dim), None if c is None else c[0])

    return Part(init, lambda params, c: bijectors.MaskedAutoregressive(params, c, conditioner, elementwise))


def split(shape, num_fixed, coupling, rest) -> Part:
    """Return a `bijectors.Split`: `coupling` maps the channels that leave, and `rest` the first `num_fixed` ones."""

    def init(key, x, c):
        key_leave, key_rest = jax.random.split(key)
        leave = coupling.init(key_leave, x, c)
        return {"leave": leave, "rest": rest.init(key_rest, x[..., :num_fixed], c)}

    def bijector(params, c):
        leave, others = coupling.bijector(params["leave"], c), rest.bijector(params["rest"], c)
        return bijectors.Split(leave, others, tuple(shape))

    return Part(init, bijector, rest.sees)


@functools.cache
def _first_of(net, see=None):
    """Return the conditioner (params, x, c) -> the only output of a network of `see(x)`."""
    return lambda params, x, c: net.apply(params, x if see is None else see(x), c)[0]
