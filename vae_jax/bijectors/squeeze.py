"""Maps that move entries and change none: squares of pixels become channels, images become vectors."""

import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Squeeze:
    """The map [H, W, C] -> [H/b, W/b, b² C] of squares of b x b pixels, b = `block`, arXiv:1605.08803 sec. 3.6.

    With `nested`, the channels of a square come in the order of lattices, coarse before fine. The first one is the
    corner of the square. Each later group of channels doubles the number of pixels, and lies between them.
    """

    block: int = struct.field(pytree_node=False, default=2)
    nested: bool = struct.field(pytree_node=False, default=False)

    def forward_and_log_det(self, x):
        height, width, channels = x.shape
        b = self.block
        y = x.reshape(height // b, b, width // b, b, channels).transpose(0, 2, 1, 3, 4)
        y = y.reshape(height // b, width // b, b * b, channels)[:, :, self._order()]
        return y.reshape(height // b, width // b, b * b * channels), jnp.zeros(())

    def inverse_and_log_det(self, y):
        height, width, depth = y.shape
        b, channels = self.block, depth // self.block**2
        x = y.reshape(height, width, b * b, channels)[:, :, np.argsort(self._order())]
        x = x.reshape(height, width, b, b, channels).transpose(0, 2, 1, 3, 4)
        return x.reshape(height * b, width * b, channels), jnp.zeros(())

    def _order(self):
        if not self.nested:
            return np.arange(self.block**2)
        return np.argsort([_fineness(i, j) for i, j in np.ndindex(self.block, self.block)], kind="stable")


@struct.dataclass
class Flatten:
    """The map of an array of `shape` to a vector."""

    shape: tuple = struct.field(pytree_node=False)

    def forward_and_log_det(self, x):
        return x.reshape(-1), jnp.zeros(())

    def inverse_and_log_det(self, y):
        return y.reshape(self.shape), jnp.zeros(())


def _fineness(i, j):
    """Return 0 for pixel (0, 0), and for others how fine the lattice is to which the pixel belongs first."""
    if i == j == 0:
        return 0
    halvings = 0
    while i % 2 == 0 and j % 2 == 0:
        i, j, halvings = i // 2, j // 2, halvings + 1
    return 100 - 2 * halvings - (0 if (i + j) % 2 else 1)
