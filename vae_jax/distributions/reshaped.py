"""Vectors as images, images as vectors, and images whose pixels come in squares."""

from typing import Any

import numpy as np
from flax import struct

from vae_jax.bijectors.squeeze import from_squares, in_squares, turned


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
        return self.from_base(self.base.sample(key))

    def complete(self, key, x, num_given):
        """Draw from p(x | its first `num_given` dimensions), if the base can."""
        return self.from_base(self.base.complete(key, self.to_base(x), num_given))

    def log_prob(self, x):
        return self.base.log_prob(self.to_base(x))

    def mean(self):
        return self.from_base(self.base.mean())

    def to_base(self, x):
        """Return the event x as one of the base."""
        return x.reshape(getattr(self.base, "event_shape", -1))

    def from_base(self, y):
        """Return the event of the base as x."""
        return y.reshape(self.event_shape)


@struct.dataclass
class Squares(Reshaped):
    """A distribution `base` over images [H/b, W/b, b² C], as one over images [H, W, C]; b = `block`.

    A pixel of the base is a square of b x b pixels; its channels are theirs, row by row. Before, the image is turned by
    `turns` quarter turns against the clock: a raster scan of the base then begins at another corner.
    """

    block: int = struct.field(pytree_node=False, default=2)
    turns: int = struct.field(pytree_node=False, default=0)

    def complete(self, key, x, num_given):
        """Draw from p(x | its first `num_given` pixels): a known number, of whole rows of squares."""
        row = self.block * self.event_shape[1]
        if not isinstance(num_given, int | np.integer) or num_given % row:
            raise ValueError(
                f"num_given must be a whole number of rows of squares of {self.block}x{self.block} pixels, that is a "
                f"multiple of {row}, got {num_given}"
            )
        if self.turns and num_given:
            raise ValueError(
                f"the first {num_given} pixels of an image do not come first in this model: it scans images after "
                f"{self.turns} quarter turns; use tasks.restore"
            )
        return self.from_base(self.base.complete(key, self.to_base(x), num_given // self.block**2))

    def to_base(self, x):
        return in_squares(turned(x, self.turns), self.block)

    def from_base(self, y):
        return turned(from_squares(y, self.block), -self.turns)
