"""Distributions of real numbers in [0, 1]: continuous Bernoulli and beta."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.support import Unit

NEAR = 0.5  # |logit| below which the normaliser is a Taylor series
END = 2.0**-17  # half a step of dequantised values: a beta density is not evaluated nearer to 0 or 1


@struct.dataclass
class ContinuousBernoulli:
    """Independent continuous Bernoullis, p(x) = C(λ) λˣ (1 - λ)^(1 - x) on [0, 1], λ = σ(logits).  arXiv:1907.06845.

    It is the Bernoulli likelihood of grey values with its normaliser, log C = log(l / tanh(l/2)) with the logit l.
    """

    logits: jax.Array

    support = Unit()

    def sample(self, key):
        """Return the inverse of the distribution function at a uniform u: 1 + log(u + (1 - u) e^-l) / l for l > 0."""
        u = jax.random.uniform(key, jnp.shape(self.logits), minval=jnp.finfo(jnp.float32).tiny)
        size = jnp.maximum(jnp.abs(self.logits), 1e-3)  # below, x is uniform up to 1e-3 / 8
        x = jnp.clip(1.0 + jnp.log(u + (1.0 - u) * jnp.exp(-size)) / size, 0.0, 1.0)
        return jnp.where(self.logits < 0, 1.0 - x, x)

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return x l - softplus(l) + log C of every entry, in nats; at l = 0, log C = log 2 + log(1 + l²/12 - ...)."""
        near = jnp.square(jnp.clip(self.logits, -NEAR, NEAR))
        series = jnp.log(2.0) + jnp.log1p(near / 12 * (1 - near / 60 * (1 - near / 42)))
        far = jnp.maximum(jnp.abs(self.logits), NEAR)
        log_c = jnp.where(jnp.abs(self.logits) < NEAR, series, jnp.log(far) - jnp.log(jnp.tanh(0.5 * far)))
        return x * self.logits - jax.nn.softplus(self.logits) + log_c

    def mean(self):
        """Return 1 / (1 - e^-l) - 1 / l."""
        near = jnp.clip(self.logits, -NEAR, NEAR)
        series = 0.5 + near / 12 * (1 - jnp.square(near) / 60 * (1 - jnp.square(near) / 42))
        far = jnp.where(jnp.abs(self.logits) < NEAR, NEAR, self.logits)
        return jnp.where(jnp.abs(self.logits) < NEAR, series, -1.0 / jnp.expm1(-far) - 1.0 / far)


@struct.dataclass
class Beta:
    """Independent beta distributions, p(x) = x^(a-1) (1-x)^(b-1) / B(a, b) on (0, 1); a, b = exp(log_a), exp(log_b).

    Values within 2⁻¹⁷ of 0 or 1, where the density may be zero or infinite, are moved to this distance.
    """

    log_a: jax.Array
    log_b: jax.Array

    support = Unit(open=True)

    def sample(self, key):
        x = jax.random.beta(key, jnp.exp(self.log_a), jnp.exp(self.log_b))
        return jnp.clip(x, END, 1.0 - END)

    def log_prob(self, x):
        return jnp.sum(self.log_probs(x))

    def log_probs(self, x):
        """Return log p(x_d) of every entry, in nats."""
        a, b, x = jnp.exp(self.log_a), jnp.exp(self.log_b), jnp.clip(x, END, 1.0 - END)
        return (a - 1.0) * jnp.log(x) + (b - 1.0) * jnp.log1p(-x) - jax.scipy.special.betaln(a, b)

    def mean(self):
        return jax.nn.sigmoid(self.log_a - self.log_b)
