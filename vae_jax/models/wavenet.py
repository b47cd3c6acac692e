"""WaveNet, arXiv:1609.03499: the chain rule over the samples of a sound, with all conditionals from one network.

p(x|c) = Π_t `p(x_t | x_<t, c)`          t = 1, ..., T

The dilations of the network decide how many earlier samples it sees. The context c is the same for all samples.
"""

import jax.numpy as jnp

from vae_jax import core, networks
from vae_jax.conditionals.chains import per_pixel, series
from vae_jax.core import Model, embedded, tractable
from vae_jax.networks.network import compute_in
from vae_jax.spec import BadOption, call, with_defaults


def wavenet(network, event, *, likelihood, context=None) -> Model:
    """Return a WaveNet, fitted by `gradient`: `network` returns the parameters of `likelihood` at every sample.

    A density takes one pass over the series. A draw stores the state of every layer and computes each sample once
    (`distributions.Series`).

    Args:
      network: built by `networks.wavenet`.
      event: the `core.Event` x.
      likelihood: the head of a sample.
      context: the `core.Context` c; None for none.
    """
    sound = series(network, likelihood, tuple(event.shape))

    def density(params, c=None):
        return sound(params, embedded(context, c))

    def init(key, batch):
        _, c = core.first_example(batch)
        return network.init(key, jnp.zeros(event.shape), embedded(context, c))

    return tractable(init, density)


def from_config(*, event, context, network, likelihood, compute_dtype="float32") -> Model:
    """Return a WaveNet from dicts: `network` has options of `networks.wavenet`, `likelihood` names a head.

    All outputs are zero at initialisation unless `zero_output` is False. Raises `BadOption` for data that are not
    series, and for a likelihood that does not model independent samples.
    """
    if len(event.shape) != 1:
        raise BadOption(f": the family 'wavenet' models series [T], such as sound; the data have shape {event.shape}")
    head = per_pixel(likelihood, event.shape, where="likelihood")
    built = call(networks.wavenet, with_defaults(network, zero_output=True), head.shapes, where="network")
    return wavenet(compute_in(compute_dtype, built), event, likelihood=head, context=context)
