"""Mixtures of distributions of one kind."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Mixture:
    """The distribution p(x) = Σ_k π_k p_k(x),  π = softmax(logits) [K].

    `components` is a distribution whose arrays lead with K.

    A draw has the gradient of its component's parameters, but not of the logits, which only choose. A pathwise gradient
    of an expectation under a mixture is therefore biased; `objectives.stratified_elbo` sums over the choice instead.
    """

    logits: jax.Array
    components: Any

    @property
    def support(self):
        return self.components.support

    def sample(self, key):
        key_choice, key_component = jax.random.split(key)
        choice = jax.random.categorical(key_choice, self.logits)
        return jax.tree.map(lambda a: jnp.take(a, choice, axis=0), self.components).sample(key_component)

    def log_prob(self, x):
        """Return log Σ_k π_k p_k(x), in nats."""
        return jax.nn.logsumexp(self.log_joint(x))

    def log_joint(self, x):
        """Return log π_k p_k(x) [K], nats. Minus log p(x) it is log p(k|x), the log-responsibilities."""
        log_probs = jax.vmap(lambda component: component.log_prob(x))(self.components)
        return self.log_weights() + log_probs

    def log_weights(self):
        """Return log π [K]."""
        return jax.nn.log_softmax(self.logits)

    def mean(self):
        """Return Σ_k π_k E_k[x]."""
        means = jax.vmap(lambda component: component.mean())(self.components)
        return jnp.tensordot(jnp.exp(self.log_weights()), means, axes=1)
