"""Causality in raster order as exact zeros of a gradient, and no blind spot as the lack of others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.networks import gated_pixel_cnn

HEIGHT, WIDTH = 4, 5


@functools.cache
def jacobian(num_channels, num_layers, kernel, dilations=(), shortcuts=False, colours=0):
    """|∂ outputs / ∂ x| [pixel, pixel], the largest over channels, at weights of which none is zero."""
    outputs = ((HEIGHT, WIDTH, num_channels), (HEIGHT, WIDTH, num_channels, 2))
    options = {"first_kernel": 3, "dilations": dilations, "shortcuts": shortcuts, "hidden": (16,), "colours": colours}
    network = gated_pixel_cnn(outputs, (8,) * num_layers, kernel, **options)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(HEIGHT, WIDTH, num_channels)), jnp.float32)
    shapes = jax.eval_shape(network.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape), a.dtype), shapes)
    both = jax.jit(jax.jacobian(network.apply, 1))(variables, x)
    size = HEIGHT * WIDTH
    return sum(np.abs(by_x).reshape(size, -1, size, num_channels).max(axis=(1, 3)) for by_x in both)


@pytest.mark.parametrize("num_channels, shortcuts, colours", [(1, False, 0), (2, True, 0), (2, False, 1)])
def test_a_pixel_sees_all_pixels_before_it_and_no_other(num_channels, shortcuts, colours):
    by_x = jacobian(num_channels, num_layers=4, kernel=3, shortcuts=shortcuts, colours=colours)
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


def test_differences_of_pixels_do_not_change_with_the_brightness_of_a_colour():
    """Without the linear term, far from the border: two pixels of three colours at every place."""
    network = gated_pixel_cnn(((9, 9, 6),), (4, 4), 3, first_kernel=3, hidden=(8,), colours=3)
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(9, 9, 6)), jnp.float32)
    variables = network.init(jax.random.key(0), x)
    linear = {name: jax.tree.map(jnp.zeros_like, variables["params"][name]) for name in ("linear_above", "linear_left")}
    apply, shift = jax.jit(network.apply), jnp.array([0.3, -0.2, 0.5] * 2)[None, None]
    for weights, same in ((linear, True), ({}, False)):
        blind = {"params": variables["params"] | weights}
        brighter, before = (apply(blind, y)[0][5, 4] for y in (x + shift, x))
        assert np.allclose(brighter, before, atol=1e-5) == same
    assert np.std(apply({"params": variables["params"] | linear}, x)[0][5]) > 1e-3


def test_places_that_are_not_whole_pixels_are_refused():
    network = gated_pixel_cnn(((4, 4, 4),), (4,), 3, first_kernel=3, colours=3)
    with pytest.raises(ValueError, match="colours: 3 do not divide 4 channels into whole pixels"):
        jax.eval_shape(network.init, jax.random.key(0), jnp.zeros((4, 4, 4)))
