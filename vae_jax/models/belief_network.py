"""Fully visible belief networks: the chain rule over binary pixels, every conditional from one network.

p(x|c) = Π_d Bernoulli(x_d; σ(logit_d(x_1, ..., x_{d-1}, c)))        pixels row by row
"""

import math

import jax.numpy as jnp

from vae_jax import core, spec
from vae_jax.core import Model, tractable
from vae_jax.distributions import Autoregressive, Bernoulli, Reshaped
from vae_jax.networks import autoregressive
from vae_jax.networks.precision import compute_in


def belief_network(network, event_shape, *, num_classes=0) -> Model:
    """Fitted by `gradient`: `network(x, context)` puts out the D log-odds, the d-th from the pixels before it.

    MADE without hidden layers is the fully visible sigmoid belief network of Neal (1992): a logistic regression for
    every pixel. A density is one pass, a draw D of them. The context is a class, p(x|c).
    Raises `ValueError` where a conditional model meets no context.
    """
    size = math.prod(event_shape)

    def conditionals(given, x):
        return Bernoulli(*network.apply(given["params"], x, given["context"]))

    def init(key, batch):
        context = None if batch.get("context") is None else batch["context"][0]
        return network.init(key, jnp.zeros(size), core.one_hot(context, num_classes))

    def density(params, context=None):
        given = {"params": params, "context": core.one_hot(context, num_classes)}
        return Reshaped(Autoregressive(given, conditionals, (size,), Bernoulli.support), tuple(event_shape))

    return tractable(init, density)


def from_config(*, event_shape, num_classes, network, compute_dtype="float32") -> Model:
    """From plain dicts: `network` names `made` or `nade` (`networks.autoregressive`), with its keyword arguments.

    All outputs begin at zero unless told otherwise: training begins at D log 2 nats.
    """
    outputs = ((math.prod(event_shape),),)
    network = spec.with_defaults(network, zero_output=True)
    built = spec.build(autoregressive, network, outputs, where="network")
    return belief_network(compute_in(compute_dtype, built), event_shape, num_classes=num_classes)
