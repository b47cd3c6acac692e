"""Continuous relaxations of coin flips and categories: the Concrete distribution, arXiv:1611.00712, on the log scale.

A relaxed bit σ(y) often rounds to 0 or 1, where its density is lost. The event is therefore its logit y (for
categories, the logarithm of the point on the simplex), as in arXiv:1611.00712 app. C.3. KL terms do not depend on this
choice if it is the same for q and p. `soft(y)` is the relaxed draw. `hard(y)` is the discrete draw for the same noise:
it equals the draw of the unrelaxed distribution for the same key.
"""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.discrete import Bernoulli, OneHot
from vae_jax.support import Real


@struct.dataclass
class RelaxedBernoulli:
    """The distribution of y = (logits + logistic noise) / temperature.

    σ(y) tends to a Bernoulli draw as the temperature falls.
    """

    logits: jax.Array
    temperature: jax.Array

    support = Real()

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        # Minus: logistic noise is symmetric, and this sign makes y > 0 exactly where `jax.random.bernoulli` draws a 1.
        noise = jax.random.logistic(key, self.logits.shape, self.logits.dtype)
        return (self.logits - noise) / self.temperature, self._log_prob(noise)

    def log_prob(self, y):
        """Σ_d log τ + u_d - 2 softplus(u_d),  u = logits - τ y: a logistic density of location l/τ and scale 1/τ."""
        return self._log_prob(self.logits - self.temperature * y)

    def _log_prob(self, noise):
        return jnp.sum(jnp.log(self.temperature) + noise - 2.0 * jax.nn.softplus(noise))

    def mean(self):
        """Return E[y] = logits / τ, on the scale of the event."""
        return self.logits / self.temperature

    def soft(self, y):
        return jax.nn.sigmoid(y)

    def hard(self, y):
        return (y > 0).astype(self.logits.dtype)


@struct.dataclass
class RelaxedOneHot:
    """The distribution of y = log softmax((logits + Gumbel noise) / temperature) over the last axis.

    y and the logits have the shape [*event, V].
    """

    logits: jax.Array
    temperature: jax.Array

    support = Real()

    def sample(self, key):
        noise = jax.random.gumbel(key, self.logits.shape, self.logits.dtype)
        return jax.nn.log_softmax((self.logits + noise) / self.temperature)

    def log_prob(self, y):
        """Σ_d log (V-1)! + (V-1) log τ + Σ_v u_dv - V log Σ_v exp(u_dv),  u = logits - τ y.  arXiv:1611.00712 app. C.3.

        With respect to the simplex, the density of exp(y) is this divided by Π_v exp(y_v).
        """
        size = self.logits.shape[-1]
        u = self.logits - self.temperature * y
        constant = jax.scipy.special.gammaln(float(size)) + (size - 1) * jnp.log(self.temperature)
        return jnp.sum(constant + jnp.sum(u, axis=-1) - size * jax.nn.logsumexp(u, axis=-1))

    def soft(self, y):
        return jnp.exp(y)

    def hard(self, y):
        return jax.nn.one_hot(jnp.argmax(y, axis=-1), y.shape[-1], dtype=y.dtype)


def relax(distribution, temperature):
    """Return the relaxation of a Bernoulli or one-hot distribution at `temperature` > 0; else raise `TypeError`."""
    relaxed = {Bernoulli: RelaxedBernoulli, OneHot: RelaxedOneHot}.get(type(distribution))
    if relaxed is None:
        raise TypeError(f"no relaxation of {type(distribution).__name__} (allowed: Bernoulli, OneHot)")
    return relaxed(distribution.logits, temperature)
