"""Priors p(k) over maps of codes k [h, w], and p(k | map of another level)."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import networks
from vae_jax.distributions import Cached, Categorical, CodeMap, Codes, RasterScan
from vae_jax.networks.conv import at_size
from vae_jax.spec import integers
from vae_jax.support import Levels

__all__ = ["pixel_cnn", "uniform"]


class CodePrior(NamedTuple):
    """A prior over maps of codes, conditional on a coarser map if it was built with one."""

    init: Callable  # (key) -> params; None if nothing is learned
    distribution: Callable  # (params, coarse=None) -> p(k), or p(k | coarse)


def uniform(shape, num_codes, coarse=None) -> CodePrior:
    """Return the uniform distribution over all maps [h, w] of `num_codes` codes."""
    return CodePrior(lambda key: None, lambda params, coarse=None: Codes(jnp.zeros((*shape, num_codes))))


def pixel_cnn(
    shape,
    num_codes,
    coarse=None,
    *,
    channels=(32,) * 4,
    first_kernel=5,
    kernel=3,
    hidden=(64,),
    dilations=(),
    embedding=16,
    context_features=16,
    context_blocks=1,
) -> CodePrior:
    """Return p(k) = Π_i `p(k_i | k_<i)`, each a softmax over the codes, from one gated PixelCNN.

    arXiv:1711.00937 sec. 3.3; with a coarser map arXiv:1906.00446 sec. 3.2: p(k | coarse). It is uniform at
    initialisation.

    Args:
      shape: [h, w].
      num_codes: K.
      coarse: (shape, K) of the coarser map that p is conditional on; None for none.
      channels: widths of the layers of the network, as in `networks.gated_pixel_cnn`.
      first_kernel: size of the first convolution.
      kernel: size of the others.
      hidden: widths of the layers from the last convolution to the logits.
      dilations: of the kernels, one for each layer; () for none.
      embedding: size of the vector that the network sees for a code.
      context_features: size of the features of the coarser map at each of its places.
      context_blocks: residual blocks between the coarser codes and these features.
    """
    integers(context_features=context_features)
    integers(context_blocks=context_blocks, at_least=0, at_most=100)
    outputs = ((*shape, 1, num_codes),)
    options = {"channels": channels, "first_kernel": first_kernel, "kernel": kernel, "hidden": hidden}
    options |= {"dilations": dilations, "embedding": embedding, "num_codes": num_codes, "zero_output": True}
    network = networks.code_pixel_cnn(outputs, **options)
    scan = _scan(network, (*shape, 1), num_codes)
    if coarse is None:
        init = lambda key: {"network": network.init(key, jnp.zeros((*shape, 1)), None)}  # noqa: E731
        return CodePrior(init, lambda params, coarse=None: CodeMap(scan(params["network"], None)))
    coarse_shape, coarse_codes = coarse
    see = networks.code_features(((*coarse_shape, context_features),), coarse_codes, context_blocks)

    def init(key):
        key_network, key_see = jax.random.split(key)
        features = jnp.zeros((*coarse_shape, context_features))
        return {
            "network": network.init(key_network, jnp.zeros((*shape, 1)), features),
            "context": see.init(key_see, jnp.zeros(coarse_shape, jnp.int32), None),
        }

    def distribution(params, coarse):
        (features,) = see.apply(params["context"], jnp.asarray(coarse, jnp.int32), None)
        return CodeMap(scan(params["network"], features))

    return CodePrior(init, distribution)


@functools.cache  # equal arguments give the same functions, which are part of a distribution's pytree
def _scan(network, event_shape, num_codes):
    """Return (variables, context) -> `RasterScan` over codes [h, w, 1]: `chains.raster_scan` without a scale."""

    def conditionals(params, x):
        return Categorical(*network.apply(params["variables"], x, params["context"]))

    def start(params):
        return network.start(params["variables"], 1, *event_shape[1:])

    def row(params, state, above, i):
        return network.row(params["variables"], above, state, i, params["context"])

    def pixel(params, state, left, i, j, from_above):
        state, outputs = network.step(params["variables"], left, state, i, j, from_above, params["context"])
        return state, Categorical(*outputs)

    def distribution(variables, context):
        params = {"variables": variables, "context": at_size(context, event_shape)}
        return RasterScan(params, conditionals, Cached(start, row, pixel), event_shape, Levels(num_codes))

    return distribution
