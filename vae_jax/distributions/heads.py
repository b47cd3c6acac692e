"""What a network must put out to parametrise a distribution: the bridge from raw activations to a density.

A config names one of these as a posterior or a likelihood. Raw log-scales pass through a soft clip to (-8, 8), so
scales lie between e⁻⁸ = 0.0003 and e⁸ = 3000 and no raw output, however large, gives an infinite density: at outputs
up to 1e4 in size every log-density and its gradient is finite in float32.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.bijectors import AffineCoupling, Chain, Flip, Planar, Sylvester, dense_conditioner
from vae_jax.distributions.discrete import Bernoulli, Categorical
from vae_jax.distributions.mixture import Mixture
from vae_jax.distributions.normal import LowRankNormal, MultivariateNormal, Normal
from vae_jax.distributions.pixels import DiscretizedLogisticMixture
from vae_jax.distributions.relaxed import RelaxedBernoulli
from vae_jax.distributions.spherical import VonMisesFisher
from vae_jax.distributions.transformed import Transformed
from vae_jax.numerics import soft_clip
from vae_jax.spec import MANY, integers, numbers

__all__ = [
    "bernoulli",
    "categorical",
    "coupling_flow",
    "discretized_logistic",
    "discretized_logistic_mixture",
    "low_rank_normal",
    "multivariate_normal",
    "normal",
    "normal_fixed_scale",
    "normal_mixture",
    "planar_flow",
    "relaxed_bernoulli",
    "sylvester_flow",
    "von_mises_fisher",
]

LOG_SCALE_LIMIT = 8.0


class Head(NamedTuple):
    """`distribution(*arrays)`, the arrays of `shapes`; `standardize` brings data to about [-1, 1] for a network.

    Where there is an `init`, key -> weights, they are its last argument: the same for every x (`vae_jax.posteriors`)
    or for every z (`vae_jax.likelihoods`).
    """

    shapes: tuple
    distribution: Callable
    standardize: Callable = lambda x: x
    init: Callable | None = None


def abstract(head: Head):
    """The head's distribution with shapes in place of arrays: its kind and its support are known before any number."""
    return jax.eval_shape(lambda: head.distribution(*zeros(head)))


def zeros(head: Head):
    """What its `distribution` takes, of zeros."""
    weights = () if head.init is None else (head.init(jax.random.key(0)),)
    return (*map(jnp.zeros, head.shapes), *jax.tree.map(jnp.zeros_like, weights))


def bernoulli(event_shape) -> Head:
    """Binary pixels: the decoder gives the log-odds of each being 1."""
    return Head((event_shape,), Bernoulli)


def relaxed_bernoulli(event_shape, *, temperature=2 / 3) -> Head:
    """A Concrete posterior, arXiv:1611.00712: z is the logit of a relaxed bit, σ(z) its value in (0, 1). A decoder that
    is to see bits applies σ itself; 2/3 is that paper's choice for binary posteriors.

    Raises `ValueError` for a temperature that is not positive.
    """
    numbers(temperature=temperature, above=0)
    return Head((event_shape,), lambda logits: RelaxedBernoulli(logits, jnp.float32(temperature)))


def normal(event_shape) -> Head:
    """A mean and a log-scale for every dimension: the diagonal posterior, or pixels of tunable deviation."""
    return Head((event_shape, event_shape), lambda loc, raw: Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT)))


def normal_fixed_scale(event_shape, *, scale=0.1) -> Head:
    """Pixels of one fixed deviation: -log p(x|z) is the squared error over 2 scale², plus a constant.

    Raises `ValueError` for a scale outside [e⁻⁸, e⁸], the range of the learned ones.
    """
    numbers(scale=scale, at_least=math.exp(-LOG_SCALE_LIMIT), at_most=math.exp(LOG_SCALE_LIMIT))
    return Head((event_shape,), lambda loc: Normal(loc, jnp.full_like(loc, jnp.log(scale))))


def multivariate_normal(event_shape) -> Head:
    """A full covariance L Lᵀ by its Cholesky factor L = diag(s) (I + N): log s on the diagonal of the raw matrix, the
    strictly lower N below it, both softly clipped.

    As a posterior it is finite in any dimension. L⁻¹ grows like 9^(D-1): as a likelihood of data at any distance
    it is finite up to D = 8.
    """
    dim = length("multivariate_normal", event_shape)

    def distribution(loc, raw):
        scale = jnp.exp(soft_clip(jnp.diagonal(raw), LOG_SCALE_LIMIT))
        lower = jnp.tril(soft_clip(raw, LOG_SCALE_LIMIT), -1)
        return MultivariateNormal(loc, scale[:, None] * (jnp.eye(dim) + lower))

    return Head((event_shape, (dim, dim)), distribution)


def low_rank_normal(event_shape, *, rank=2) -> Head:
    """Covariance diag(s) (I + G Gᵀ) diag(s), G [D, rank] softly clipped: between the diagonal and the full one."""
    dim = length("low_rank_normal", event_shape)
    integers(rank=rank)

    def distribution(loc, raw, raw_factor):
        log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
        return LowRankNormal(loc, log_scale, jnp.exp(log_scale)[:, None] * soft_clip(raw_factor, LOG_SCALE_LIMIT))

    return Head((event_shape, event_shape, (dim, rank)), distribution)


def normal_mixture(event_shape, *, num_components=3) -> Head:
    """Σ_k π_k N(μ_k, diag(s_k²)), weights, means and log-scales all given: a posterior that need not be unimodal.

    As a posterior it is trained by `objectives.stratified_elbo`.
    """
    integers(num_components=num_components)
    shape = (num_components, *event_shape)
    components = lambda locs, raw: Normal(locs, soft_clip(raw, LOG_SCALE_LIMIT))  # noqa: E731
    return Head(((num_components,), shape, shape), lambda logits, locs, raw: Mixture(logits, components(locs, raw)))


def planar_flow(event_shape, *, num_flows=4) -> Head:
    """The diagonal normal bent by `num_flows` planar maps, each with u, w, b of its own.  arXiv:1505.05770 sec. 4."""
    dim = length("planar_flow", event_shape)
    integers(num_flows=num_flows, at_most=MANY)

    def distribution(loc, raw, u, w, b):
        u, w, b = (soft_clip(a, LOG_SCALE_LIMIT) for a in (u, w, b))
        base = Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT))
        return Transformed(base, Chain(tuple(Planar(u[k], w[k], b[k]) for k in range(num_flows))))

    return Head((event_shape, event_shape, (num_flows, dim), (num_flows, dim), (num_flows,)), distribution)


def sylvester_flow(event_shape, *, num_flows=4, num_reflections=4) -> Head:
    """The diagonal normal through `num_flows` Sylvester flows, arXiv:1803.05649, all of whose matrices are put out: a
    [D, D] one holds both triangles. Between them the order of the dimensions is reversed: with `num_reflections` = 0
    this is the paper's triangular kind, with more its Householder kind.
    """
    dim = length("sylvester_flow", event_shape)
    integers(num_flows=num_flows, at_most=MANY)
    integers(num_reflections=num_reflections, at_least=0)

    def distribution(loc, raw, *weights):
        reflections, square, diagonal, b = (soft_clip(a, LOG_SCALE_LIMIT) for a in weights)
        upper = jnp.stack([square, jnp.swapaxes(square, 1, 2)], axis=1)
        flows = [Sylvester(reflections[k], upper[k], diagonal[k], b[k]) for k in range(num_flows)]
        bijector = Chain(tuple(part for flow in flows for part in (flow, Flip())))
        return Transformed(Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT)), bijector)

    weights = ((num_reflections, dim), (dim, dim), (2, dim), (dim,))
    return Head((event_shape, event_shape, *((num_flows, *shape) for shape in weights)), distribution)


def coupling_flow(event_shape, *, num_flows=4, hidden=8) -> Head:
    """The diagonal normal through `num_flows` affine couplings, arXiv:1605.08803, halves taking turns; the weights of
    each conditioner, one layer of `hidden` units, are put out too, softly clipped.

    Raises `ValueError` for fewer than two dimensions, which have no halves.
    """
    dim = length("coupling_flow", event_shape)
    if dim < 2:
        raise ValueError(f"coupling_flow: at least two dimensions are needed, got {dim}")
    integers(num_flows=num_flows, at_most=MANY)
    integers(hidden=hidden)
    given, changed = dim // 2, dim - dim // 2
    weights = ((hidden, given), (hidden,), (2, changed, hidden), (2, changed))

    def distribution(loc, raw, *weights):
        weights = [soft_clip(w, LOG_SCALE_LIMIT) for w in weights]
        couplings = [AffineCoupling(tuple(w[k] for w in weights), dense_conditioner) for k in range(num_flows)]
        bijector = Chain(tuple(part for coupling in couplings for part in (coupling, Flip())))
        return Transformed(Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT)), bijector)

    return Head((event_shape, event_shape, *((num_flows, *shape) for shape in weights)), distribution)


def von_mises_fisher(event_shape) -> Head:
    """A direction and a concentration on the unit sphere S^{D-1} in R^D, D = `latent_dim`: the hyperspherical
    posterior, arXiv:1804.00891, for the prior `uniform_sphere`. κ = (D - 1) eʳ, r the raw output, softly clipped: the
    unit in which it counts, where the paper has 1 + softplus(r).

    Raises `ValueError` for fewer than two dimensions.
    """
    dim = length("von_mises_fisher", event_shape)
    if dim < 2:
        raise ValueError(f"von_mises_fisher: at least two dimensions are needed, got {dim}")

    def distribution(loc, raw):
        square = jnp.sum(jnp.square(loc))
        somewhere = jnp.zeros(dim).at[0].set(1.0)  # for the zero vector, which has no direction
        direction = jnp.where(square > 1e-12, loc * jax.lax.rsqrt(jnp.maximum(square, 1e-12)), somewhere)
        return VonMisesFisher(direction, (dim - 1.0) * jnp.exp(soft_clip(raw, LOG_SCALE_LIMIT)))

    return Head((event_shape, ()), distribution)


def length(name, event_shape):
    if len(event_shape) != 1:
        raise ValueError(f"{name} is over vectors, got an event of shape {tuple(event_shape)}")
    return event_shape[0]


def _levels_to_unit(num_levels):
    integers(num_levels=num_levels, at_least=2)
    return lambda x: 2.0 * x / (num_levels - 1) - 1.0


def categorical(event_shape, *, num_levels=256) -> Head:
    """A softmax over the levels of every pixel: the most flexible, and blind to the order of the levels."""
    return Head(((*event_shape, num_levels),), Categorical, _levels_to_unit(num_levels))


def discretized_logistic_mixture(event_shape, *, num_components=5, num_levels=256) -> Head:
    """The levels of a pixel as a mixture of logistics whose mass is gathered in `num_levels` bins."""
    integers(num_components=num_components)
    shape = (*event_shape, num_components)

    def distribution(logits, locs, raw):
        return DiscretizedLogisticMixture(logits, locs, soft_clip(raw, LOG_SCALE_LIMIT), num_levels)

    return Head((shape, shape, shape), distribution, _levels_to_unit(num_levels))


def discretized_logistic(event_shape, *, num_levels=256) -> Head:
    """The levels of a pixel, one logistic each: a bell of tunable width over them."""
    shape = (*event_shape, 1)

    def distribution(loc, raw):
        log_scale = soft_clip(raw, LOG_SCALE_LIMIT)
        return DiscretizedLogisticMixture(jnp.zeros_like(loc), loc, log_scale, num_levels)

    return Head((shape, shape), distribution, _levels_to_unit(num_levels))
