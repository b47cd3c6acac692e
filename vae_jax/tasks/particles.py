"""Particles for models that draw pixel by pixel, given a degraded image: sequential Monte Carlo.

    x_i ~ `p(x_i | x_<i) p(y_i|x_i) / Z_i`,    w ← w Z_i,    Z_i = Σ_v `p(x_i = v | x_<i)` p(y_i | x_i = v)

for masks and for noise of single pixels: the best proposal that looks at one pixel. A linear degradation of several
pixels multiplies the weight by N(y_m; F_m x, s_m²) after the last row on which y_m depends. Particles are resampled
when (Σ w)² / Σ w² is small, doi:10.1049/ip-f-2.1993.0015. E[Ẑ] = p(y) for any number of particles.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import degradations
from vae_jax.distributions import Autoregressive, RasterScan, Reshaped
from vae_jax.distributions.autoregressive import over_places
from vae_jax.numerics import LOG_2PI, as_jax, effective_sample_size


def filtered(density, key, degradation, y, *, num_particles, resample_below=0.5):
    """Return K weighted draws of p(x|y): x [K, *event], log-weights [K], and log Ẑ, an estimate of log p(y) in nats.

    Args:
      density: p(x), a `RasterScan` or an `Autoregressive`, perhaps `Reshaped`.
      key: a JAX key.
      degradation: a mask, noise, or another linear degradation with noise.
      y: the degraded image.
      num_particles: K.
      resample_below: a share of K.

    Raises `ValueError` for another density, and for a degradation that is not linear or has no noise.
    """
    ordered = density.base if isinstance(density, Reshaped) else density
    if not isinstance(ordered, Autoregressive | RasterScan):
        raise ValueError("`ordered` requires a model that draws pixel by pixel, such as pixel_cnn or belief_network")
    see = _Pixel(degradation, y, density)
    run = _by_rows if isinstance(ordered, RasterScan) else _by_dimensions
    x, log_w = run(ordered, key, see, num_particles, resample_below)
    log_evidence = jax.nn.logsumexp(log_w) - math.log(num_particles)
    return see.to_image(x).reshape(num_particles, *degradation.event.shape), log_w, log_evidence


def systematic(key, log_w, number):
    """Return `number` indices, index k on average in proportion to its weight, from one uniform number."""
    cumulative = jnp.cumsum(jax.nn.softmax(log_w))
    places = (jnp.arange(number) + jax.random.uniform(key)) / number * cumulative[-1]
    return jnp.minimum(jnp.searchsorted(cumulative, places, side="right"), len(log_w) - 1)


def hidden_come_last(mask) -> bool:
    """Return True if no pixel is shown after a hidden one, in raster order."""
    shown = np.asarray(mask).reshape(-1, mask.shape[-1])
    return not np.any(np.diff(shown.all(axis=1).astype(int)) > 0) and bool(np.all(shown.all(1) == shown.any(1)))


class _Pixel:
    """How one pixel is drawn given the earlier ones, and what y tells about it."""

    def __init__(self, degradation, y, density):
        reshaped = isinstance(density, Reshaped)
        to_base = density.to_base if reshaped else lambda x: x
        self.to_image = jax.vmap(density.from_base) if reshaped else lambda x: x
        self.linear, self.noise = degradation.linear, degradation.noise
        self.by_pixel = degradation.mask is not None
        if self.by_pixel:
            mask = to_base(degradation.mask)
            self.whole = bool(np.all(mask.all(axis=-1) == mask.any(axis=-1)))
            self.mask, self.y = jnp.asarray(mask), jnp.where(mask, to_base(jnp.asarray(y)), 0.0)
            return
        if degradation.linear is None or not np.all(degradation.linear.scale):
            raise ValueError(
                f"`ordered` requires a mask, or a linear degradation with noise; {degradation.name!r} has none: set "
                "scale above 0"
            )
        places = to_base(np.arange(math.prod(degradation.event.shape)).reshape(degradation.event.shape))
        self.matrix = degradations.matrix(degradation)[:, places.reshape(-1)]
        self.seen = degradation.linear.observe(y)
        reach = np.abs(self.matrix) > 1e-7
        self.last_row = (reach.shape[1] - 1 - np.argmax(reach[:, ::-1], axis=1)) // math.prod(places.shape[1:])

    def draw(self, key, conditional, place):
        """Return the pixel and the factor of the weight, log Z, from `p(x_i | x_<i)` and the place of i."""
        if not self.by_pixel:
            return conditional.sample(key).astype(jnp.float32), 0.0
        y, mask = self.y[place], self.mask[place]
        if not self.noise:
            x = jnp.where(mask, y, conditional.sample(key).astype(y.dtype))
            if hasattr(conditional, "log_probs"):
                return x, jnp.sum(jnp.where(mask, conditional.log_probs(y), 0.0))
            if not self.whole:
                raise ValueError("channels of a pixel depend on each other: a mask must show all of them, or none")
            return x, jnp.where(jnp.all(mask), conditional.log_prob(y), 0.0)
        if not hasattr(conditional, "log_probs") or conditional.support.num_levels is None:
            raise ValueError("noise requires pixels of bits or levels with independent channels")
        values = jnp.arange(float(conditional.support.num_levels))
        log_p = jax.vmap(lambda v: conditional.log_probs(jnp.full(y.shape, v)), out_axes=-1)(values)
        residual = (y[..., None] - values.reshape(*[1] * y.ndim, -1)) / self.noise
        log_lik = -0.5 * (jnp.square(residual) + LOG_2PI) - np.log(self.noise)
        log_joint = log_p + jnp.where(mask[..., None], log_lik, 0.0)
        log_norm = jax.nn.logsumexp(log_joint, axis=-1) - jax.nn.logsumexp(log_p, axis=-1)
        return values[jax.random.categorical(key, log_joint)], jnp.sum(log_norm)

    def after_row(self, x, i):
        """Return the factor of the weight of x [K, *event] from what is complete after row i."""
        if self.by_pixel:
            return jnp.zeros(len(x))
        residual = (self.seen[None] - x.reshape(len(x), -1) @ self.matrix.T) / self.linear.scale[None]
        log_lik = -0.5 * (jnp.square(residual) + LOG_2PI) - np.log(self.linear.scale)[None]
        return jnp.sum(jnp.where((self.last_row == i)[None], log_lik, 0.0), axis=1)


def resampled(key, log_w, resample_below):
    """Return the indices of the particles to keep and their log-weights: equal ones after resampling, if it is due.

    It is due when the effective sample size is below the share `resample_below` of K. The mean of w stays the same.
    """
    count = len(log_w)
    log_sum = jax.nn.logsumexp(log_w)
    ess = effective_sample_size(log_sum, jax.nn.logsumexp(2.0 * log_w), count)
    due = ess < resample_below * count
    index = jnp.where(due, systematic(key, log_w, count), jnp.arange(count))
    return index, jnp.where(due, log_sum - math.log(count), log_w)


def _by_rows(ordered, key, see, count, resample_below):
    height, width, channels = ordered.event_shape
    params, cached = as_jax(ordered.params), ordered.cached
    no_rows, no_pixels = jax.tree.map(lambda a: jnp.broadcast_to(a, (count, *a.shape)), cached.start(params))

    def draw_row(carry, i):
        rows, x, log_w = carry
        above = jax.lax.dynamic_index_in_dim(x, jnp.maximum(i - 1, 0), 1, keepdims=False)
        rows, features = jax.vmap(cached.row, (None, 0, 0, None))(params, rows, above, i)

        def draw_pixel(carry, j):
            pixels, left, log_w = carry

            def one(key, pixels, left, features):
                at = jax.tree.map(lambda a: a[j], features)
                pixels, conditional = cached.pixel(params, pixels, left, i, j, at)
                return pixels, *see.draw(key, conditional, (i, j))

            keys = jax.random.split(jax.random.fold_in(key, i * width + j), count)
            pixels, x, factor = jax.vmap(one)(keys, pixels, left, features)
            return (pixels, x, log_w + factor), x

        start = (no_pixels, jnp.zeros((count, channels)), log_w)
        (_, _, log_w), row = jax.lax.scan(draw_pixel, start, jnp.arange(width))
        x = jax.lax.dynamic_update_index_in_dim(x, jnp.swapaxes(row, 0, 1), i, 1)
        log_w = log_w + see.after_row(x, i)
        key_row = jax.random.fold_in(key, height * width + i)
        index, log_w = resampled(key_row, log_w, resample_below)
        rows, x = jax.tree.map(lambda a: a[index], (rows, x))
        return (rows, x, log_w), None

    start = (no_rows, jnp.zeros((count, *ordered.event_shape)), jnp.zeros(count))
    (_, x, log_w), _ = jax.lax.scan(draw_row, start, jnp.arange(height))
    return x, log_w


def _by_dimensions(ordered, key, see, count, resample_below):
    params, size = as_jax(ordered.params), ordered.event_shape[0]

    def draw(carry, d):
        x, log_w = carry

        def one(key, x):
            conditional = over_places(lambda a: a[d], as_jax(ordered.conditionals(params, x)))
            value, factor = see.draw(key, conditional, d)
            return x.at[d].set(value), factor

        x, factor = jax.vmap(one)(jax.random.split(jax.random.fold_in(key, d), count), x)
        index, log_w = resampled(jax.random.fold_in(key, size + d), log_w + factor, resample_below)
        return (x[index], log_w), None

    if not see.by_pixel:
        raise ValueError("a linear degradation of several pixels requires a model that draws row by row: use pixel_cnn")
    start = (jnp.zeros((count, *ordered.event_shape)), jnp.zeros(count))
    return jax.lax.scan(draw, start, jnp.arange(size))[0]
