"""Heads for real numbers in [0, 1]."""

from vae_jax.conditionals.conditional import Head
from vae_jax.distributions import Beta, ContinuousBernoulli
from vae_jax.numerics import soft_clip

__all__ = ["beta", "continuous_bernoulli"]

LOG_SHAPE_LIMIT = 6.0  # a, b < 400: a standard deviation of at least 0.02 at the mean ½


def continuous_bernoulli(event_shape) -> Head:
    """Return a continuous Bernoulli for grey values in [0, 1], from one logit each.  arXiv:1907.06845."""
    return Head((event_shape,), ContinuousBernoulli)


def beta(event_shape) -> Head:
    """Return a beta distribution for numbers in (0, 1): the network returns the logarithms of a and b.

    They are softly clipped to (-6, 6).
    """

    def distribution(raw_a, raw_b):
        return Beta(soft_clip(raw_a, LOG_SHAPE_LIMIT), soft_clip(raw_b, LOG_SHAPE_LIMIT))

    return Head((event_shape, event_shape), distribution)
