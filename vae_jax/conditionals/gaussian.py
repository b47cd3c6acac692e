"""Heads for real numbers and for the unit sphere."""

import math

import jax
import jax.numpy as jnp

from vae_jax.conditionals.conditional import LOG_SCALE_LIMIT, Head, vector_length
from vae_jax.distributions import LowRankNormal, Mixture, MultivariateNormal, Normal, StudentT, VonMisesFisher
from vae_jax.numerics import soft_clip
from vae_jax.spec import integers, numbers, one_of

__all__ = [
    "low_rank_normal",
    "multivariate_normal",
    "normal",
    "normal_fixed_scale",
    "normal_mixture",
    "normal_shared_scale",
    "student_t",
    "von_mises_fisher",
]

LOG_DF_LIMIT = 4.0  # degrees of freedom between 1.02 and 55


def normal(event_shape) -> Head:
    """Return a diagonal normal: the network returns a mean and a log-scale for every dimension."""
    return Head((event_shape, event_shape), lambda loc, raw: Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT)))


def normal_fixed_scale(event_shape, *, scale=0.1) -> Head:
    """Return a normal of fixed scale: -log p(x|z) is the squared error over 2 scale², plus a constant.

    Raises `BadOption` for a scale outside [e⁻⁸, e⁸], the range of learned scales.
    """
    numbers(scale=scale, at_least=math.exp(-LOG_SCALE_LIMIT), at_most=math.exp(LOG_SCALE_LIMIT))
    return Head((event_shape,), lambda loc: Normal(loc, jnp.full_like(loc, jnp.log(scale))))


def normal_shared_scale(event_shape) -> Head:
    """Return a normal whose log-scales are learned, one for each dimension, and the same for all inputs.

    The network returns the means. It is the noise of factor analysis, and suits small data.
    """
    return Head(
        (event_shape,),
        lambda loc, raw: Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT)),
        lambda key: jnp.zeros(event_shape),
    )


def student_t(event_shape, *, scale="example") -> Head:
    """Return Student's t, a normal of heavy tails, for each dimension. The degrees of freedom are learned, 1 to 55.

    `scale` is "example" if the network returns location, log-scale and degrees of freedom; it is "shared" if the
    network returns the location, and the rest is learned for each dimension, the same for all inputs.
    """
    one_of(("example", "shared"), scale=scale)

    def distribution(loc, raw, raw_df):
        return StudentT(loc, soft_clip(raw, LOG_SCALE_LIMIT), 1.0 + jnp.exp(soft_clip(raw_df + 2.0, LOG_DF_LIMIT)))

    if scale == "example":
        return Head((event_shape,) * 3, distribution)
    init = lambda key: {"scale": jnp.zeros(event_shape), "df": jnp.zeros(event_shape)}  # noqa: E731
    return Head((event_shape,), lambda loc, weights: distribution(loc, weights["scale"], weights["df"]), init)


def multivariate_normal(event_shape) -> Head:
    """Return a normal with the full covariance L Lᵀ, by its Cholesky factor L = diag(s) (I + N).

    The diagonal of the raw matrix is log s, the part below it is N; both are softly clipped. As a posterior it is
    finite in any dimension. L⁻¹ grows like 9^(D-1): as a likelihood of arbitrary data it is finite up to D = 8.
    """
    dim = vector_length("multivariate_normal", event_shape)

    def distribution(loc, raw):
        scale = jnp.exp(soft_clip(jnp.diagonal(raw), LOG_SCALE_LIMIT))
        lower = jnp.tril(soft_clip(raw, LOG_SCALE_LIMIT), -1)
        return MultivariateNormal(loc, scale[:, None] * (jnp.eye(dim) + lower))

    return Head((event_shape, (dim, dim)), distribution)


def low_rank_normal(event_shape, *, rank=2) -> Head:
    """Return a normal with covariance diag(s) (I + G Gᵀ) diag(s), where G [D, rank] is softly clipped."""
    dim = vector_length("low_rank_normal", event_shape)
    integers(rank=rank)

    def distribution(loc, raw, raw_factor):
        log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
        return LowRankNormal(loc, log_scale, jnp.exp(log_scale)[:, None] * soft_clip(raw_factor, LOG_SCALE_LIMIT))

    return Head((event_shape, event_shape, (dim, rank)), distribution)


def normal_mixture(event_shape, *, num_components=3) -> Head:
    """Return Σ_k π_k N(μ_k, diag(s_k²)); the network returns weights, means and log-scales.

    As a posterior it can have several modes, and is trained by `objectives.stratified_elbo`.
    """
    integers(num_components=num_components)
    shape = (num_components, *event_shape)
    components = lambda locs, raw: Normal(locs, soft_clip(raw, LOG_SCALE_LIMIT))  # noqa: E731
    return Head(((num_components,), shape, shape), lambda logits, locs, raw: Mixture(logits, components(locs, raw)))


def von_mises_fisher(event_shape) -> Head:
    """Return a von Mises-Fisher distribution on the unit sphere S^{D-1} in R^D, from a direction and a concentration.

    This is the hyperspherical posterior of arXiv:1804.00891, for the prior `uniform_sphere`. The concentration is
    κ = (D - 1) eʳ, where r is the raw output, softly clipped; the paper has 1 + softplus(r).
    Raises `BadOption` for fewer than two dimensions.
    """
    dim = vector_length("von_mises_fisher", event_shape, at_least=2)

    def distribution(loc, raw):
        square = jnp.sum(jnp.square(loc))
        first_axis = jnp.zeros(dim).at[0].set(1.0)  # in place of the zero vector, which has no direction
        direction = jnp.where(square > 1e-12, loc * jax.lax.rsqrt(jnp.maximum(square, 1e-12)), first_axis)
        return VonMisesFisher(direction, (dim - 1.0) * jnp.exp(soft_clip(raw, LOG_SCALE_LIMIT)))

    return Head((event_shape, ()), distribution)
