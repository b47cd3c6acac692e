"""Small things that many tests build: the kind of data of a model, and a latent-variable model that is watched."""

from vae_jax.core import Event, Latent
from vae_jax.data import values
from vae_jax.support import Binary, Tokens


def kind(shape, num_classes=0, *, support=None, vocabulary_size=None) -> dict:
    """Return `event` and `context` for a family: binary data by default, and a label if there are classes."""
    support = support or (Tokens(vocabulary_size) if vocabulary_size else Binary())
    return {"event": Event(tuple(shape), support), "context": values.label(num_classes) if num_classes else None}


def watched(latent) -> tuple:
    """Return `latent` and a list, to which each call of one of its functions adds (name of the function, context)."""
    calls = []

    def watch(name, function):
        def call(params, *args):
            calls.append((name, args[-1]))
            return function(params, *args)

        return call

    return Latent(*(watch(name, getattr(latent, name)) for name in ("prior", "posterior", "likelihood"))), calls
