"""Encoders of sentences: tokens [T] -> arrays of the shapes `outputs`, from the state at the end of the sentence."""

import functools
import inspect

from vae_jax.networks.network import network_of
from vae_jax.networks.recurrent import LSTM
from vae_jax.networks.tokens import AtEnd
from vae_jax.networks.transformer import Transformer

__all__ = ["lstm", "transformer"]


def reader(module_class):
    """Return the function that builds a `Network` from `outputs` and the fields of a network over tokens."""

    @functools.wraps(module_class, updated=())
    def build(outputs, **options):
        return network_of(AtEnd(outputs, module_class(**options)))

    fields = [p for p in inspect.signature(module_class).parameters.values() if p.name not in ("parent", "name")]
    outputs = inspect.Parameter("outputs", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    build.__signature__ = inspect.Signature([outputs, *fields])
    return build


lstm, transformer = reader(LSTM), reader(Transformer)
