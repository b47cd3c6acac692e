"""PixelCNN: the chain rule over pixels, row by row, with all conditionals from one convolutional network.

p(x|c) = Π_i `p(x_i | x_<i, c)`          i = 1, ..., H W in raster order

The network is the gated one of arXiv:1606.05328. Heads include the discretised logistics of arXiv:1701.05517.
"""

import jax.numpy as jnp

from vae_jax import core, networks
from vae_jax.bijectors.squeeze import in_squares, turned
from vae_jax.conditionals.chains import per_pixel, raster_scan, weights_of
from vae_jax.core import Model, embedded, tractable
from vae_jax.distributions import Squares
from vae_jax.networks.conv import at_size
from vae_jax.networks.network import compute_in
from vae_jax.spec import BadOption, call, flags, integers, with_defaults


def pixel_cnn(network, event, *, likelihood, context=None, block=1, turns=0) -> Model:
    """Return a PixelCNN, fitted by `gradient`: `network` returns the parameters of `likelihood` at every pixel.

    A density takes one pass over the image. A draw computes every row and every pixel of each layer once
    (`distributions.RasterScan`). Given earlier pixels, the channels of a pixel are independent unless the option
    `channels` of the head says otherwise. Training drops units at the rate of the network; `log_prob` and `sample`
    never do.

    With a `block` of b, squares of b x b pixels come one after the other instead of pixels, and a head with ordered
    channels gives the pixels of a square: another order of the chain rule, as exact. The network runs over b² times
    fewer places, so that its layers can be wider at the same cost.

    With `turns`, images are turned by so many quarter turns before the network sees them, and draws are turned back.
    The scan then begins at another corner, which is a third way to order the chain rule. Models of different orders err
    on different images, so that their mixture gains more than that of two seeds (arXiv:1310.1757).

    Args:
      network: built by `networks.gated_pixel_cnn`.
      event: the `core.Event` x.
      likelihood: the head of a pixel.
      context: the `core.Context` c; None for none.
      block: b; the event of `network` and `likelihood` is [H/b, W/b, b² C], after the turns.
      turns: 0, 1, 2 or 3 quarter turns against the clock.

    Raises `BadOption` for a block that does not divide the image, and for other turns.
    """
    shape = shape_of_network(event.shape, block, turns)
    image = raster_scan(network, likelihood, shape)

    def seen(c):
        c = at_size(embedded(context, c), event.shape)
        return in_squares(turned(c, turns), block) if c is not None and c.ndim == 3 else c

    def density(params, c=None, dropout_key=None):
        squares = image(params, seen(c), dropout_key)
        return Squares(squares, tuple(event.shape), block, turns) if block > 1 or turns else squares

    def init(key, batch):
        _, c = core.first_example(batch)
        return weights_of(network, likelihood, key, jnp.zeros(shape), seen(c))

    return tractable(init, density, drops=network.drops)


def from_config(
    *, event, context, network, likelihood, block=1, turns=0, relative=False, compute_dtype="float32"
) -> Model:
    """Return a PixelCNN from dicts: `network` has options of `networks.gated_pixel_cnn`, `likelihood` names a head.

    With `relative` the first layer sees only differences of pixels (`colours` of the network are those of the data).
    All outputs are zero at initialisation unless `zero_output` is False. Raises `BadOption` for data that are not
    images, and for a likelihood that does not model independent pixels.
    """
    if len(event.shape) != 3:
        raise BadOption(f": the family 'pixel_cnn' models images [H, W, C]; the data have shape {tuple(event.shape)}")
    head = per_pixel(likelihood, shape_of_network(event.shape, block, turns), where="likelihood")
    flags(relative=relative)
    options = with_defaults(network, zero_output=True, colours=event.shape[-1] if relative else 0)
    built = call(networks.gated_pixel_cnn, options, head.shapes, where="network")
    built = compute_in(compute_dtype, built)
    return pixel_cnn(built, event, likelihood=head, context=context, block=block, turns=turns)


def shape_of_network(shape, block, turns) -> tuple:
    """Return the shape of turned images of `shape`, whose squares of `block` x `block` pixels are pixels."""
    integers(block=block)
    integers(turns=turns, at_least=0, at_most=3)
    height, width, channels = shape
    if height % block or width % block:
        raise BadOption(f"block: {block} does not divide the sides of images of {height}x{width} pixels")
    height, width = (width, height) if turns % 2 else (height, width)
    return height // block, width // block, channels * block**2
