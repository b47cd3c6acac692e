"""Vectors drawn one dimension after the other, series one sample, and images one pixel after the other."""

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
    """The distribution p(x) = Π_d p(x_d | x_1, ..., x_{d-1}).  arXiv:1502.03509 eq. (4).

    x has the shape `event_shape`, whose first axis is D.

    `conditionals(params, x)` is a distribution of independent dimensions whose arrays lead with D; the d-th is
    `p(x_d | x_<d)`. Its parameters must not depend on x_d or on later dimensions. A density takes one call of it, a
    draw takes D.
    """

    params: Any
    conditionals: Callable = struct.field(pytree_node=False)
    event_shape: tuple = struct.field(pytree_node=False)
    support: Support = struct.field(pytree_node=False)

    def sample(self, key):
        return self.complete(key, jnp.zeros(self.event_shape), 0)

    def complete(self, key, x, num_given):
        """Draw from p(x | its first `num_given` dimensions).

        These are taken from x. The other entries of x are not used and may have any value.
        """
        params = as_jax(self.params)
        dimension = jnp.arange(len(x)).reshape(-1, *[1] * (x.ndim - 1))
        x = jnp.where(dimension < num_given, x, 0.0)  # a weight of zero times NaN would be NaN

        def draw(d, x):
            conditional = over_places(lambda a: a[d], as_jax(self.conditionals(params, x)))
            return x.at[d].set(conditional.sample(jax.random.fold_in(key, d)))

        return jax.lax.fori_loop(num_given, self.event_shape[0], draw, x)

    def log_prob(self, x):
        return self.conditionals(self.params, x).log_prob(x)

    def mean(self):
        """Return the average of 128 draws of one fixed key: there is no closed form."""
        return mean_of_draws(self)


@struct.dataclass
class Series:
    """The distribution p(x) = Π_t `p(x_t | x_<t)`, x [T]: an `Autoregressive` that keeps a cache of earlier samples.

    `conditionals(params, x)` is the distribution of all samples, its arrays [T, ...]: a density takes one call. A draw
    is one scan over `step(params, cache, x_{t-1}, t)` -> cache, `p(x_t | x_<t)`, from the cache `start(params)`. x_{-1}
    has any value, so that p(x_0) must not depend on it.
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
        """Draw from p(x | its first `num_given` samples), taken from x; the same draw as that of `uncached`."""
        params = as_jax(self.params)

        def draw(state, item):
            (cache, previous), (t, x) = state, item
            cache, conditional = self.step(params, cache, previous, t)
            drawn = conditional.sample(jax.random.fold_in(key, t)).astype(x.dtype)
            x = jnp.where(t < num_given, x, drawn)
            return (cache, x), x

        begin = (self.start(params), jnp.zeros((), x.dtype))
        return jax.lax.scan(draw, begin, (jnp.arange(len(x)), x))[1]

    def uncached(self):
        """Return the same distribution without a cache: its draws call the whole network for every sample."""
        return Autoregressive(self.params, self.conditionals, self.event_shape, self.support)

    def log_prob(self, x):
        return self.conditionals(self.params, x).log_prob(x)

    def mean(self):
        """Return the average of 128 draws of one fixed key: there is no closed form."""
        return mean_of_draws(self)


class Cached(NamedTuple):
    """The conditionals of an image one row and one pixel at a time, from a cache of earlier rows and pixels.

    The row above row 0 and the pixel on the left of column 0 have any value, so that nothing may depend on them.
    """

    start: Callable  # (params) -> cache of rows before the first row, cache of pixels before the first pixel of a row
    row: Callable  # (params, cache, row i - 1 [W, C], i) -> cache, features of the pixels of row i [W, ...]
    pixel: Callable  # (params, cache, pixel i, j - 1 [C], i, j, features [...]) -> cache, p(pixel i, j | earlier) [C]


@struct.dataclass
class RasterScan:
    """The distribution p(x) = Π_i `p(x_i | x_<i)`, x [H, W, C], pixels row by row.

    `conditionals(params, x)` is the distribution of all pixels, its arrays [H, W, ...]: a density takes one call. A
    draw costs about as much, since `cached` computes nothing twice. Given earlier pixels, the channels of a pixel are
    independent, or their distribution draws one after the other.
    """

    params: Any
    conditionals: Callable = struct.field(pytree_node=False)
    cached: Cached = struct.field(pytree_node=False)
    event_shape: tuple = struct.field(pytree_node=False)
    support: Support = struct.field(pytree_node=False)

    def sample(self, key):
        return self.complete(key, jnp.zeros(self.event_shape), 0)

    def complete(self, key, x, num_given):
        """Draw from p(x | its first `num_given` pixels), taken from x; the same draw as that of `uncached`."""
        height, width, channels = self.event_shape
        params = as_jax(self.params)
        no_rows, no_pixels = self.cached.start(params)

        def draw_row(carry, row):
            rows, above = carry
            i, x = row
            rows, features = self.cached.row(params, rows, above, i)

            def draw_pixel(carry, pixel):
                pixels, left = carry
                j, x, features = pixel
                pixels, conditional = self.cached.pixel(params, pixels, left, i, j, features)
                t = i * width + j
                drawn = conditional.sample(jax.random.fold_in(key, t)).astype(x.dtype)
                x = jnp.where(t < num_given, x, drawn)
                return (pixels, x), x

            start = (no_pixels, jnp.zeros(channels, x.dtype))
            x = jax.lax.scan(draw_pixel, start, (jnp.arange(width), x, features))[1]
            return (rows, x), x

        start = (no_rows, jnp.zeros((width, channels), x.dtype))
        return jax.lax.scan(draw_row, start, (jnp.arange(height), x))[1]

    def uncached(self):
        """Return the same distribution over [H W, C] without a cache: draws call the whole network for each pixel."""

        def conditionals(params, x):
            distribution = self.conditionals(params, x.reshape(self.event_shape))
            return over_places(lambda a: a.reshape(-1, *a.shape[2:]), distribution)

        height, width, channels = self.event_shape
        return Autoregressive(self.params, conditionals, (height * width, channels), self.support)

    def log_prob(self, x):
        return self.conditionals(self.params, x).log_prob(x)

    def mean(self):
        """Return the average of 128 draws of one fixed key: there is no closed form."""
        return mean_of_draws(self)


def over_places(function, distribution):
    """Return `distribution` with `function` of every array that leads with its places, such as the pixels of an image.

    These are all arrays, except where a distribution has weights that all places share: its method `over_places` says.
    """
    if hasattr(distribution, "over_places"):
        return distribution.over_places(function)
    return jax.tree.map(function, distribution)
