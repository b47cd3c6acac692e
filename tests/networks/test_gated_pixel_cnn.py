"""Causality in raster order as exact zeros of a gradient, and no blind spot as the lack of others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.networks import gated_pixel_cnn

HEIGHT, WIDTH = 4, 5


@functools.cache
def jacobian(num_channels, num_layers, kernel, dilations=(), shortcuts=False):
    """|∂ outputs / ∂ x| [pixel, pixel], the largest over channels, at weights of which none is zero."""
    outputs = ((HEIGHT, WIDTH, num_channels), (HEIGHT, WIDTH, num_channels, 2))
    options = {"first_kernel": 3, "dilations": dilations, "shortcuts": shortcuts, "hidden": (16,)}
    network = gated_pixel_cnn(outputs, (8,) * num_layers, kernel, **options)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(HEIGHT, WIDTH, num_channels)), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape), a.dtype), shapes)
    both = jax.jit(jax.jacobian(network.apply, 1))(variables, x)
    size = HEIGHT * WIDTH
    return sum(np.abs(by_x).reshape(size, -1, size, num_channels).max(axis=(1, 3)) for by_x in both)


@pytest.mark.parametrize("num_channels, shortcuts", [(1, False), (2, True)])
def test_a_pixel_sees_all_pixels_before_it_and_no_other(num_channels, shortcuts):
    by_x = jacobian(num_channels, num_layers=4, kernel=3, shortcuts=shortcuts)
    assert np.all(by_x[np.triu_indices(len(by_x))] == 0.0) and np.all(by_x[np.tril_indices(len(by_x), -1)] > 0.0)


def test_dilations_see_further_and_no_pixel_ahead():
    by_x = jacobian(1, num_layers=2, kernel=3, dilations=(1, 2))
    assert np.all(by_x[np.triu_indices(len(by_x))] == 0.0)
    seen, near = (np.sum(j > 0, axis=1) for j in (by_x, jacobian(1, num_layers=2, kernel=3)))
    assert np.all(seen >= near) and seen[-1] > near[-1]
    rows = by_x.reshape(HEIGHT, WIDTH, HEIGHT, WIDTH).max(axis=(1, 3)) > 0
    np.testing.assert_array_equal(rows, np.tril(np.ones((HEIGHT, HEIGHT), bool)))  # up to 2 + 2 rows above, and its own


def test_one_layer_sees_the_rectangle_above_and_the_pixels_on_the_left():
    by_x = jacobian(1, num_layers=1, kernel=1).reshape(HEIGHT, WIDTH, HEIGHT, WIDTH)
    for i, j, k, m in np.ndindex(by_x.shape):
        above, left = 1 <= i - k <= 2 and abs(j - m) <= 1, i == k and 1 <= j - m <= 2
        assert (by_x[i, j, k, m] > 0) == (above or left), (i, j, k, m)
