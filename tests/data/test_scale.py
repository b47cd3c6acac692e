"""The scale of stored values: the mean of what a transform draws, and the way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.data import scale, transforms

LEVELS = np.array([0, 1, 7, 15, 16], np.uint8)
TRANSFORMS = [getattr(transforms, name) for name in ("binarize", "dequantize", "levels", "real", "unit")]
each = pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: t.__name__)


@each
def test_the_expected_value_is_the_mean_of_the_draws(transform, assert_mean):
    keys = jax.random.split(jax.random.key(0), 4000)
    draws = np.asarray(jax.vmap(lambda key: transform(key, jnp.asarray(LEVELS), 16))(keys))
    expected = np.asarray(scale.expected(transform, jnp.asarray(LEVELS), 16))
    varies = draws.std(axis=0) > 0
    assert varies.any() == scale.is_random(transform, LEVELS.dtype, 16)
    np.testing.assert_allclose(draws[0, ~varies], expected[~varies], rtol=1e-6)
    if varies.any():
        assert_mean(draws[:, varies], expected[varies])


@each
def test_the_way_back_undoes_the_expected_value(transform):
    mean = scale.expected(transform, jnp.asarray(LEVELS), 16)
    np.testing.assert_allclose(scale.mean_to_stored(transform, mean, 16), LEVELS, atol=1e-5)


@each
def test_a_draw_is_a_value_that_could_be_stored(transform):
    draws = jax.vmap(lambda key: transform(key, jnp.asarray(LEVELS), 16))(jax.random.split(jax.random.key(1), 50))
    back = np.asarray(scale.draw_to_stored(transform, draws, 16, LEVELS.dtype))
    assert back.dtype == LEVELS.dtype
    if transform is transforms.binarize:
        assert set(back.ravel()) == {0, 16}
    else:  # the very level, whatever the noise
        assert np.all(back == LEVELS)


def test_values_beyond_the_levels_are_the_nearest_level():
    beyond = jnp.array([-1.0, 0.49, 2.0])
    assert scale.draw_to_stored(transforms.unit, beyond, 255, np.dtype("uint8")).tolist() == [0, 125, 255]
    assert scale.draw_to_stored(transforms.real, beyond, 1, np.dtype("float32")).tolist() == beyond.tolist()
    assert scale.draw_to_stored(transforms.dequantize, jnp.array([1.0, 0.0]), 255, np.dtype("uint8")).tolist() == [
        255,
        0,
    ]


def test_stored_bits_are_not_drawn_and_words_stay_words():
    bits = jnp.array([0, 1, 1, 0], jnp.uint8)
    assert not scale.is_random(transforms.binarize, bits.dtype, 1)
    assert scale.is_random(transforms.binarize, np.float32, 1)
    drawn = transforms.binarize(jax.random.key(0), bits, 1)
    np.testing.assert_array_equal(scale.expected(transforms.binarize, bits, 1), drawn)
    words = scale.expected(transforms.tokens, jnp.array([3, 1, 0]), 5)
    assert words.dtype == jnp.int32 and scale.draw_to_stored(transforms.tokens, words, 5, np.int32).tolist() == [
        3,
        1,
        0,
    ]
