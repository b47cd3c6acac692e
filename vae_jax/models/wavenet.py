"""WaveNet, arXiv:1609.03499: the chain rule over the samples of a sound, every conditional from one network.

p(x|c) = Π_t p(x_t | x_<t, c)          t = 1, ..., T

The network sees as many samples as its dilations reach back. Of a class c, global conditioning: the one voice, or word.
"""

import functools

import jax.numpy as jnp

from vae_jax import core
from vae_jax.core import Model, build, call, tractable
from vae_jax.distributions import Series, heads
from vae_jax.networks.precision import compute_in
from vae_jax.networks.wavenet import WaveNet


def wavenet(network, event_shape, *, likelihood, num_classes=0) -> Model:
    """Fitted by `gradient`: `network` puts out what `likelihood`, one of `distributions.heads`, takes at every sample.

    A density is one pass over the series; a draw keeps what every layer has seen and computes each sample once
    (`distributions.Series`). Raises `ValueError` where a conditional model meets no context.
    """
    one_hot = functools.partial(core.one_hot, num_classes=num_classes)
    support = heads.abstract(likelihood).support

    def conditionals(given, x):
        return likelihood.distribution(*network.apply(given["params"], likelihood.standardize(x), given["context"]))

    def start(given):
        return network.apply(given["params"], method="start")

    def step(given, kept, previous, t):
        previous = likelihood.standardize(previous)
        kept, outputs = network.apply(given["params"], kept, previous, t, given["context"], method="step")
        return kept, likelihood.distribution(*outputs)

    def init(key, batch):
        context = None if batch.get("context") is None else batch["context"][0]
        return network.init(key, jnp.zeros(event_shape), one_hot(context))

    def density(params, context=None):
        given = {"params": params, "context": one_hot(context)}
        return Series(given, conditionals, start, step, tuple(event_shape), support)

    return tractable(init, density)


def from_config(*, event_shape, num_classes, network, likelihood, compute_dtype="float32") -> Model:
    """From plain dicts: `network` has the fields of `networks.wavenet.WaveNet`, `likelihood` names a head.

    All outputs begin at zero unless told otherwise. Raises `ValueError` for data that are no series, for a likelihood
    whose outputs do not belong to one sample each, and for one that names an unknown key.
    """
    if len(event_shape) != 1:
        raise ValueError(f"config.family 'wavenet' is of series [T], sound for one; the data have shape {event_shape}")
    head = build(heads, likelihood, tuple(event_shape), where="config.model.likelihood")
    _check_independent(likelihood, head, tuple(event_shape))
    built = call(WaveNet, {"zero_output": True, **network}, head.shapes, where="config.model.network")
    return wavenet(compute_in(compute_dtype, built), event_shape, likelihood=head, num_classes=num_classes)


def _check_independent(likelihood, head, event_shape):
    """Raise `ValueError` for a head that is joint over the samples: what it takes is not one thing of each of them, or
    it is one of vectors alone, and an event [T, 1] is none.
    """
    try:
        build(heads, likelihood, (*event_shape, 1), where="config.model.likelihood")
        joint = any(shape[:1] != event_shape or len(shape) > 2 for shape in head.shapes)
    except ValueError:
        joint = True
    if joint:
        raise ValueError(
            f"config.model.likelihood: {likelihood['name']!r} is not one of independent samples, whose outputs belong "
            "to one sample each; take categorical, discretized_logistic_mixture ..."
        )
