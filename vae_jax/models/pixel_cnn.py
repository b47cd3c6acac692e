"""PixelCNN: the chain rule over pixels, row by row, every conditional from one convolutional network.

p(x|c) = Π_i p(x_i | x_<i, c)          i = 1, ..., H W in raster order

The gated network of arXiv:1606.05328; the discretised logistics for a pixel of arXiv:1701.05517, among others.
"""

import functools

import jax.numpy as jnp

from vae_jax import core, likelihoods, spec
from vae_jax.core import Model, tractable
from vae_jax.distributions import RasterScan
from vae_jax.networks.pixel_cnn import GatedPixelCNN
from vae_jax.networks.precision import compute_in
from vae_jax.spec import call


def pixel_cnn(network, event_shape, *, likelihood, num_classes=0, dropout=0.0) -> Model:
    """Fitted by `gradient`: `network` puts out what `likelihood`, one of `distributions.heads`, takes at every pixel.

    A density is one pass over the image. A draw computes every row and every pixel of each layer once
    (`distributions.RasterScan`). The channels of a pixel are independent given the pixels before it. The context is a
    class, p(x|c). Training leaves units out at `dropout`, the network's rate; `log_prob` and `sample` do not.
    Raises `ValueError` where a conditional model meets no context.
    """
    one_hot = functools.partial(core.one_hot, num_classes=num_classes)

    def density(params, context=None, dropout_key=None):
        return RasterScan.of(network, likelihood, params, one_hot(context), event_shape, dropout_key=dropout_key)

    def init(key, batch):
        context = None if batch.get("context") is None else batch["context"][0]
        return network.init(key, jnp.zeros(event_shape), one_hot(context))

    @core.per_example
    def thinned(params, key, x, context):
        return density(params, context, key).log_prob(x)

    def thinned_loss(params, key, batch, step):
        return -thinned(params, key, batch), {}  # of a thinned network it is no bound of this one's

    model = tractable(init, density)
    return model._replace(loss=thinned_loss, thinned=True) if dropout else model


def from_config(*, event_shape, num_classes, network, likelihood, compute_dtype="float32") -> Model:
    """From plain dicts: `network` has the fields of `networks.pixel_cnn.GatedPixelCNN`, `likelihood` names a head.

    All outputs begin at zero unless told otherwise, as a belief network's do.
    Raises `ValueError` for a likelihood whose outputs do not belong to one pixel each, or that names an unknown key.
    """
    if len(event_shape) != 3:
        raise ValueError(f"config.family 'pixel_cnn' is of images [H, W, C]; the data have shape {event_shape}")
    head = likelihoods.per_pixel(likelihood, event_shape, where="likelihood")
    options = spec.with_defaults(network, zero_output=True)
    built = call(GatedPixelCNN, options, head.shapes, where="network")
    return pixel_cnn(
        compute_in(compute_dtype, built),
        event_shape,
        likelihood=head,
        num_classes=num_classes,
        dropout=options.get("dropout", 0.0),
    )
