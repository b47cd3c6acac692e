"""Maps that move entries and change none: squares of pixels become channels, images become vectors."""

import itertools

import jax.numpy as jnp
import numpy as np
from flax import struct


@struct.dataclass
class Squeeze:
    """The map [H, W, C] -> [H/b, W/b, b² C] of squares of b x b pixels, b = `block`, arXiv:1605.08803 sec. 3.6.

    The channels are those of the pixels of a square, row by row. `order` is a permutation of them, or () for none.
    """

    block: int = struct.field(pytree_node=False, default=2)
    order: tuple = struct.field(pytree_node=False, default=())

    def forward_and_log_det(self, x):
        y = in_squares(x, self.block)
        return y[..., np.asarray(self.order)] if self.order else y, jnp.zeros(())

    def inverse_and_log_det(self, y):
        y = y[..., np.argsort(self.order)] if self.order else y
        return from_squares(y, self.block), jnp.zeros(())


def in_squares(x, block):
    """Return the squares of `block` x `block` pixels of an image [H, W, C] as pixels: [H/b, W/b, b² C]."""
    height, width, channels = x.shape
    b = block
    x = x.reshape(height // b, b, width // b, b, channels)
    return x.swapaxes(1, 2).reshape(height // b, width // b, b * b * channels)


def from_squares(y, block):
    """Return the image [H, W, C] of which `in_squares` gives y [H/b, W/b, b² C]."""
    height, width, depth = y.shape
    b, channels = block, depth // block**2
    y = y.reshape(height, width, b, b, channels)
    return y.swapaxes(1, 2).reshape(height * b, width * b, channels)


def turned(x, turns):
    """Return an image [H, W, C] after so many quarter turns against the clock."""
    for _ in range(turns % 4):
        x = x.swapaxes(0, 1)[::-1]
    return x


def nested(block, channels, largest) -> tuple[tuple, tuple]:
    """Return an order of the channels of a `Squeeze`, coarse lattices before fine ones, and the ends of its groups.

    The first group is the corner of a square. Later groups double the number of pixels, by at most `largest` pixels in
    one group. Each of them lies between the pixels before it, and has one colour: a pixel's colours come in turn.
    """
    pixels = sorted(np.ndindex(block, block), key=lambda place: _fineness(*place))
    ends = [1]
    while ends[-1] < block**2:
        ends += range(ends[-1] + min(ends[-1], largest), 2 * ends[-1] + 1, min(ends[-1], largest))
    order, group_ends = list(range(channels)), [channels]
    for first, end in itertools.pairwise(ends):
        for channel in range(channels):
            order += [(i * block + j) * channels + channel for i, j in pixels[first:end]]
            group_ends.append(len(order))
    return tuple(order), tuple(group_ends)


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
