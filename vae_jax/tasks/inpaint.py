"""Completion of an image, given its first pixels."""

import math

import numpy as np

from vae_jax.distributions import Autoregressive, RasterScan, Reshaped


def complete(model, params, key, x, context=None, *, num_given):
    """Draw an image from p(x | the first `num_given` pixels of x), where pixels are in raster order.

    The draw is exact, and costs the pixels that are drawn. Later pixels of x are not read.

    Args:
      model: a `core.Model` whose density draws one pixel after the other.
      params: its parameters.
      key: a JAX key.
      x: an image; its first pixels stay as they are.
      context: its context, if the model is conditional.
      num_given: the number of pixels that stay.

    Raises `ValueError` for a model without such an order, and for more pixels than x has.
    """
    density = model.density and model.density(params, context)
    ordered = density.base if isinstance(density, Reshaped) else density
    if not isinstance(ordered, Autoregressive | RasterScan):
        raise ValueError("a completion requires a model that draws pixel by pixel; use pixel_cnn or belief_network")
    num_pixels = math.prod(density.event_shape[:2]) if isinstance(ordered, RasterScan) else ordered.event_shape[0]
    if isinstance(num_given, int | np.integer) and not 0 <= num_given <= num_pixels:
        raise ValueError(f"num_given must be between 0 and {num_pixels} pixels, got {num_given}")
    return density.complete(key, x, num_given)
