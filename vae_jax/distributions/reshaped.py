"""Vectors as events of another shape."""

from typing import Any

import jax.numpy as jnp
from flax import struct


@struct.dataclass
class Reshaped:
    """A distribution over vectors, `base`, as one over events of the shape `event_shape` (an image), row by row."""

    base: Any
    event_shape: tuple = struct.field(pytree_node=False)

    @property
    def support(self):
        return self.base.support

    def sample(self, key):
        return self.base.sample(key).reshape(self.event_shape)

    def complete(self, key, x, num_given):
        """A draw given its first `num_given` dimensions, where the base has such."""
        return self.base.complete(key, jnp.ravel(x), num_given).reshape(self.event_shape)

    def log_prob(self, x):
        return self.base.log_prob(jnp.ravel(x))

    def mean(self):
        return self.base.mean().reshape(self.event_shape)
