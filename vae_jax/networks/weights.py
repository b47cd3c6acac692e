"""Networks of a distribution that has weights of its own."""

import jax

from vae_jax.networks.precision import Network


def with_weights(network, head):
    """An encoder or a decoder that puts out all that `head` takes, from a `network` that puts out what depends on its
    input: the weights (`Head.init`) are among its parameters, whatever moves them moves these.
    """
    if head.init is None:
        return network

    def init(key, x, context=None):
        weights = head.init(jax.random.fold_in(key, 1))
        return {"network": network.init(key, x, context), "weights": weights}

    def apply(variables, x, context=None, **options):
        return (*network.apply(variables["network"], x, context, **options), variables["weights"])

    return Network(init, apply)
