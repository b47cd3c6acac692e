"""The joint distribution of the latents of a deep hierarchy, drawn from the top down by one network."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.distributions.normal import Normal
from vae_jax.support import Real


@struct.dataclass
class Hierarchy:
    """The distribution Π_l `p(z_l | z_above)`, or Π_l `q(z_l | z_above, x)`, of normal latents z.

    z is a tuple of arrays [N, ...], where N equal levels share an array. The top level is drawn first and comes last.

    Attributes:
      params: of the network, which all examples share.
      features: of one example x, for q; None for p.
      walk: (params, features, noise, z) -> z, the log-densities [L] of all levels, and their (μ, σ) as tuples like z.
        It draws z from `noise`, tuples of standard normal arrays, or takes `z`; the other one is None.
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
        z, log_probs, _ = self.walk(self.params, self.features, noise(key, self.shapes), None)
        return z, jnp.sum(log_probs)

    def log_prob(self, z):
        """Return Σ_l of the log-densities of the levels, in nats."""
        return jnp.sum(self.walk(self.params, self.features, None, z)[1])

    def mean(self):
        """Return the ancestral mean: every level's mean given the means above it."""
        return self.walk(self.params, self.features, tuple(jnp.zeros(shape) for shape in self.shapes), None)[0]

    def conditional(self, level, above):
        """Return `p(z_level | z_above)`, a `Normal`, for codes such as that of arXiv:1912.09953.

        Level 0 is z_1; `above` are the levels above, the top first.
        """
        places = levels(self.shapes)
        known = dict(zip(reversed(range(level + 1, len(places))), above, strict=True))
        each = [known.get(n, jnp.zeros(self.shapes[place][1:])) for n, (place, _) in enumerate(places)]
        _, _, (loc, scale) = self.walk(self.params, self.features, None, joined(self.shapes, each))
        place, index = places[level]
        return Normal(loc[place][index], jnp.log(scale[place][index]))


def noise(key, shapes) -> tuple:
    """Return standard normal arrays of `shapes`."""
    keys = jax.random.split(key, len(shapes))
    return tuple(jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True))


def levels(shapes) -> list:
    """Return the places (array, index) of all levels in arrays of `shapes`, z_1 first."""
    return [(place, index) for place, shape in enumerate(shapes) for index in range(shape[0])]


def joined(shapes, each) -> tuple:
    """Return z, arrays of `shapes`, from its levels one by one, z_1 first."""
    arrays = [[] for _ in shapes]
    for (place, _), level in zip(levels(shapes), each, strict=True):
        arrays[place].append(level)
    return tuple(map(jnp.stack, arrays))
