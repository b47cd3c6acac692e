"""Heads for images and series whose values are levels 0, ..., V - 1."""

import jax
import jax.numpy as jnp

from vae_jax.conditionals.conditional import LOG_SCALE_LIMIT, Head
from vae_jax.distributions import (
    Categorical,
    DiscretizedLogisticMixture,
    LinearLogisticMixture,
    OrderedCategorical,
)
from vae_jax.numerics import soft_clip
from vae_jax.spec import BadOption, integers, one_of
from vae_jax.support import Levels, standardize

__all__ = ["categorical", "discretized_logistic", "discretized_logistic_mixture"]


def categorical(event_shape, *, num_levels=256, channels="independent", features=64) -> Head:
    """Return a softmax over the levels of every pixel: it is the most flexible head, and ignores their order.

    Args:
      event_shape: of the values.
      num_levels: V.
      channels: "independent", or "ordered" for images whose channels depend on earlier ones: `OrderedCategorical`.
      features: with ordered channels, how many numbers F a network returns for each pixel.

    An image of one channel is the same for both. Raises `BadOption` for ordered channels of data that are no images.
    """
    integers(num_levels=num_levels, at_least=2)
    integers(features=features)
    if not _dependent(event_shape, channels, "ordered"):
        return Head(((*event_shape, num_levels),), Categorical)
    *pixels, size = event_shape

    def init(key):
        key_shift, key_levels = jax.random.split(key)
        y = standardize(Levels(num_levels), jnp.arange(num_levels, dtype=jnp.float32))
        slopes = jax.random.normal(key_levels, (size * (size - 1) // 2, 1, features))
        return {
            "shift": jax.random.normal(key_shift, (size, features)),
            "levels": y[None, :, None] * slopes,  # neighbouring levels begin alike
            "kernel": jnp.zeros((size, features, num_levels)),
            "bias": jnp.zeros((size, num_levels)),
        }

    return Head(((*pixels, features),), OrderedCategorical, init)


def discretized_logistic_mixture(event_shape, *, num_components=5, num_levels=256, channels="independent") -> Head:
    """Return a mixture of logistics for every pixel, integrated over `num_levels` bins.  arXiv:1701.05517 sec. 2.1.

    Args:
      event_shape: of the values.
      num_components: M.
      num_levels: V.
      channels: "independent", or "linear" for images whose means depend on earlier channels: `LinearLogisticMixture`.

    An image of one channel is the same for both. Raises `BadOption` for linear channels of data that are no images.
    """
    integers(num_components=num_components)
    integers(num_levels=num_levels, at_least=2)
    shape = (*event_shape, num_components)
    dependent = _dependent(event_shape, channels, "linear")

    def distribution(logits, locs, raw, *slopes):
        of = LinearLogisticMixture if dependent else DiscretizedLogisticMixture
        return of(logits, locs, soft_clip(raw, LOG_SCALE_LIMIT), *slopes, num_levels)

    if not dependent:
        return Head((shape, shape, shape), distribution)
    *pixels, size = event_shape
    pairs = size * (size - 1) // 2
    return Head(((*pixels, num_components), shape, shape, (*pixels, pairs, num_components)), distribution)


def discretized_logistic(event_shape, *, num_levels=256) -> Head:
    """Return one logistic for every pixel, integrated over `num_levels` bins."""
    integers(num_levels=num_levels, at_least=2)
    shape = (*event_shape, 1)

    def distribution(loc, raw):
        log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
        return DiscretizedLogisticMixture(jnp.zeros_like(loc), loc, log_scale, num_levels)

    return Head((shape, shape), distribution)


def _dependent(event_shape, channels, word):
    """Return True if the channels of a pixel depend on each other: the option says so, and there are at least two."""
    one_of(("independent", word), channels=channels)
    if channels != "independent" and len(event_shape) < 3:
        raise BadOption(f"channels: {word!r} needs images [H, W, C], got values of shape {tuple(event_shape)}")
    return channels != "independent" and event_shape[-1] > 1
