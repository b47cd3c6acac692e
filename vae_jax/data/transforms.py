"""From stored pixels, 0..max_value, to what a likelihood takes, on the device: `(key, pixels, max_value) -> x`."""

import math

import jax
import jax.numpy as jnp
from jax.extend.random import threefry_2x32

__all__ = ["binarize", "dequantize", "levels", "real", "tokens", "unit"]


def binarize(key, pixels, max_value):
    """x = 1 with probability pixel / max_value: dynamic binarisation when the key is new at every visit.

    Sixteen random bits a pixel: the probability is exact to 2⁻¹⁶, and exactly 0 and 1 at the ends.
    """
    bits = _bits16(key, pixels.shape)
    if jnp.issubdtype(pixels.dtype, jnp.floating):
        return (bits < pixels * (65536.0 / max_value)).astype(jnp.float32)
    return (bits * max_value < pixels.astype(jnp.uint32) * 65536).astype(jnp.float32)


def levels(key, pixels, max_value):
    """The integer levels as they are, for a likelihood over 0..max_value."""
    return pixels.astype(jnp.float32)


def real(key, x, max_value):
    """The stored numbers as they are, for a density of real numbers: no limit, no scale."""
    return x.astype(jnp.float32)


def tokens(key, ids, max_value):
    """Ids of a vocabulary as they are: names, of which there is no half."""
    return ids.astype(jnp.int32)


def unit(key, pixels, max_value):
    """pixel / max_value in [0, 1]. A density on such a grid of points can grow without bound: prefer `dequantize`."""
    return pixels.astype(jnp.float32) / max_value


def dequantize(key, pixels, max_value):
    """(pixel + u) / (max_value + 1), u ~ U[0, 1): E_u[log p(x)] - D log(max_value + 1) bounds the log-probability of
    the levels from below.  arXiv:1511.01844 sec. 3.1. Raises `ValueError` for more levels than 256.
    """
    if max_value > 255:
        raise ValueError(
            f"dequantize: {max_value + 1} levels and 16 bits of noise do not fit into a float32; use levels"
        )
    # Eight bits of level and sixteen of u fit a float32 exactly: 255 + u never rounds up to the next level.
    u = _bits16(key, pixels.shape).astype(jnp.float32) / 65536
    return (pixels.astype(jnp.float32) + u) / (max_value + 1)


def log_levels_per_dim(transform, max_value):
    """What to subtract, a dimension, from a log-density to bound the log-probability of the stored levels (nats)."""
    return math.log(max_value + 1) if transform is dequantize else 0.0


def _bits16(key, shape):
    """Uniform 16-bit integers as uint32. `jax.random.bits` hashes one counter a number and throws most of it away;
    here every 32-bit word of the hash gives two: a quarter of the work, where drawing is a good part of a small step.
    Keys of other kinds than threefry's are longer (`rbg` has four words): the hash takes the first two words.
    """
    size = math.prod(shape)
    words = threefry_2x32(jax.random.key_data(key)[:2], jnp.arange((size + 1) // 2, dtype=jnp.uint32))
    return jnp.stack([words & 0xFFFF, words >> 16], axis=-1).ravel()[:size].reshape(shape)
