"""Vectors as images, and images as vectors."""

from typing import Any

from flax import struct


@struct.dataclass
class Reshaped:
    """A distribution `base` over vectors, or over events of its own `event_shape`, as one over events of another shape.

    `event_shape` is that shape; entries are taken row by row.
    """

    base: Any
    event_shape: tuple = struct.field(pytree_node=False)

    @property
    def support(self):
        return self.base.support

    def sample(self, key):
        return self.base.sample(key).reshape(self.event_shape)

    def complete(self, key, x, num_given):
        """Draw from p(x | its first `num_given` dimensions), if the base can."""
        return self.base.complete(key, self._of_base(x), num_given).reshape(self.event_shape)

    def log_prob(self, x):
        return self.base.log_prob(self._of_base(x))

    def mean(self):
        return self.base.mean().reshape(self.event_shape)

    def _of_base(self, x):
        return x.reshape(getattr(self.base, "event_shape", -1))
