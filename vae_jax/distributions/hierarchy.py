"""The joint distribution of the latents of a deep hierarchy, drawn from the top down by one network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.support import Real


@struct.dataclass
class Hierarchy:
    """The distribution Π_l `p(z_l | z_above)`, or Π_l `q(z_l | z_above, x)`, of normal latents z.

    z is a tuple of arrays [N, ...], where N equal levels share an array. The top level is drawn first and comes last.

    Attributes:
      params: of the network, which all examples share.
      features: of one example x, for q; None for p.
      walk: (params, features, noise, z) -> z and the log-densities [L] of all levels. It draws z from `noise`, tuples
        of standard normal arrays, or takes `z`; the other one is None.
      shapes: the shapes of the arrays of z.
    """

    params: Any
    features: Any
    walk: Callable = struct.field(pytree_node=False)
    shapes: tuple = struct.field(pytree_node=False)

    @property
    def support(self):
        return (Real(),) * len(self.shapes)

    def sample(self, key):
        return self.sample_and_log_prob(key)[0]

    def sample_and_log_prob(self, key):
        z, log_probs = self.walk(self.params, self.features, noise(key, self.shapes), None)
        return z, jnp.sum(log_probs)

    def log_prob(self, z):
        """Return Σ_l of the log-densities of the levels, in nats."""
        return jnp.sum(self.walk(self.params, self.features, None, z)[1])

    def mean(self):
        """Return the ancestral mean: every level's mean given the means above it."""
        return self.walk(self.params, self.features, tuple(jnp.zeros(shape) for shape in self.shapes), None)[0]


def noise(key, shapes) -> tuple:
    """Return standard normal arrays of `shapes`."""
    keys = jax.random.split(key, len(shapes))
    return tuple(jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))
