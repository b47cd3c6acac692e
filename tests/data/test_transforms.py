"""What the pixels become, and with which probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.data import transforms

DRAWS = 4096
binarize = jax.jit(transforms.binarize, static_argnums=2)
dequantize = jax.jit(transforms.dequantize, static_argnums=2)


def every_level(max_value, dtype):
    """[DRAWS, V]: a column for each level."""
    row = np.linspace(0, max_value, 17) if np.issubdtype(dtype, np.floating) else np.arange(max_value + 1)
    return jnp.broadcast_to(jnp.asarray(row, dtype), (DRAWS, len(row)))


@pytest.mark.parametrize(
    "max_value, dtype", [(255, np.uint8), (16, np.uint8), (1, np.uint8), (1, np.float32), (255, np.float32)]
)
def test_binarize_draws_one_with_the_probability_of_the_pixel(max_value, dtype):
    pixels = every_level(max_value, dtype)
    x = np.asarray(binarize(jax.random.key(0), pixels, max_value), np.float64)
    assert set(np.unique(x)) == {0.0, 1.0}
    p = np.asarray(pixels[0], np.float64) / max_value
    assert np.all(x[:, p == 0] == 0) and np.all(x[:, p == 1] == 1)
    inner = (p > 0) & (p < 1)
    z = (x.mean(axis=0) - p)[inner] / np.sqrt(p * (1 - p) / DRAWS)[inner]
    assert np.all(np.abs(z) < 5)
    assert abs(z.sum()) < 5 * np.sqrt(max(len(z), 1))


def test_binarize_has_independent_pixels():
    x = np.asarray(binarize(jax.random.key(0), jnp.full((DRAWS, 10), 128, jnp.uint8), 256), np.float64)
    correlation = np.corrcoef(x.T) - np.eye(10)
    assert np.abs(correlation).max() < 5 / np.sqrt(DRAWS)
    lag = np.corrcoef(x.ravel()[:-1], x.ravel()[1:])[0, 1]
    assert abs(lag) < 5 / np.sqrt(x.size)


def test_binarize_draws_anew_with_every_key_and_the_same_with_the_same():
    pixels = jnp.full((50, 41), 8, jnp.uint8)  # an odd number of pixels
    one, same, other = (binarize(jax.random.key(seed), pixels, 16) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    agree = np.mean(np.asarray(one) == np.asarray(other))
    assert abs(agree - 0.5) < 5 * 0.5 / np.sqrt(pixels.size)


def test_the_sixteen_bits_are_uniform():
    bits = np.asarray(transforms._bits16(jax.random.key(0), (3, 4369, 5)))
    assert bits.max() < 2**16
    assert scipy.stats.chisquare(np.bincount(bits.ravel() >> 8, minlength=256)).pvalue > 1e-5
    assert scipy.stats.chisquare(np.bincount(bits.ravel() & 255, minlength=256)).pvalue > 1e-5


def test_dequantize_fills_the_unit_interval_without_crossing_levels():
    pixels = every_level(16, np.uint8)
    x = np.asarray(dequantize(jax.random.key(0), pixels, 16))
    assert x.min() >= 0 and x.max() < 1
    fraction = x * 17 - np.asarray(pixels, np.float64)
    assert fraction.min() > -1e-5 and fraction.max() < 1 + 1e-5
    assert scipy.stats.kstest(fraction.ravel(), "uniform").pvalue > 1e-5


def test_dequantize_never_reaches_one():
    assert dequantize(jax.random.key(0), jnp.full(10**6, 255, jnp.uint8), 255).max() < 1


def test_levels_and_unit():
    pixels = jnp.array([0, 8, 16], jnp.uint8)
    np.testing.assert_array_equal(transforms.levels(jax.random.key(0), pixels, 16), [0, 8, 16])
    np.testing.assert_array_equal(transforms.unit(jax.random.key(0), pixels, 16), [0, 0.5, 1])


@pytest.mark.parametrize("name", transforms.__all__)
def test_every_transform_keeps_the_shape_and_gives_floats_but_for_tokens_and_strokes(name):
    transform = getattr(transforms, name)
    pixels = jax.ShapeDtypeStruct((3, 5, 5, 1), jnp.uint8)
    x = jax.eval_shape(lambda key, pixels: transform(key, pixels, 255), jax.random.key(0), pixels)
    assert x.shape == (3, 5, 5, 1) and x.dtype == (jnp.int32 if name in ("strokes", "tokens") else jnp.float32)


def test_only_dequantised_densities_are_divided_by_the_levels():
    offsets = {name: transforms.log_levels_per_dim(getattr(transforms, name), 255) for name in transforms.__all__}
    np.testing.assert_allclose(offsets.pop("dequantize"), np.log(256))
    assert set(offsets.values()) == {0.0}
