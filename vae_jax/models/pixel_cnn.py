"""PixelCNN: the chain rule over pixels, row by row, with all conditionals from one convolutional network.

p(x|c) = Π_i `p(x_i | x_<i, c)`          i = 1, ..., H W in raster order

The network is the gated one of arXiv:1606.05328. Heads include the discretised logistics of arXiv:1701.05517.
"""

import jax.numpy as jnp

from vae_jax import core, networks
from vae_jax.conditionals.chains import per_pixel, raster_scan, weights_of
from vae_jax.core import Aux, Model, embedded, tractable
from vae_jax.networks.network import compute_in
from vae_jax.spec import BadOption, call, with_defaults


def pixel_cnn(network, event, *, likelihood, context=None) -> Model:
    """Return a PixelCNN, fitted by `gradient`: `network` returns the parameters of `likelihood` at every pixel.

    A density takes one pass over the image. A draw computes every row and every pixel of each layer once
    (`distributions.RasterScan`). Given earlier pixels, the channels of a pixel are independent unless the option
    `channels` of the head says otherwise. Training drops units at the rate of the network; `log_prob` and `sample`
    never do.

    Args:
      network: built by `networks.gated_pixel_cnn`.
      event: the `core.Event` x.
      likelihood: the head of a pixel.
      context: the `core.Context` c; None for none.
    """
    image = raster_scan(network, likelihood, tuple(event.shape))

    def density(params, c=None, dropout_key=None):
        return image(params, embedded(context, c), dropout_key)

    def init(key, batch):
        _, c = core.first_example(batch)
        return weights_of(network, likelihood, key, jnp.zeros(event.shape), embedded(context, c))

    @core.per_example
    def log_prob_with_dropout(params, key, x, c):
        return density(params, c, key).log_prob(x)

    def loss(params, key, batch, step):
        return -log_prob_with_dropout(params, key, batch), Aux({})  # no bound of the log p(x) without dropout

    model = tractable(init, density)
    return model._replace(loss=loss) if network.drops else model


def from_config(*, event, context, network, likelihood, compute_dtype="float32") -> Model:
    """Return a PixelCNN from dicts: `network` has options of `networks.gated_pixel_cnn`, `likelihood` names a head.

    All outputs are zero at initialisation unless `zero_output` is False. Raises `BadOption` for data that are not
    images, and for a likelihood that does not model independent pixels.
    """
    if len(event.shape) != 3:
        raise BadOption(f": the family 'pixel_cnn' models images [H, W, C]; the data have shape {tuple(event.shape)}")
    head = per_pixel(likelihood, event.shape, where="likelihood")
    built = call(networks.gated_pixel_cnn, with_defaults(network, zero_output=True), head.shapes, where="network")
    return pixel_cnn(compute_in(compute_dtype, built), event, likelihood=head, context=context)
