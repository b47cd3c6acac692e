"""Pareto-smoothed importance sampling, which tells if importance weights can be trusted, arXiv:1507.02646.

Everything is computed from logarithms, so weights may differ by thousands of nats without underflow.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.numerics import log1mexp

LEAST_TAIL = 5  # weights: the shape of a shorter tail cannot be estimated
LEAST_WEIGHTS = 25
FLAT = 1e-4  # |s| below this value is replaced by it: the formulas divide by zero at s = 0


class Smoothed(NamedTuple):
    """Smoothed log-weights [K], whose largest are replaced by quantiles of the fitted tail, and its shape k̂.

    If k̂ < 0.5, the weights have a finite variance and the estimate its usual error. If k̂ < 0.7, the estimate is useful
    after smoothing. Above 0.7 it cannot be trusted at this K, and q is a poor approximation of the posterior. Equal
    weights have no tail: k̂ = -inf. If a few weights dominate all others, no tail can be fitted: k̂ = inf, and the
    weights are not smoothed.
    """

    log_weights: jax.Array
    shape: jax.Array


def smooth(log_weights) -> Smoothed:
    """Fit a generalised Pareto distribution to the M = ⌈min(K/5, 3 √K)⌉ largest of K weights, and smooth them.

    The quantiles (m - ½)/M of the distribution replace the M weights, but never exceed the largest weight,
    arXiv:1507.02646. The tail has only weights above the next largest one, so ties may shorten it; it needs five. A
    weight of 0, with the log-weight -inf, stays 0. Raises `ValueError` for fewer than 25 weights.
    """
    size = len(log_weights)
    if size < LEAST_WEIGHTS:
        raise ValueError(f"a tail needs at least {LEAST_WEIGHTS} weights, got {size}")
    num_tail = math.ceil(min(size / 5, 3 * math.sqrt(size)))
    order = jnp.argsort(log_weights)
    largest = jnp.max(log_weights)
    shifted = log_weights[order] - largest  # weights of at most 1
    cutoff, tail = shifted[-num_tail - 1], shifted[-num_tail:]
    count = jnp.sum(tail > cutoff)
    log_excess = tail + log1mexp(tail - cutoff)
    shape, log_scale = _fit(log_excess, count)
    inside = jnp.arange(num_tail) >= num_tail - count
    probability = (jnp.arange(num_tail) - (num_tail - count) + 0.5) / jnp.maximum(count, 1)
    quantile = log_scale + _log_quantile(jnp.where(inside, probability, 0.5), shape)
    smoothed = jnp.where(inside, jnp.minimum(jnp.logaddexp(cutoff, quantile), 0.0), tail)
    smoothed = jnp.zeros_like(log_weights).at[order].set(shifted.at[-num_tail:].set(smoothed) + largest)
    equal = -jnp.expm1(cutoff) < 1e-5  # of the largest weight: an exact q, up to rounding
    fitted = (count >= LEAST_TAIL) & ~equal
    return Smoothed(
        jnp.where(fitted, smoothed, log_weights),
        jnp.where(fitted, shape, jnp.where(equal, -jnp.inf, jnp.inf)),
    )


def fit_tail(excess):
    """Estimate k and σ of a generalised Pareto distribution, (1 + k y/σ)^(-1/k-1)/σ.

    `excess` are its draws y > 0 in increasing order. The estimate is the posterior mean of θ = -k/σ on a grid of
    profile likelihoods (Zhang and Stephens 2009). A prior with the weight of ten draws then moves k̂ towards ½,
    arXiv:1507.02646.
    """
    shape, log_scale = _fit(jnp.log(excess), len(excess))
    return shape, jnp.exp(log_scale)


def _fit(log_excess, count):
    """Return k̂ and log σ̂ from the last `count` of the logarithms [M], in increasing order.

    Let y_M be the largest draw, y_q the first quartile, r = log y_M - log y_q and u = y / y_M. The grid of Zhang and
    Stephens is -θ_j y_M = e^{s_j} - 1 with s_j = r + log a_j and a_j = (√(J / (j - ½)) - 1) / 3. In this form nothing
    overflows for large r.
    """
    size = len(log_excess)
    inside = jnp.arange(size) >= size - count
    mean = lambda values: jnp.sum(jnp.where(inside, values, 0.0)) / count  # noqa: E731
    log_u = jnp.where(inside, log_excess - log_excess[-1], 0.0)
    j = jnp.arange(1, 31 + math.isqrt(size))
    num_theta = 30.0 + jnp.floor(jnp.sqrt(jnp.asarray(count, log_u.dtype)))
    spread = jnp.where(j <= num_theta, (jnp.sqrt(num_theta / (j - 0.5)) - 1.0) / 3.0, 1.0)
    ratio = -log_u[jnp.clip(size - count + (count + 2) // 4 - 1, 0, size - 1)]

    def shape_of(s):
        """Return k = mean log(1 - θ y), log |θ y_M| and mean log |θ y / (1 - θ y)| at one s."""
        s = jnp.where(jnp.abs(s) < FLAT, FLAT, s)
        above = jnp.maximum(s, FLAT)
        log_b = above + log1mexp(above)
        product = log_b + log_u  # log (-θ y)
        b = jnp.expm1(jnp.minimum(s, -FLAT))
        below = jnp.log1p(b * jnp.exp(log_u))
        log_below = jnp.log(-b)
        positive = s > 0
        k = jnp.where(positive, mean(jax.nn.softplus(product)), mean(below))
        share = jnp.where(positive, -mean(jax.nn.softplus(-product)), log_below + mean(log_u - below))
        return k, jnp.where(positive, log_b, log_below), share

    k, _, share = jax.vmap(shape_of)(ratio + jnp.log(spread))
    profile = jnp.where(j <= num_theta, count * (share - jnp.log(jnp.abs(k))), -jnp.inf)
    best = ratio + jnp.log(jnp.sum(jax.nn.softmax(profile) * spread))
    k, log_theta, _ = shape_of(best)
    log_scale = jnp.log(jnp.abs(k)) - log_theta + log_excess[-1]
    return (k * count + 10 * 0.5) / (count + 10), log_scale


def _log_quantile(probability, shape):
    """Return log (((1 - p)^-k - 1) / k), whose limit at k = 0 is log(-log(1 - p))."""
    power = -jnp.log1p(-probability)
    flat = jnp.abs(shape) < 1e-6
    size = jnp.where(flat, 1.0, jnp.abs(shape))
    growth = size * power
    heavy, light = growth + log1mexp(growth), log1mexp(growth)  # log(e^g - 1), log(1 - e^-g)
    return jnp.where(flat, jnp.log(power), jnp.where(shape > 0, heavy, light) - jnp.log(size))
