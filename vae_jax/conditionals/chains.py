"""Chains of networks: p(y) as a product of conditionals, each from a network that sees what comes before it."""

import functools
import types

import jax
import jax.numpy as jnp

from vae_jax.conditionals import codes, gaussian, pixels
from vae_jax.conditionals.conditional import Head, abstract
from vae_jax.core import Conditional
from vae_jax.distributions import Autoregressive, Bernoulli, Cached, Categorical, RasterScan, Sentence, Series
from vae_jax.distributions.sentence import words_before
from vae_jax.networks import gated_pixel_cnn
from vae_jax.networks.conv import at_size
from vae_jax.networks.network import compute_in
from vae_jax.spec import BadOption, build, flags, integers
from vae_jax.support import Binary, standardize

__all__ = ["pixel_cnn"]

SIMPLE = types.SimpleNamespace(
    **{name: getattr(module, name) for module in (codes, gaussian, pixels) for name in module.__all__}
)


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
    """Return p(x|z) = Π_i `p(x_i | x_<i, f(z))`, row by row, from a gated PixelCNN: PixelVAE, arXiv:1611.05013 eq. (3).

    A decoder returns f(z): a map [H, W, `features`], or a vector if `spatial` is False. The gates at a pixel see the
    map at that pixel, or the whole vector. All outputs are zero at initialisation. A draw is one pass over the image.

    Args:
      event_shape: [H, W, C].
      pixel: the head of one pixel, {"name": ..., options}; its pixels must be independent given the outputs. Its
        channels may depend on each other.
      features: size of the map or vector f(z).
      spatial: True for a map, False for a vector.
      channels: widths of the layers of the network, as in `networks.gated_pixel_cnn`.
      first_kernel: size of the first convolution.
      kernel: size of the others.
      hidden: widths of the layers from the last convolution to the outputs.
      compute_dtype: the precision of the network, "float32" or "bfloat16".

    Raises `BadOption` if the head of a pixel does not model independent pixels, and for fewer than one feature.
    """
    if len(event_shape) != 3:
        raise BadOption(f"name: 'pixel_cnn' models images [H, W, C], and the data have shape {tuple(event_shape)}")
    integers(features=features)
    flags(spatial=spatial)
    head = per_pixel(pixel, event_shape, where="pixel")
    network = gated_pixel_cnn(
        head.shapes,
        channels=channels,
        kernel=kernel,
        first_kernel=first_kernel,
        hidden=hidden,
        zero_output=True,
    )
    network = compute_in(compute_dtype, network)
    shape = (*event_shape[:2], features) if spatial else (features,)
    image = raster_scan(network, head, event_shape)
    return Head(
        (shape,),
        lambda context, weights: image(weights, context),
        lambda key: weights_of(network, head, key, jnp.zeros(event_shape), jnp.zeros(shape)),
    )


def per_pixel(spec, event_shape, *, where) -> Head:
    """Return the head that `spec` names, over images or series.

    The channels of a pixel may share outputs. Raises `BadOption` if outputs belong to no single pixel, or sample.
    """
    event_shape = tuple(event_shape)
    places = event_shape[:2] if len(event_shape) == 3 else event_shape
    head = build(SIMPLE, spec, event_shape, where=where)
    joint = any(shape[: len(places)] != places for shape in head.shapes)
    if len(event_shape) == 1:
        try:
            build(SIMPLE, spec, (*event_shape, 1), where=where)
        except BadOption:  # a head for vectors only
            joint = True
    if joint:
        raise BadOption(
            f"{where}: {spec['name']!r} does not model independent pixels, whose parameters belong to one pixel each; "
            "use 'bernoulli', 'categorical', 'discretized_logistic_mixture' or 'normal'"
        )
    return head


# jax.jit compares static functions by identity. The cache returns the same functions for the same network and head.


@functools.cache
def vector(network, event_shape):
    """Return (variables, context) -> p(x) = Π_d Bernoulli(x_d; `logit_d(x_<d, context)`) over `event_shape` = [D]."""

    def conditionals(params, x):
        return Bernoulli(*network.apply(params["variables"], x, params["context"]))

    def distribution(variables, context):
        params = {"variables": variables, "context": context}
        return Autoregressive(params, conditionals, event_shape, Binary())

    return distribution


@functools.cache
def series(network, head, event_shape):
    """Return (variables, context) -> `Series` over [T], from a causal network such as `networks.wavenet`.

    At each place the network returns the parameters of `head`, computed from earlier samples and the context.
    """
    support = abstract(head).support
    scaled = functools.partial(standardize, support)

    def start(params):
        return network.start(params["variables"])

    def step(params, state, previous, t):
        state, outputs = network.step(params["variables"], state, scaled(previous), t, params["context"])
        return state, head.distribution(*outputs)

    def distribution(variables, context):
        params = {"variables": variables, "context": context, "dropout_key": None}
        return Series(params, _conditionals(network, head), start, step, tuple(event_shape), support)

    return distribution


@functools.cache
def raster_scan(network, head, event_shape):
    """Return (variables, context, dropout_key=None) -> `RasterScan` over [H, W, C], from a causal network.

    At each pixel the network (`networks.gated_pixel_cnn`) returns the parameters of `head`, computed from earlier
    pixels and the context. A context is a vector or an image of any size. With a `dropout_key`, log_prob uses dropout;
    draws never do.
    """
    support, event_shape = abstract(head).support, tuple(event_shape)
    scaled = functools.partial(standardize, support)

    def start(params):
        return network.start(parts_of(head, params["variables"])[0], 1, *event_shape[1:])

    def row(params, state, above, i):
        return network.row(parts_of(head, params["variables"])[0], scaled(above), state, i, params["context"])

    def pixel(params, state, left, i, j, from_above):
        inputs = (scaled(left), state, i, j, from_above, params["context"])
        variables, weights = parts_of(head, params["variables"])
        state, outputs = network.step(variables, *inputs)
        return state, head.distribution(*outputs, *weights)

    cached = Cached(start, row, pixel)

    def distribution(variables, context, dropout_key=None):
        context = at_size(context, event_shape)  # once for all rows and pixels of a draw
        params = {"variables": variables, "context": context, "dropout_key": dropout_key}
        return RasterScan(params, _conditionals(network, head), cached, event_shape, support)

    return distribution


@functools.cache
def sentence(network, length, vocabulary_size):
    """Return (variables, context, dropout_key=None) -> `Sentence` of at most `length` words.

    The network (`networks.language`) returns the logits [T, V]. Those at a place are computed from the words before it
    and the context. With a `dropout_key`, log_prob uses dropout; draws never do.
    """

    def conditionals(params, x):
        inputs = (words_before(x), params["context"])
        return Categorical(network.apply(params["variables"], *inputs, dropout_key=params["dropout_key"]))

    def log_probs(params, x):
        return jnp.take_along_axis(jax.nn.log_softmax(conditionals(params, x).logits), x[:, None], axis=1)[:, 0]

    def start(params):
        return network.start(params["variables"], params["context"])

    def step(params, carry, previous):
        carry, logits = network.step(params["variables"], carry, previous, params["context"])
        return carry, Categorical(logits)

    def distribution(variables, context, dropout_key=None):
        params = {"variables": variables, "context": context, "dropout_key": dropout_key}
        return Sentence(params, log_probs, start, step, length, vocabulary_size, conditionals)

    return distribution


def sentence_conditional(network, length, vocabulary_size) -> Conditional:
    """Return p(x|z) over sentences: `sentence` whose context is z."""
    chain = sentence(network, length, vocabulary_size)

    def init(key, z, context=None):
        return network.init(key, jnp.zeros(length, jnp.int32), z)

    def distribution(params, z, context=None, dropout_key=None):
        return chain(params, z, dropout_key)

    return Conditional(init, distribution, abstract=None)


@functools.cache
def _conditionals(network, head):
    scaled = functools.partial(standardize, abstract(head).support)

    def conditionals(params, x):
        inputs = (scaled(x), params["context"])
        variables, weights = parts_of(head, params["variables"])
        return head.distribution(*network.apply(variables, *inputs, dropout_key=params["dropout_key"]), *weights)

    return conditionals


def weights_of(network, head, key, *inputs):
    """Return the parameters of a chain: the network's, with those of a head that has weights of its own.

    These are {"network": ..., "weights": ...} then, as in `conditional`.
    """
    variables = network.init(key, *inputs)
    if head.init is None:
        return variables
    return {"network": variables, "weights": head.init(jax.random.fold_in(key, 1))}


def parts_of(head, variables):
    """Return the network's variables, and a tuple of the head's weights."""
    return (variables, ()) if head.init is None else (variables["network"], (variables["weights"],))
