"""Heads whose distribution is a diagonal normal transformed by a normalising flow."""

import jax
import jax.numpy as jnp

from vae_jax.bijectors import AffineCoupling, Chain, Flip, InverseAutoregressive, Planar, Sylvester, dense_conditioner
from vae_jax.conditionals.conditional import LOG_SCALE_LIMIT, Head, vector_length
from vae_jax.distributions import Normal, Transformed
from vae_jax.networks import autoregressive
from vae_jax.numerics import soft_clip
from vae_jax.spec import MANY, integers

__all__ = ["coupling_flow", "inverse_autoregressive_flow", "planar_flow", "sylvester_flow"]


def planar_flow(event_shape, *, num_flows=4) -> Head:
    """Return the diagonal normal through `num_flows` planar maps.  arXiv:1505.05770 sec. 4.

    The network returns u, w and b of each.
    """
    dim = vector_length("planar_flow", event_shape)
    integers(num_flows=num_flows, at_most=MANY)

    def distribution(loc, raw, u, w, b):
        u, w, b = (soft_clip(a, LOG_SCALE_LIMIT) for a in (u, w, b))
        base = Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT))
        return Transformed(base, Chain(tuple(Planar(u[k], w[k], b[k]) for k in range(num_flows))))

    return Head((event_shape, event_shape, (num_flows, dim), (num_flows, dim), (num_flows,)), distribution)


def sylvester_flow(event_shape, *, num_flows=4, num_reflections=4) -> Head:
    """Return the diagonal normal through `num_flows` Sylvester flows.  arXiv:1803.05649.

    The network returns all matrices; one [D, D] array holds both triangles. The order of the dimensions is reversed
    after each flow. With `num_reflections` = 0 this is the paper's triangular version, else its Householder version.
    """
    dim = vector_length("sylvester_flow", event_shape)
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
    """Return the diagonal normal through `num_flows` affine couplings of alternating halves.  arXiv:1605.08803.

    Each conditioner is one layer of `hidden` units. The network also returns its weights, which are softly clipped.
    Raises `BadOption` for fewer than two dimensions, which have no halves.
    """
    dim = vector_length("coupling_flow", event_shape, at_least=2)
    integers(num_flows=num_flows, at_most=MANY)
    integers(hidden=hidden)
    fixed, changed = dim // 2, dim - dim // 2
    weights = ((hidden, fixed), (hidden,), (2, changed, hidden), (2, changed))

    def distribution(loc, raw, *weights):
        weights = [soft_clip(w, LOG_SCALE_LIMIT) for w in weights]
        couplings = [AffineCoupling(tuple(w[k] for w in weights), dense_conditioner) for k in range(num_flows)]
        bijector = Chain(tuple(part for coupling in couplings for part in (coupling, Flip())))
        return Transformed(Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT)), bijector)

    return Head((event_shape, event_shape, *((num_flows, *shape) for shape in weights)), distribution)


def inverse_autoregressive_flow(event_shape, *, num_flows=4, hidden=(64,), context_dim=16, activation="relu") -> Head:
    """Return the diagonal normal through `num_flows` inverse autoregressive flows.  arXiv:1606.04934.

    The order of the dimensions is reversed after each flow. Each flow has a MADE whose weights are shared by all x. It
    sees x only through `context_dim` numbers that the encoder returns. The last layers are zero at initialisation:
    q(z|x) begins as the normal. A draw with its density takes one pass of each MADE; log q at any other z takes D.

    Args:
      event_shape: [D].
      num_flows: the number of flows.
      hidden: widths of the hidden layers of each MADE.
      context_dim: how many numbers the encoder returns for the flows.
      activation: the activation of the MADEs.
    """
    dim = vector_length("inverse_autoregressive_flow", event_shape)
    integers(num_flows=num_flows, at_most=MANY)
    integers(context_dim=context_dim)
    network = autoregressive.made((event_shape, event_shape), hidden, activation, zero_output=True)

    def init(key):
        each = lambda k: network.init(k, jnp.zeros(dim), jnp.zeros(context_dim))  # noqa: E731
        return jax.vmap(each)(jax.random.split(key, num_flows))

    def distribution(loc, raw, context, weights):
        context = soft_clip(context, LOG_SCALE_LIMIT)
        each = [jax.tree.map(lambda a, k=k: a[k], weights) for k in range(num_flows)]
        parts = [part for w in each for part in (InverseAutoregressive(w, context, network.apply), Flip())]
        return Transformed(Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT)), Chain(tuple(parts)))

    return Head((event_shape, event_shape, (context_dim,)), distribution, init=init)
