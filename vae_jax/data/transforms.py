"""From stored values, 0..max_value, to the values of a likelihood, on the device: `(key, stored, max_value) -> x`."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.random import threefry_2x32

from vae_jax.data.values import SPLITS

__all__ = ["binarize", "columns", "counts", "dequantize", "levels", "real", "strokes", "tokens", "unit"]

STATIC_SEED = 0


def binarize(key, pixels, max_value):
    """Draw x = 1 with probability pixel / max_value. With a new key at every step this is dynamic binarisation.

    There are 16 random bits for each pixel: the probability is exact to 2⁻¹⁶, and exact at 0 and at 1.
    """
    bits = _bits16(key, pixels.shape)
    if jnp.issubdtype(pixels.dtype, jnp.floating):
        return (bits < pixels * (65536.0 / max_value)).astype(jnp.float32)
    return (bits * max_value < pixels.astype(jnp.uint32) * 65536).astype(jnp.float32)


def columns(key, rows, max_value):
    """Return the rows of a table as they are; missing values are NaN."""
    return rows.astype(jnp.float32)


def counts(key, x, max_value):
    """Return whole numbers as they are, without an upper limit, for a likelihood of counts."""
    return x.astype(jnp.float32)


def levels(key, pixels, max_value):
    """Return the integer levels as they are, for a likelihood over 0..max_value."""
    return pixels.astype(jnp.float32)


def real(key, x, max_value):
    """Return the stored numbers as they are, of any size, for a density of real numbers."""
    return x.astype(jnp.float32)


def strokes(key, points, max_value):
    """Return the points (Δx, Δy, pen) of drawings as they are, int32; offsets lie in -max_value..max_value."""
    return points.astype(jnp.int32)


def tokens(key, ids, max_value):
    """Return the ids of tokens as they are, int32. They are names, so they have no order."""
    return ids.astype(jnp.int32)


def unit(key, pixels, max_value):
    """Return pixel / max_value in [0, 1].

    A density on such a grid of points can grow without bound: prefer `dequantize` for stored integers.
    """
    return pixels.astype(jnp.float32) / max_value


def dequantize(key, pixels, max_value):
    """Return (pixel + u) / (max_value + 1) with u ~ U[0, 1).  arXiv:1511.01844 sec. 3.1.

    E_u[log p(x)] - D log(max_value + 1) is a lower bound of the log-probability of the D stored levels. Raises
    `ValueError` for more than 256 levels.
    """
    if max_value > 255:
        raise ValueError(
            f"transform 'dequantize' takes at most 256 levels, got {max_value + 1}: with 16 bits of noise they do not "
            "fit into a float32; use 'levels' or 'unit', or read 8 bits"
        )
    # Eight bits of level and sixteen of u fit a float32 exactly: 255 + u never rounds up to the next level.
    u = _bits16(key, pixels.shape).astype(jnp.float32) / 65536
    return (pixels.astype(jnp.float32) + u) / (max_value + 1)


def log_levels_per_dim(transform, max_value):
    """Return the nats per dimension between a log-density and the bound on the log-probability of stored levels."""
    return math.log(max_value + 1) if transform is dequantize else 0.0


def fixed_draw(x: np.ndarray, max_value: int, split: str) -> np.ndarray:
    """Draw one Bernoulli(x / max_value) for each pixel, uint8: the same at every call, with a stream for each split.

    It is exact for integers: with r uniform on 0 .. max_value - 1, P(r < x) = x / max_value.
    """
    x, rng = np.asarray(x), np.random.default_rng([STATIC_SEED, SPLITS.index(split)])
    if np.issubdtype(x.dtype, np.floating):
        return (rng.random(x.shape, np.float32) < x / max_value).astype(np.uint8)
    dtype = np.uint8 if max_value <= 256 else np.uint16
    return (rng.integers(max_value, size=x.shape, dtype=dtype) < x).astype(np.uint8)


def _bits16(key, shape):
    """Return uniform 16-bit integers as uint32.

    `jax.random.bits` hashes one counter for each number and drops most of the hash. Here every 32-bit word gives two
    numbers, which is a quarter of the work; drawing is a large part of a small training step. Keys that are not of
    threefry are longer (`rbg` has four words): the hash takes their first two words.
    """
    size = math.prod(shape)
    words = threefry_2x32(jax.random.key_data(key)[:2], jnp.arange((size + 1) // 2, dtype=jnp.uint32))
    return jnp.stack([words & 0xFFFF, words >> 16], axis=-1).ravel()[:size].reshape(shape)
