"""Fully visible belief networks: the chain rule over binary pixels, with all conditionals from one network.

p(x|c) = Π_d Bernoulli(x_d; σ(logit_d(x_1, ..., x_{d-1}, c)))        pixels row by row
"""

import math

import jax.numpy as jnp

from vae_jax import core
from vae_jax.conditionals.chains import vector
from vae_jax.core import Model, embedded, tractable
from vae_jax.distributions import Reshaped
from vae_jax.networks import autoregressive
from vae_jax.networks.network import compute_in
from vae_jax.spec import build, with_defaults


def belief_network(network, event, *, context=None) -> Model:
    """Return a belief network, fitted by `gradient`: `network(x, c)` returns the D log-odds, each from earlier pixels.

    MADE without hidden layers is the fully visible sigmoid belief network of Neal (1992): a logistic regression for
    every pixel. A density takes one pass, a draw takes D.
    """
    size = math.prod(event.shape)
    pixels = vector(network, (size,))

    def init(key, batch):
        _, c = core.first_example(batch)
        return network.init(key, jnp.zeros(size), embedded(context, c))

    def density(params, c=None):
        return Reshaped(pixels(params, embedded(context, c)), tuple(event.shape))

    return tractable(init, density)


def from_config(*, event, context, network, compute_dtype="float32") -> Model:
    """Return a belief network from a dict: `network` names `made` or `nade` (`networks.autoregressive`).

    All outputs are zero at initialisation unless `zero_output` is False: training begins at D log 2 nats.
    """
    outputs = ((math.prod(event.shape),),)
    built = build(autoregressive, with_defaults(network, zero_output=True), outputs, where="network")
    return belief_network(compute_in(compute_dtype, built), event, context=context)
