"""Vectors drawn one dimension after the other, series one sample and images one pixel after the other."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.transformed import mean_of_draws
from vae_jax.numerics import as_jax
from vae_jax.support import Support


@struct.dataclass
class Autoregressive:
    """p(x) = Π_d p(x_d | x_1, ..., x_{d-1}), x of the shape `event_shape`, D its first axis.  arXiv:1502.03509 eq. (4).

    `conditionals(params, x)` is a distribution of independent dimensions, whose arrays lead with D, the d-th p(x_d |
    x_<d): its parameters must not depend on x_d or what is behind it. A density is one call of it, a draw D.
    """

    params: Any
    conditionals: Callable = struct.field(pytree_node=False)
    event_shape: tuple = struct.field(pytree_node=False)
    support: Support = struct.field(pytree_node=False)

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
    support: Support = struct.field(pytree_node=False)

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
    support: Support = struct.field(pytree_node=False)

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
