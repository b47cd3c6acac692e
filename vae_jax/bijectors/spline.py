"""Rational-quadratic splines: monotone maps with a closed-form inverse."""

import jax
import jax.numpy as jnp

from vae_jax.bijectors.elementwise import Elementwise
from vae_jax.numerics import soft_clip
from vae_jax.spec import integers, numbers

LEAST = 0.01  # the least share of the interval that a bin takes, so that slopes stay within float32
LOG_SLOPE_LIMIT = 4.0  # slopes at the knots lie between 0.02 and 55


def spline(*, num_bins=8, limit=4.0) -> Elementwise:
    """Return the rational-quadratic spline of `num_bins` bins on [-limit, limit], arXiv:1906.04032 eq. (4) to (8).

    Beyond the interval it is the identity, and the slopes at both ends are 1. At raw = 0 it is the identity
    everywhere. The input is clipped before the spline is evaluated, so that no gradient is NaN outside.

    Args:
      num_bins: K; there are 3 K - 1 parameters: widths, heights, and the slopes at the inner knots.
      limit: half the length of the interval.
    """
    integers(num_bins=num_bins, at_most=64)
    numbers(limit=limit, above=0)

    def bins(raw):
        """Return the knots of x and y [..., K + 1], and the slopes at them."""
        widths, heights = raw[..., :num_bins], raw[..., num_bins : 2 * num_bins]
        slopes = jnp.exp(soft_clip(raw[..., 2 * num_bins :], LOG_SLOPE_LIMIT))
        return _knots(widths, limit), _knots(heights, limit), _padded(slopes, 1.0, 1.0)

    def forward(x, raw):
        xs, ys, slopes = bins(raw)
        inside = jnp.clip(x, -limit, limit)
        left, right = _at_bin(inside, xs, (xs, ys, slopes))
        y, log_slope = _quadratic((inside - left[0]) / (right[0] - left[0]), left, right)
        is_inside = jnp.abs(x) < limit
        return jnp.where(is_inside, y, x), jnp.where(is_inside, log_slope, 0.0)

    def inverse(y, raw):
        xs, ys, slopes = bins(raw)
        inside = jnp.clip(y, -limit, limit)
        left, right = _at_bin(inside, ys, (xs, ys, slopes))
        share = _root(inside, left, right)
        _, log_slope = _quadratic(share, left, right)
        is_inside = jnp.abs(y) < limit
        x = left[0] + share * (right[0] - left[0])
        return jnp.where(is_inside, x, y), jnp.where(is_inside, log_slope, 0.0)

    return Elementwise(3 * num_bins - 1, forward, inverse)


def _knots(raw, limit):
    """Return K + 1 increasing knots from -limit to limit; every bin has at least the share LEAST of the interval."""
    num_bins = raw.shape[-1]
    least = min(LEAST, 0.5 / num_bins)
    shares = least + (1.0 - num_bins * least) * jax.nn.softmax(raw, axis=-1)
    inner = limit * (2.0 * jnp.cumsum(shares[..., :-1], axis=-1) - 1.0)
    return _padded(inner, -limit, limit)


def _padded(a, first, last):
    edge = a[..., :1] * 0.0 if a.shape[-1] else jnp.zeros((*a.shape[:-1], 1), a.dtype)
    return jnp.concatenate([edge + first, a, edge + last], axis=-1)


def _at_bin(x, knots, arrays):
    """Return the values of `arrays` [..., K + 1] at the left and at the right end of the bin of x."""
    above = (x[..., None] >= knots[..., 1:-1]).astype(x.dtype)  # of the inner knots, which of them x has passed
    ones = jnp.ones_like(x)[..., None]
    is_bin = jnp.concatenate([ones, above], -1) * jnp.concatenate([1.0 - above, ones], -1)
    pick = lambda a: jnp.sum(is_bin * a, axis=-1)  # noqa: E731
    return [pick(a[..., :-1]) for a in arrays], [pick(a[..., 1:]) for a in arrays]


def _quadratic(share, left, right):
    """Return y and log dy/dx at the share ξ of a bin, arXiv:1906.04032 eq. (4), (5)."""
    (x0, y0, d0), (x1, y1, d1) = left, right
    slope = (y1 - y0) / (x1 - x0)
    rest = share * (1.0 - share)
    below = slope + (d1 + d0 - 2.0 * slope) * rest
    y = y0 + (y1 - y0) * (slope * share**2 + d0 * rest) / below
    top = d1 * share**2 + 2.0 * slope * rest + d0 * (1.0 - share) ** 2
    return y, 2.0 * jnp.log(slope) + jnp.log(top) - 2.0 * jnp.log(below)


def _root(y, left, right):
    """Return the share ξ of a bin at which the spline is y, arXiv:1906.04032 eq. (6) to (8).

    Rounding may make the discriminant negative, which is clipped; the form 2c / (-b - √·) does not cancel.
    """
    (x0, y0, d0), (x1, y1, d1) = left, right
    slope, height, rise = (y1 - y0) / (x1 - x0), y1 - y0, y - y0
    bend = d1 + d0 - 2.0 * slope
    a = height * (slope - d0) + rise * bend
    b = height * d0 - rise * bend
    c = -slope * rise
    discriminant = jnp.maximum(b**2 - 4.0 * a * c, 1e-20)
    return jnp.clip(2.0 * c / (-b - jnp.sqrt(discriminant)), 0.0, 1.0)
