"""WaveNet, arXiv:1609.03499: the chain rule over the samples of a sound, every conditional from one network.

p(x|c) = Π_t p(x_t | x_<t, c)          t = 1, ..., T

The network sees as many samples as its dilations reach back. Of a class c, global conditioning: the one voice, or word.
"""

import functools

import jax.numpy as jnp

from vae_jax import core, likelihoods, spec
from vae_jax.core import Model, tractable
from vae_jax.distributions import Series
from vae_jax.networks.precision import compute_in
from vae_jax.networks.wavenet import WaveNet
from vae_jax.spec import call


def wavenet(network, event_shape, *, likelihood, num_classes=0) -> Model:
    """Fitted by `gradient`: `network` puts out what `likelihood`, one of `distributions.heads`, takes at every sample.

    A density is one pass over the series; a draw keeps what every layer has seen and computes each sample once
    (`distributions.Series`). Raises `ValueError` where a conditional model meets no context.
    """
    one_hot = functools.partial(core.one_hot, num_classes=num_classes)

    def density(params, context=None):
        return Series.of(network, likelihood, params, one_hot(context), event_shape)

    def init(key, batch):
        context = None if batch.get("context") is None else batch["context"][0]
        return network.init(key, jnp.zeros(event_shape), one_hot(context))

    return tractable(init, density)


def from_config(*, event_shape, num_classes, network, likelihood, compute_dtype="float32") -> Model:
    """From plain dicts: `network` has the fields of `networks.wavenet.WaveNet`, `likelihood` names a head.

    All outputs begin at zero unless told otherwise. Raises `ValueError` for data that are no series, for a likelihood
    whose outputs do not belong to one sample each, and for one that names an unknown key.
    """
    if len(event_shape) != 1:
        raise ValueError(f"config.family 'wavenet' is of series [T], sound for one; the data have shape {event_shape}")
    head = likelihoods.per_pixel(likelihood, event_shape, where="likelihood")
    built = call(WaveNet, spec.with_defaults(network, zero_output=True), head.shapes, where="network")
    return wavenet(compute_in(compute_dtype, built), event_shape, likelihood=head, num_classes=num_classes)
