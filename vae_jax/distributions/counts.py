"""Distributions of counts 0, 1, 2, ...: Poisson, negative binomial, and both with additional zeros.

Every entry is independent and has a mean of its own, given as a logarithm. Mass functions are computed from deviances
(C. Loader, "Fast and accurate computation of binomial probabilities", 2000, as in R's `dpois` and `dnbinom`):
log Γ of large counts, whose differences would lose the digits of float32, does not appear.
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.numerics import LOG_2PI
from vae_jax.support import Counts

LARGEST = 1e9  # of a draw, which is an int32


@struct.dataclass
class Poisson:
    """Independent Poisson counts of the means μ = exp(log_mean)."""

    log_mean: jax.Array

    support = Counts()

    def sample(self, key):
        return poisson(key, self.mean())

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return x log μ - μ - log x! of every entry, in nats: -½ log 2πx - S(x) - D(x, μ), and -μ at x = 0."""
        some = jnp.maximum(x, 1.0)
        log_p = -0.5 * (LOG_2PI + jnp.log(some)) - stirling_error(some) - _deviance(some, self.log_mean)
        return jnp.where(x > 0, log_p, -jnp.exp(self.log_mean))

    def mean(self):
        return jnp.exp(self.log_mean)


@struct.dataclass
class NegativeBinomial:
    """Independent negative binomial counts of mean μ and variance μ + μ²/θ, where θ = exp(log_theta).

    They are Poisson counts whose means have a Gamma distribution, as in arXiv:1709.02082.

    p(x) = Γ(x + θ) / (Γ(θ) x!) (θ / (θ + μ))^θ (μ / (θ + μ))^x. θ is the inverse dispersion; it has the shape of
    `log_mean`.
    """

    log_mean: jax.Array
    log_theta: jax.Array

    support = Counts()

    def sample(self, key):
        """Return a Poisson draw whose mean is drawn from Gamma(θ) μ/θ. Draws above 10⁹ are cut there."""
        key_gamma, key_poisson = jax.random.split(key)
        log_gamma = jax.random.loggamma(key_gamma, jnp.exp(self.log_theta))
        return poisson(key_poisson, jnp.exp(log_gamma + self.log_mean - self.log_theta))

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log p(x_d) of every entry, in nats; at x = 0 it is -θ log(1 + μ/θ).

        With n = x + θ: ½ log(θ / (2π n x)) + S(n) - S(θ) - S(x) - D(θ, nθ/(θ+μ)) - D(x, nμ/(θ+μ)).
        """
        some, theta = jnp.maximum(x, 1.0), jnp.exp(self.log_theta)
        log_x, n = jnp.log(some), some + theta
        log_n = jnp.log(n)
        log_share = log_n - jnp.logaddexp(self.log_theta, self.log_mean)  # n / (θ + μ)
        log_p = 0.5 * (self.log_theta - log_n - log_x - LOG_2PI)
        log_p += stirling_error(n) - stirling_error(theta) - stirling_error(some)
        log_p -= theta * _exponential_rest(log_share)
        log_p -= some * _exponential_rest(log_share + self.log_mean - log_x)
        return jnp.where(x > 0, log_p, -theta * jax.nn.softplus(self.log_mean - self.log_theta))

    def mean(self):
        return jnp.exp(self.log_mean)


@struct.dataclass
class ZeroInflated:
    """The distribution π δ_0 + (1 - π) p of every entry, π = σ(logits): `base` p with additional zeros.

    With a `NegativeBinomial` it is the likelihood of arXiv:1709.02082.
    """

    logits: jax.Array
    base: Any

    support = Counts()

    def sample(self, key):
        key_zero, key_base = jax.random.split(key)
        return jnp.where(jax.random.bernoulli(key_zero, jax.nn.sigmoid(self.logits)), 0.0, self.base.sample(key_base))

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log p(x_d) of every entry, in nats."""
        log_p = self.base.log_probs(x) - jax.nn.softplus(self.logits)  # log (1 - π) p(x)
        return jnp.where(x > 0, log_p, jnp.logaddexp(-jax.nn.softplus(-self.logits), log_p))

    def mean(self):
        return jax.nn.sigmoid(-self.logits) * self.base.mean()


def poisson(key, mean):
    """Draw counts, float32. Keys of other kinds than threefry, which `jax.random.poisson` refuses, give their words."""
    key = jax.random.wrap_key_data(jax.random.key_data(key)[:2], impl="threefry2x32")
    return jax.random.poisson(key, jnp.minimum(mean, LARGEST)).astype(jnp.float32)


def stirling_error(x):
    """Return S(x) = log Γ(x + 1) - (x + ½) log x + x - ½ log 2π for x > 0: small, and about 1/(12 x) for large x."""
    small, large = jnp.minimum(x, 8.0), jnp.maximum(x, 8.0)
    exact = jax.scipy.special.gammaln(small + 1.0) - (small + 0.5) * jnp.log(small) + small - 0.5 * LOG_2PI
    square = 1.0 / (large * large)
    series = (1 / 12 - (1 / 360 - (1 / 1260 - square / 1680) * square) * square) / large
    return jnp.where(x < 8.0, exact, series)


def _deviance(x, log_mean):
    """Return D(x, m) = x log(x/m) + m - x."""
    return x * _exponential_rest(log_mean - jnp.log(x))


def _exponential_rest(d):
    """Return eᵈ - 1 - d, without cancellation near 0."""
    near = jnp.clip(d, -0.1, 0.1)
    series = near * near * (1 / 2 + near * (1 / 6 + near * (1 / 24 + near * (1 / 120 + near / 720))))
    return jnp.where(jnp.abs(d) < 0.1, series, jnp.expm1(d) - d)
