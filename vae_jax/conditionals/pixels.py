"""Heads of images and series whose pixels, or samples, are levels."""

import jax.numpy as jnp

from vae_jax.conditionals.conditional import LOG_SCALE_LIMIT, Head
from vae_jax.distributions import Categorical, DiscretizedLogisticMixture
from vae_jax.numerics import soft_clip
from vae_jax.spec import integers

__all__ = ["categorical", "discretized_logistic", "discretized_logistic_mixture"]


def categorical(event_shape, *, num_levels=256) -> Head:
    """A softmax over the levels of every pixel: the most flexible, and blind to the order of the levels."""
    integers(num_levels=num_levels, at_least=2)
    return Head(((*event_shape, num_levels),), Categorical)


def discretized_logistic_mixture(event_shape, *, num_components=5, num_levels=256) -> Head:
    """The levels of a pixel as a mixture of logistics whose mass is gathered in `num_levels` bins."""
    integers(num_components=num_components)
    integers(num_levels=num_levels, at_least=2)
    shape = (*event_shape, num_components)

    def distribution(logits, locs, raw):
        return DiscretizedLogisticMixture(logits, locs, soft_clip(raw, LOG_SCALE_LIMIT), num_levels)

    return Head((shape, shape, shape), distribution)


def discretized_logistic(event_shape, *, num_levels=256) -> Head:
    """The levels of a pixel, one logistic each: a bell of tunable width over them."""
    integers(num_levels=num_levels, at_least=2)
    shape = (*event_shape, 1)

    def distribution(loc, raw):
        log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
        return DiscretizedLogisticMixture(jnp.zeros_like(loc), loc, log_scale, num_levels)

    return Head((shape, shape), distribution)
