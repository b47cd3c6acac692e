"""What a network must put out to parametrise a distribution: the bridge from raw activations to a density.

A config names one of these as a posterior or a likelihood. Raw log-scales pass through a soft clip to (-8, 8), so
scales lie between e⁻⁸ = 0.0003 and e⁸ = 3000 and no raw output, however large, gives an infinite density: at outputs
up to 1e4 in size every log-density and its gradient is finite in float32.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from vae_jax.distributions.discrete import Bernoulli, Categorical
from vae_jax.distributions.normal import MultivariateNormal, Normal
from vae_jax.distributions.pixels import DiscretizedLogisticMixture
from vae_jax.distributions.relaxed import RelaxedBernoulli
from vae_jax.numerics import soft_clip

__all__ = [
    "bernoulli",
    "categorical",
    "discretized_logistic",
    "discretized_logistic_mixture",
    "multivariate_normal",
    "normal",
    "normal_fixed_scale",
    "relaxed_bernoulli",
]

LOG_SCALE_LIMIT = 8.0


class Head(NamedTuple):
    """`distribution(*arrays)`, the arrays of `shapes`; `standardize` brings data to about [-1, 1] for a network."""

    shapes: tuple
    distribution: Callable
    standardize: Callable = lambda x: x


def bernoulli(event_shape) -> Head:
    """Binary pixels: the decoder gives the log-odds of each being 1."""
    return Head((event_shape,), Bernoulli)


def relaxed_bernoulli(event_shape, *, temperature=2 / 3) -> Head:
    """A Concrete posterior, arXiv:1611.00712: z is the logit of a relaxed bit, σ(z) its value in (0, 1). A decoder that
    is to see bits applies σ itself; 2/3 is that paper's choice for binary posteriors.

    Raises `ValueError` for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"relaxed_bernoulli: temperature must be positive, got {temperature}")
    return Head((event_shape,), lambda logits: RelaxedBernoulli(logits, jnp.float32(temperature)))


def normal(event_shape) -> Head:
    """A mean and a log-scale for every dimension: the diagonal posterior, or pixels of tunable deviation."""
    return Head((event_shape, event_shape), lambda loc, raw: Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT)))


def normal_fixed_scale(event_shape, *, scale=0.1) -> Head:
    """Pixels of one fixed deviation: -log p(x|z) is the squared error over 2 scale², plus a constant.

    Raises `ValueError` for a scale outside [e⁻⁸, e⁸], the range of the learned ones.
    """
    if not math.exp(-LOG_SCALE_LIMIT) <= scale <= math.exp(LOG_SCALE_LIMIT):
        raise ValueError(f"normal_fixed_scale: scale must be positive, between 0.00034 and 2980, got {scale}")
    return Head((event_shape,), lambda loc: Normal(loc, jnp.full_like(loc, jnp.log(scale))))


def multivariate_normal(event_shape) -> Head:
    """A full covariance L Lᵀ by its Cholesky factor L = diag(s) (I + N): log s on the diagonal of the raw matrix, the
    strictly lower N below it, both softly clipped.

    As a posterior it is finite in any dimension. L⁻¹ grows like 9^(D-1): as a likelihood of data at any distance
    it is finite up to D = 8.
    """
    (dim,) = event_shape

    def distribution(loc, raw):
        scale = jnp.exp(soft_clip(jnp.diagonal(raw), LOG_SCALE_LIMIT))
        lower = jnp.tril(soft_clip(raw, LOG_SCALE_LIMIT), -1)
        return MultivariateNormal(loc, scale[:, None] * (jnp.eye(dim) + lower))

    return Head((event_shape, (dim, dim)), distribution)


def _levels_to_unit(num_levels):
    return lambda x: 2.0 * x / (num_levels - 1) - 1.0


def categorical(event_shape, *, num_levels=256) -> Head:
    """A softmax over the levels of every pixel: the most flexible, and blind to the order of the levels."""
    return Head(((*event_shape, num_levels),), Categorical, _levels_to_unit(num_levels))


def discretized_logistic_mixture(event_shape, *, num_components=5) -> Head:
    """8-bit pixels as a mixture of logistics whose mass is gathered in 256 bins."""
    shape = (*event_shape, num_components)

    def distribution(logits, locs, raw):
        return DiscretizedLogisticMixture(logits, locs, soft_clip(raw, LOG_SCALE_LIMIT))

    return Head((shape, shape, shape), distribution, _levels_to_unit(256))


def discretized_logistic(event_shape) -> Head:
    """8-bit pixels, one logistic each: a bell of tunable width over the levels."""
    shape = (*event_shape, 1)

    def distribution(loc, raw):
        return DiscretizedLogisticMixture(jnp.zeros_like(loc), loc, soft_clip(raw, LOG_SCALE_LIMIT))

    return Head((shape, shape), distribution, _levels_to_unit(256))
