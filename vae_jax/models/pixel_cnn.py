"""PixelCNN: the chain rule over pixels, row by row, every conditional from one convolutional network.

p(x|c) = Π_i p(x_i | x_<i, c)          i = 1, ..., H W in raster order

The gated network of arXiv:1606.05328; the discretised logistics for a pixel of arXiv:1701.05517, among others.
"""

import functools

import jax
import jax.numpy as jnp

from vae_jax import core
from vae_jax.core import Model, build, call, tractable
from vae_jax.distributions import Cached, RasterScan, heads
from vae_jax.networks.pixel_cnn import GatedPixelCNN, with_ones
from vae_jax.networks.precision import compute_in


def pixel_cnn(network, event_shape, *, likelihood, num_classes=0, dropout=0.0) -> Model:
    """Fitted by `gradient`: `network` puts out what `likelihood`, one of `distributions.heads`, takes at every pixel.

    A density is one pass over the image. A draw computes every row and every pixel of each layer once
    (`distributions.RasterScan`). The channels of a pixel are independent given the pixels before it. The context is a
    class, p(x|c). Training leaves units out at `dropout`, the network's rate; `log_prob` and `sample` do not.
    Raises `ValueError` where a conditional model meets no context.
    """
    one_hot = functools.partial(core.one_hot, num_classes=num_classes)

    def conditionals(given, x, **noise):
        return likelihood.distribution(
            *network.apply(given["params"], likelihood.standardize(x), given["context"], **noise)
        )

    def start(given):
        return network.apply(given["params"], 1, *event_shape[1:], method="start")

    def row(given, kept, above, i):
        pixels = with_ones(likelihood.standardize(above)) * (i > 0)
        given_pixels, kept = network.apply(given["params"], pixels[None], kept, given["context"], method="rows")
        return kept, jax.tree.map(lambda a: a[0], given_pixels)

    def pixel(given, kept, left, j, from_above):
        pixels = with_ones(likelihood.standardize(left)) * (j > 0)
        from_above = jax.tree.map(lambda a: a[None, None], from_above)
        outputs, kept = network.apply(
            given["params"], pixels[None, None], from_above, kept, given["context"], method="pixels"
        )
        return kept, likelihood.distribution(*(a[0, 0] for a in outputs))

    def init(key, batch):
        context = None if batch.get("context") is None else batch["context"][0]
        return network.init(key, jnp.zeros(event_shape), one_hot(context))

    support = heads.abstract(likelihood).support

    def density(params, context=None):
        given = {"params": params, "context": one_hot(context)}
        return RasterScan(given, conditionals, Cached(start, row, pixel), tuple(event_shape), support)

    @core.per_example
    def noisy_log_prob(params, key, x, context):
        return conditionals({"params": params, "context": one_hot(context)}, x, rngs={"dropout": key}).log_prob(x)

    def loss(params, key, batch, step):
        value = noisy_log_prob(params, key, batch)
        return -value, {} if dropout else {"bound": value}  # of a thinned network it is no bound of this one's

    return tractable(init, density)._replace(loss=loss, thinned=dropout > 0)


def from_config(*, event_shape, num_classes, network, likelihood, compute_dtype="float32") -> Model:
    """From plain dicts: `network` has the fields of `networks.pixel_cnn.GatedPixelCNN`, `likelihood` names a head.

    All outputs begin at zero unless told otherwise, as a belief network's do.
    Raises `ValueError` for a likelihood whose outputs do not belong to one pixel each, or that names an unknown key.
    """
    head = build(heads, likelihood, tuple(event_shape), where="config.model.likelihood")
    if any(shape[: len(event_shape)] != tuple(event_shape) for shape in head.shapes):
        raise ValueError(
            f"config.model.likelihood: {likelihood['name']!r} is not one of independent pixels, whose outputs belong "
            "to one pixel each; take bernoulli, categorical, discretized_logistic_mixture, normal ..."
        )
    options = {"zero_output": True, **network}
    built = call(GatedPixelCNN, options, head.shapes, where="config.model.network")
    return pixel_cnn(
        compute_in(compute_dtype, built),
        event_shape,
        likelihood=head,
        num_classes=num_classes,
        dropout=options.get("dropout", 0.0),
    )
