"""Pareto-smoothed importance sampling: can these importance weights be trusted?  arXiv:1507.02646."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp


class Smoothed(NamedTuple):
    """Log-weights [K] whose largest are replaced by quantiles of the fitted tail, and its shape k̂ [].

    k̂ < 0.5: the weights have a variance, and the estimate its usual error. k̂ < 0.7: still useful, with the smoothing.
    Above: the estimate is not to be trusted at this K, and q is a poor guess of the posterior. Equal weights have no
    tail: k̂ = -inf.
    """

    log_weights: jax.Array
    shape: jax.Array


def smooth(log_weights) -> Smoothed:
    """Fit a generalised Pareto distribution to the M = min(K/5, 3 √K) largest of K weights and put its quantiles
    (m - ½)/M in their place, none above the largest weight seen.  arXiv:1507.02646.

    Raises `ValueError` for fewer than 25 weights, which have no tail of five.
    """
    size = len(log_weights)
    if size < 25:
        raise ValueError(f"a tail needs at least 25 weights, got {size}")
    num_tail = int(min(size / 5, 3 * math.sqrt(size)))
    order = jnp.argsort(log_weights)
    shifted = log_weights[order] - jnp.max(log_weights)  # weights of at most 1
    cutoff = shifted[-num_tail - 1]
    excess = jnp.exp(shifted[-num_tail:]) - jnp.exp(cutoff)
    shape, scale = fit_tail(excess)
    probability = (jnp.arange(num_tail) + 0.5) / num_tail
    tail = jnp.minimum(jnp.log(jnp.exp(cutoff) + _quantile(probability, shape, scale)), 0.0)
    smoothed = shifted.at[-num_tail:].set(tail) + jnp.max(log_weights)
    equal = excess[-1] < 1e-5  # of the largest weight: an exact q, up to rounding
    smoothed = jnp.where(equal, log_weights, jnp.zeros_like(log_weights).at[order].set(smoothed))
    return Smoothed(smoothed, jnp.where(equal, -jnp.inf, shape))


def fit_tail(excess):
    """k̂ and σ̂ of a generalised Pareto distribution, (1 + k y/σ)^(-1/k-1)/σ, from its draws y > 0 in increasing order.

    The posterior mean of θ = -k/σ on a grid of profile likelihoods (Zhang and Stephens 2009), with k̂ then drawn
    towards ½ by a prior worth ten draws, arXiv:1507.02646.
    """
    size = len(excess)
    num_theta = 30 + int(math.sqrt(size))
    largest, quartile = excess[-1], excess[int(size / 4 + 0.5) - 1]
    theta = 1.0 / largest + (1.0 - jnp.sqrt(num_theta / (jnp.arange(1, num_theta + 1) - 0.5))) / (3.0 * quartile)
    shape = jnp.mean(jnp.log1p(-theta[:, None] * excess[None, :]), axis=1)
    profile = size * (jnp.log(-theta / shape) - shape - 1.0)
    best = jnp.sum(jax.nn.softmax(profile) * theta)
    shape = jnp.mean(jnp.log1p(-best * excess))
    return (shape * size + 10 * 0.5) / (size + 10), -shape / best


def _quantile(probability, shape, scale):
    """scale ((1 - p)^-k - 1) / k, which is -scale log(1 - p) at k = 0."""
    power = -jnp.log1p(-probability)
    safe = jnp.where(jnp.abs(shape) < 1e-6, 1.0, shape)
    return scale * jnp.where(jnp.abs(shape) < 1e-6, power, jnp.expm1(safe * power) / safe)
