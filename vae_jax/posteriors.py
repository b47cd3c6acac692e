"""q(z|x) as a value of one config key: every head of `distributions.heads`, and those with networks of their own."""

import jax
import jax.numpy as jnp

from vae_jax.bijectors import Chain, Flip, InverseAutoregressive
from vae_jax.distributions import Normal, Transformed, heads
from vae_jax.distributions.heads import *  # noqa: F403
from vae_jax.distributions.heads import LOG_SCALE_LIMIT, Head
from vae_jax.networks.masked import MADE
from vae_jax.numerics import soft_clip
from vae_jax.spec import MANY, integers

__all__ = [*heads.__all__, "inverse_autoregressive_flow"]


def inverse_autoregressive_flow(event_shape, *, num_flows=4, hidden=(64,), context_dim=16, activation="relu") -> Head:
    """The diagonal normal through `num_flows` inverse autoregressive flows, arXiv:1606.04934, the order reversed
    between them. Each has a MADE of its own, the same for every x, of which it sees `context_dim` numbers that the
    encoder puts out.

    The last layers begin at zero, so that q(z|x) begins as the normal. A draw with its density takes one pass of each
    MADE, log q at a given z takes D.
    """
    dim = heads.length("inverse_autoregressive_flow", event_shape)
    integers(num_flows=num_flows, at_most=MANY)
    integers(context_dim=context_dim)
    network = MADE((event_shape, event_shape), hidden, activation, zero_output=True)

    def init(key):
        each = lambda k: network.init(k, jnp.zeros(dim), jnp.zeros(context_dim))  # noqa: E731
        return jax.vmap(each)(jax.random.split(key, num_flows))

    def distribution(loc, raw, context, weights):
        context = soft_clip(context, LOG_SCALE_LIMIT)
        each = [jax.tree.map(lambda a, k=k: a[k], weights) for k in range(num_flows)]
        parts = [part for own in each for part in (InverseAutoregressive(own, context, network.apply), Flip())]
        return Transformed(Normal(loc, soft_clip(raw, LOG_SCALE_LIMIT)), Chain(tuple(parts)))

    return Head((event_shape, event_shape, (context_dim,)), distribution, init=init)
