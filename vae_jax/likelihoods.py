"""p(x|z) as a value of one config key: every head of `distributions.heads`, and those with networks of their own."""

import jax.numpy as jnp

from vae_jax.distributions import RasterScan, heads
from vae_jax.distributions.heads import *  # noqa: F403
from vae_jax.distributions.heads import Head
from vae_jax.networks.pixel_cnn import GatedPixelCNN
from vae_jax.networks.precision import compute_in
from vae_jax.spec import BadOption, build, flags, integers

__all__ = [*heads.__all__, "pixel_cnn"]


def pixel_cnn(
    event_shape,
    *,
    pixel,
    features=16,
    spatial=True,
    channels=(32, 32),
    first_kernel=5,
    kernel=3,
    hidden=(64,),
    compute_dtype="float32",
) -> Head:
    """PixelVAE, arXiv:1611.05013 eq. (3): p(x|z) = Π_i p(x_i | x_<i, f(z)), pixels row by row, the conditionals of a
    gated PixelCNN (`networks.pixel_cnn`, whose fields the other options are), the head of a pixel named by `pixel`.

    f(z) is what the decoder puts out: a map [H, W, `features`], of which the gates at a pixel see its place, or, not
    `spatial`, a vector that all see. What z does not tell is left to the pixels before: a draw is one of the image, and
    the mean an average of such. All outputs begin at zero.

    Raises `ValueError` for a pixel whose head is not one of independent pixels, and for fewer than one feature.
    """
    if len(event_shape) != 3:
        raise BadOption(f"name: 'pixel_cnn' is of images [H, W, C], and the data have shape {tuple(event_shape)}")
    integers(features=features)
    flags(spatial=spatial)
    head = per_pixel(pixel, event_shape, where="likelihood.pixel")
    network = GatedPixelCNN(head.shapes, channels, kernel, first_kernel, hidden, zero_output=True)
    network = compute_in(compute_dtype, network)
    shape = (*event_shape[:2], features) if spatial else (features,)
    return Head(
        (shape,),
        lambda context, weights: RasterScan.of(network, head, weights, context, event_shape),
        head.standardize,
        lambda key: network.init(key, jnp.zeros(event_shape), jnp.zeros(shape)),
    )


def per_pixel(spec, event_shape, *, where) -> Head:
    """The head that `spec` names, over images or series. Raises `ValueError` where its outputs do not belong to one
    pixel, or sample, each.
    """
    event_shape = tuple(event_shape)
    head = build(heads, spec, event_shape, where=where)
    try:
        build(heads, spec, (*event_shape, 1), where=where)
        joint = any(shape[: len(event_shape)] != event_shape for shape in head.shapes)
    except ValueError:  # one of vectors alone: joint, whatever its outputs look like
        joint = True
    if joint:
        raise ValueError(
            f"{where}: {spec['name']!r} is not one of independent pixels, whose outputs belong to one pixel each; take "
            "bernoulli, categorical, discretized_logistic_mixture, normal ..."
        )
    return head
