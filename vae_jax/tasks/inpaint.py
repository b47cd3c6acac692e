"""Half an image -> what the other half may be."""

import math

import numpy as np

from vae_jax.distributions import Autoregressive, RasterScan, Reshaped


def complete(model, params, key, x, context=None, *, num_given):
    """A draw of p(x | its first `num_given` pixels), row by row from the top left, these as they are in `x`.

    A model that draws pixels in this order draws the rest as it would have, had it drawn the first ones itself: exact,
    and for these pixels only. Of x, what is behind them does not matter.
    Raises `ValueError` for a model that draws pixels in no such order, or a number of pixels that x has not.
    """
    density = model.density and model.density(params, context)
    ordered = density.base if isinstance(density, Reshaped) else density
    if not isinstance(ordered, Autoregressive | RasterScan):
        raise ValueError("a completion wants a model that draws pixel after pixel: pixel_cnn or belief_network")
    num_pixels = math.prod(ordered.event_shape[:2]) if isinstance(ordered, RasterScan) else ordered.event_shape[0]
    if isinstance(num_given, int | np.integer) and not 0 <= num_given <= num_pixels:
        raise ValueError(f"complete: num_given must be between 0 and {num_pixels} pixels, got {num_given}")
    return density.complete(key, x, num_given)
