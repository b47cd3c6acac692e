"""Distribution functions of mixtures as monotone maps to a standard normal variable."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import log_ndtr, ndtri

from vae_jax.bijectors.elementwise import Elementwise
from vae_jax.numerics import LOG_2PI, soft_clip, straight_through
from vae_jax.spec import integers

FLOOR = 1e-3  # the weight of the uniform component: it keeps the inverse within float32, and costs so many nats
HALVINGS = 32
LOG_SCALES = (-3.0, 2.0)  # of logistics over the reals
TINY = 1e-9
MOST_MEAN = 1.02  # of a component of levels, which lie in [-1, 1)
FAR = 60.0  # nats of a tail probability, beyond which its asymptotic form is exact to float32


def mixture(*, num_components=4) -> Elementwise:
    """Return y = Φ⁻¹(F(x)), F the distribution function of a mixture of logistics.  arXiv:1902.00275 eq. (14), (15).

    Φ is that of N(0, 1). The paper maps by the logit of F and then by an affine map. Three parameters for each
    component: weights, means and scales. The inverse is found by bisection, and Newton's method gives its gradient.
    """
    integers(num_components=num_components, at_most=64)
    low, high = LOG_SCALES
    first = np.zeros(1) if num_components == 1 else np.linspace(-1.0, 1.0, num_components)

    def components(raw):
        logits, means, scales = (raw[..., k * num_components : (k + 1) * num_components] for k in range(3))
        log_scales = 0.5 * (low + high) + soft_clip(scales, 0.5 * (high - low))
        return jax.nn.log_softmax(logits, axis=-1), _over(first, means) + means, log_scales

    def logs(x, parts):
        """Return the logarithms of F(x), of 1 - F(x), and of the density."""
        log_weights, means, log_scales = parts
        z = (x[..., None] - means) * jnp.exp(-log_scales)
        log_below, log_above = jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)
        sums = (log_below, log_above, log_below + log_above - log_scales)
        return tuple(jax.nn.logsumexp(log_weights + a, axis=-1) for a in sums)

    def forward(x, raw):
        return _to_normal(*logs(x, components(raw)))

    def inverse(y, raw):
        parts = components(raw)
        logit = _logit_of_normal(y)
        quantiles = parts[1] + jnp.exp(parts[2]) * logit[..., None]  # of each component; F's own is between them
        x = _solve(logs, parts, logit, jnp.min(quantiles, axis=-1), jnp.max(quantiles, axis=-1))
        return x, _to_normal(*logs(x, parts))[1]

    return Elementwise(3 * num_components, forward, inverse)


def levels_mixture(num_levels, *, num_components=4) -> Elementwise:
    """Return y = Φ⁻¹(F(x)) for dequantised levels: x in [-1, 1), V = `num_levels` intervals of length 2 / V.

    F is the distribution function of a mixture of logistics, cut at both ends, arXiv:1902.00275 eq. (14), and of three
    uniform components. These are the first level, the last level, and all levels, with the fixed weight 0.001. Images
    have many pixels at both ends, and smooth functions spend about 0.1 nats on each of them.

    Three parameters for each logistic, and two weights. The inverse is found by bisection; it lies in [-1, 1].
    """
    integers(num_components=num_components, at_most=64)
    integers(num_levels=num_levels, at_least=2)
    width = 2.0 / num_levels
    low, high = math.log(width / 2.0), 0.5
    means_at_start = (np.arange(num_components) + 0.5) / num_components * 2.0 - 1.0
    offsets = MOST_MEAN * np.arctanh(means_at_start / MOST_MEAN)
    starts, lengths = np.asarray([-1.0, 1.0 - width, -1.0]), np.asarray([width, width, 2.0])  # of uniform components

    def components(raw):
        logits, rest = raw[..., : num_components + 2], raw[..., num_components + 2 :]
        means, scales = rest[..., :num_components], rest[..., num_components:]
        means = soft_clip(_over(offsets, means) + means, MOST_MEAN)
        slopes = jnp.exp(-0.5 * (low + high) - soft_clip(scales, 0.5 * (high - low)))
        weights = (1.0 - FLOOR) * jax.nn.softmax(logits, axis=-1)
        floor = jnp.full_like(weights[..., :1], FLOOR)
        return weights[..., 2:], jnp.concatenate([weights[..., :2], floor], -1), means, slopes

    def logs(x, parts):
        """Return the logarithms of F(x), of 1 - F(x), and of the density; none of them is near 0.

        Each logistic is cut at -1 and 1. With z = (x - μ) s, σ(z) - σ(z₀) = σ(z) σ(-z₀) (1 - exp(z₀ - z)), which does
        not cancel.
        """
        weights, ends, means, slopes = parts
        x = x[..., None]
        below, above = jax.nn.sigmoid((x - means) * slopes), jax.nn.sigmoid((means - x) * slopes)
        before, after = jax.nn.sigmoid((means + 1.0) * slopes), jax.nn.sigmoid((1.0 - means) * slopes)
        whole = -jnp.expm1(-2.0 * slopes)
        left, right = -jnp.expm1(-(x + 1.0) * slopes), -jnp.expm1(-(1.0 - x) * slopes)
        start, length = _over(starts, ends), _over(lengths, ends)
        place = (x - start) / length
        inside = (place >= 0.0) & (place < 1.0)
        share, rest = jnp.clip(place, TINY, 1.0), jnp.clip((start + length - x) / length, TINY, 1.0)
        lower = jnp.sum(weights * below * left / (after * whole), -1) + jnp.sum(ends * share, -1)
        upper = jnp.sum(weights * above * right / (before * whole), -1) + jnp.sum(ends * rest, -1)
        density = jnp.sum(weights * below * above * slopes / (before * after * whole), -1)
        density += jnp.sum(ends * inside / length, -1)
        return jnp.log(lower), jnp.log(upper), jnp.log(density)

    def forward(x, raw):
        return _to_normal(*logs(x, components(raw)))

    def inverse(y, raw):
        parts = components(raw)
        x = _solve(logs, parts, _logit_of_normal(y), jnp.full_like(y, -1.0), jnp.full_like(y, 1.0))
        return x, _to_normal(*logs(x, parts))[1]

    return Elementwise(3 * num_components + 2, forward, inverse)


def _over(constants, like):
    """Return constants [N] as an array that broadcasts over `like` [..., N]."""
    return jnp.reshape(jnp.asarray(constants, like.dtype), (1,) * (like.ndim - 1) + (-1,))


def _to_normal(log_below, log_above, log_density):
    """Return z = Φ⁻¹(F) and log dz/dx = log F' - log φ(z)."""
    z = normal_of_logit(log_below - log_above)
    return z, log_density + 0.5 * (jnp.square(z) + LOG_2PI)


@jax.custom_jvp
def normal_of_logit(logit):
    """Return z with Φ(z) = σ(logit), exact to float32 in both tails, where a probability would round to 0 or 1."""
    size = jnp.abs(logit)
    tail = jax.nn.softplus(size)  # -log of the smaller probability
    near = -ndtri(jnp.exp(-jnp.minimum(tail, FAR)))
    far = jnp.maximum(tail, FAR) - 0.5 * LOG_2PI
    z = jnp.sqrt(2.0 * far)
    for _ in range(3):  # of log Φ(-z) = -z²/2 - log z - ½ log 2π + log (1 - z⁻² + 3 z⁻⁴ - ...)
        z = jnp.sqrt(2.0 * (far - jnp.log(z) - 1.0 / jnp.square(z)))
    z = jnp.where(tail < FAR, near, z)
    # One step of Newton's method for log Φ(z) - log Φ(-z), as the inverse map computes it, removes the rounding.
    log_tail = log_ndtr(-z)
    log_rest = jnp.log1p(-jnp.exp(log_tail))
    log_slope = -log_tail - log_rest - 0.5 * (jnp.square(z) + LOG_2PI)
    z = z - (log_rest - log_tail - size) * jnp.exp(-log_slope)
    return jnp.sign(logit) * z


@normal_of_logit.defjvp
def _normal_of_logit_jvp(primals, tangents):
    (logit,), (tangent,) = primals, tangents
    z = normal_of_logit(logit)
    log_slope = jax.nn.log_sigmoid(logit) + jax.nn.log_sigmoid(-logit) + 0.5 * (z * z + LOG_2PI)
    return z, jnp.exp(log_slope) * tangent


def _logit_of_normal(z):
    """Return log Φ(z) - log Φ(-z)."""
    tail = log_ndtr(-jnp.abs(z))
    return jnp.sign(z) * (jnp.log1p(-jnp.exp(tail)) - tail)


def _solve(logs, parts, logit, low, high):
    """Return x with logit F(x) = `logit`, between `low` and `high`, with the gradient of the implicit function."""
    x = _bisect(logs, *jax.lax.stop_gradient((parts, logit, low, high)))
    log_below, log_above, log_density = logs(x, parts)
    log_slope = jax.lax.stop_gradient(log_density - log_below - log_above)  # of logit F
    return x - straight_through(0.0, log_below - log_above - logit) * jnp.exp(-log_slope)


def _bisect(logs, parts, logit, low, high):
    def halve(_, bracket):
        low, high = bracket
        middle = 0.5 * (low + high)
        log_below, log_above, _ = logs(middle, parts)
        over = log_below - log_above > logit
        return jnp.where(over, low, middle), jnp.where(over, middle, high)

    low, high = jax.lax.fori_loop(0, HALVINGS, halve, (low, high))
    return 0.5 * (low + high)
