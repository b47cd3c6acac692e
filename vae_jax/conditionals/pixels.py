"""Heads for images and series whose values are levels 0, ..., V - 1."""

import jax.numpy as jnp

from vae_jax.conditionals.conditional import LOG_SCALE_LIMIT, Head
from vae_jax.distributions import Categorical, DiscretizedLogisticMixture
from vae_jax.numerics import soft_clip
from vae_jax.spec import integers

__all__ = ["categorical", "discretized_logistic", "discretized_logistic_mixture"]


def categorical(event_shape, *, num_levels=256) -> Head:
    """Return a softmax over the levels of every pixel: it is the most flexible head, and ignores their order."""
    integers(num_levels=num_levels, at_least=2)
    return Head(((*event_shape, num_levels),), Categorical)


def discretized_logistic_mixture(event_shape, *, num_components=5, num_levels=256) -> Head:
    """Return a mixture of logistics for every pixel, integrated over `num_levels` bins.  arXiv:1701.05517 sec. 2.1."""
    integers(num_components=num_components)
    integers(num_levels=num_levels, at_least=2)
    shape = (*event_shape, num_components)

    def distribution(logits, locs, raw):
        return DiscretizedLogisticMixture(logits, locs, soft_clip(raw, LOG_SCALE_LIMIT), num_levels)

    return Head((shape, shape, shape), distribution)


def discretized_logistic(event_shape, *, num_levels=256) -> Head:
    """Return one logistic for every pixel, integrated over `num_levels` bins."""
    integers(num_levels=num_levels, at_least=2)
    shape = (*event_shape, 1)

    def distribution(loc, raw):
        log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
        return DiscretizedLogisticMixture(jnp.zeros_like(loc), loc, log_scale, num_levels)

    return Head((shape, shape), distribution)
