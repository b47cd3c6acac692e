"""Vectors drawn one dimension after the other, series one sample and images one pixel after the other."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.heads import abstract
from vae_jax.distributions.transformed import mean_of_draws
from vae_jax.numerics import as_jax


@struct.dataclass
class Autoregressive:
    """p(x) = Π_d p(x_d | x_1, ..., x_{d-1}), x of the shape `event_shape`, D its first axis.  arXiv:1502.03509 eq. (4).

    `conditionals(params, x)` is a distribution of independent dimensions, whose arrays lead with D, the d-th p(x_d |
    x_<d): its parameters must not depend on x_d or what is behind it. A density is one call of it, a draw D.
    """

    params: Any
    conditionals: Callable = struct.field(pytree_node=False)
    event_shape: tuple = struct.field(pytree_node=False)
    support: str = struct.field(pytree_node=False)

    def sample(self, key):
        return self.complete(key, jnp.zeros(self.event_shape), 0)

    def complete(self, key, x, num_given):
        """A draw of p(x | its first `num_given` dimensions), these as they are in x; the others may be anything."""
        params = as_jax(self.params)
        dimension = jnp.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1))
        x = jnp.where(dimension < num_given, x, 0.0)  # zeros times what is not a number would not be zero

        def draw(d, x):
            conditional = jax.tree.map(lambda a: a[d], as_jax(self.conditionals(params, x)))
            return x.at[d].set(conditional.sample(jax.random.fold_in(key, d)))

        return jax.lax.fori_loop(num_given, self.event_shape[0], draw, x)

    def log_prob(self, x):
        return self.conditionals(self.params, x).log_prob(x)

    def mean(self):
        """No closed form: the average of 128 draws of one fixed key."""
        return mean_of_draws(self)


@struct.dataclass
class Series:
    """p(x) = Π_t p(x_t | x_<t), x [T]: an `Autoregressive` that keeps what it has seen.

    `conditionals(params, x)` is the distribution of all samples, its arrays [T, ...]: a density is one call. A draw is
    one scan over `step(params, kept, x_{t-1}, t)` -> kept, p(x_t | x_<t), from what is kept at first, `start(params)`;
    what stands before x_0 is of any value: it must not count.
    """

    params: Any
    conditionals: Callable = struct.field(pytree_node=False)
    start: Callable = struct.field(pytree_node=False)
    step: Callable = struct.field(pytree_node=False)
    event_shape: tuple = struct.field(pytree_node=False)
    support: str = struct.field(pytree_node=False)

    @classmethod
    def of(cls, network, head, variables, context, event_shape):
        """That of a network which puts out what `head`, of independent samples, takes at every place, from the samples
        before it and a context, a vector or None (`networks.wavenet`).
        """
        given = {"variables": variables, "context": context, "dropout_key": None}
        return cls(given, *_series_of_network(network, head, tuple(event_shape)))

    def sample(self, key):
        return self.complete(key, jnp.zeros(self.event_shape), 0)

    def complete(self, key, x, num_given):
        """A draw of p(x | its first `num_given` samples), these as they are in x; the same as that of `uncached`."""
        params = as_jax(self.params)

        def draw(state, item):
            (kept, previous), (t, x) = state, item
            kept, conditional = self.step(params, kept, previous, t)
            drawn = conditional.sample(jax.random.fold_in(key, t)).astype(x.dtype)
            x = jnp.where(t < num_given, x, drawn)
            return (kept, x), x

        begin = (self.start(params), jnp.zeros((), x.dtype))
        return jax.lax.scan(draw, begin, (jnp.arange(len(x)), x))[1]

    def uncached(self):
        """The same distribution, whose draws call the whole network for every sample."""
        return Autoregressive(self.params, self.conditionals, self.event_shape, self.support)

    def log_prob(self, x):
        return self.conditionals(self.params, x).log_prob(x)

    def mean(self):
        """No closed form: the average of 128 draws of one fixed key."""
        return mean_of_draws(self)


class Cached(NamedTuple):
    """The conditionals of an image one row and one pixel at a time, from what is kept of those before.

    The row above row 0 and the pixel on the left of column 0 are of any value: they must not count.
    """

    start: Callable  # (params) -> what is kept of rows before the first, what of pixels before a row's first
    row: Callable  # (params, kept, row i - 1 [W, C], i) -> kept, what the pixels of row i are given [W, ...]
    pixel: Callable  # (params, kept, pixel i, j - 1 [C], i, j, given [...]) -> kept, p(pixel i, j | those before) [C]


@struct.dataclass
class RasterScan:
    """p(x) = Π_i p(x_i | x_<i), x [H, W, C], pixels row by row; the channels of one are independent given those before.

    `conditionals(params, x)` is the distribution of all pixels, its arrays [H, W, C, ...]: a density is one call. Nor
    does a draw cost much more: what `cached` keeps of rows and pixels is never computed again.
    """

    params: Any
    conditionals: Callable = struct.field(pytree_node=False)
    cached: Cached = struct.field(pytree_node=False)
    event_shape: tuple = struct.field(pytree_node=False)
    support: str = struct.field(pytree_node=False)

    @classmethod
    def of(cls, network, head, variables, context, event_shape, *, dropout_key=None):
        """That of a network which puts out what `head`, of independent pixels, takes at every pixel, from those before
        it and a context or None (`networks.pixel_cnn`). With a `dropout_key` its log_prob is that of the network
        thinned so; its draws are of the whole one.
        """
        given = {"variables": variables, "context": context, "dropout_key": dropout_key}
        return cls(given, *_scan_of_network(network, head, tuple(event_shape)))

    def sample(self, key):
        return self.complete(key, jnp.zeros(self.event_shape), 0)

    def complete(self, key, x, num_given):
        """A draw of p(x | its first `num_given` pixels), these as they are in x; the same as that of `uncached`."""
        height, width, channels = self.event_shape
        params = as_jax(self.params)
        no_rows, no_pixels = self.cached.start(params)

        def draw_row(carry, row):
            kept, above = carry
            i, x = row
            kept, given = self.cached.row(params, kept, above, i)

            def draw_pixel(carry, pixel):
                kept, left = carry
                j, x, given = pixel
                kept, conditional = self.cached.pixel(params, kept, left, i, j, given)
                t = i * width + j
                drawn = conditional.sample(jax.random.fold_in(key, t)).astype(x.dtype)
                x = jnp.where(t < num_given, x, drawn)
                return (kept, x), x

            start = (no_pixels, jnp.zeros(channels, x.dtype))
            x = jax.lax.scan(draw_pixel, start, (jnp.arange(width), x, given))[1]
            return (kept, x), x

        start = (no_rows, jnp.zeros((width, channels), x.dtype))
        return jax.lax.scan(draw_row, start, (jnp.arange(height), x))[1]

    def uncached(self):
        """The same distribution over [H W, C], whose draws call the whole network for every pixel."""

        def conditionals(params, x):
            distribution = self.conditionals(params, x.reshape(self.event_shape))
            return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), distribution)

        height, width, channels = self.event_shape
        return Autoregressive(self.params, conditionals, (height * width, channels), self.support)

    def log_prob(self, x):
        return self.conditionals(self.params, x).log_prob(x)

    def mean(self):
        """No closed form: the average of 128 draws of one fixed key."""
        return mean_of_draws(self)


# The same functions of the same network, values that compilers compare: hence `cache`.


@functools.cache
def _conditionals(network, head):
    def conditionals(given, x):
        key = given["dropout_key"]
        noise = {} if key is None else {"rngs": {"dropout": key}}
        return head.distribution(*network.apply(given["variables"], head.standardize(x), given["context"], **noise))

    return conditionals


@functools.cache
def _series_of_network(network, head, event_shape):
    """All of a `Series` but its params."""

    def start(given):
        return network.apply(given["variables"], method="start")

    def step(given, kept, previous, t):
        inputs = (kept, head.standardize(previous), t, given["context"])
        kept, outputs = network.apply(given["variables"], *inputs, method="step")
        return kept, head.distribution(*outputs)

    return _conditionals(network, head), start, step, event_shape, abstract(head).support


@functools.cache
def _scan_of_network(network, head, event_shape):
    """All of a `RasterScan` but its params."""

    def start(given):
        return network.apply(given["variables"], 1, *event_shape[1:], method="start")

    def row(given, kept, above, i):
        return network.apply(given["variables"], head.standardize(above), kept, i, given["context"], method="row")

    def pixel(given, kept, left, i, j, from_above):
        inputs = (head.standardize(left), kept, i, j, from_above, given["context"])
        kept, outputs = network.apply(given["variables"], *inputs, method="pixel")
        return kept, head.distribution(*outputs)

    return _conditionals(network, head), Cached(start, row, pixel), event_shape, abstract(head).support
