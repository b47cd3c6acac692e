"""Small things that many tests build: the description of data for a model."""

from vae_jax.core import Event
from vae_jax.data import values
from vae_jax.support import Binary, Tokens


def kind(shape, num_classes=0, *, support=None, vocabulary_size=None) -> dict:
    """Return `event` and `context` for a family: binary data by default, and a label if there are classes."""
    support = support or (Tokens(vocabulary_size) if vocabulary_size else Binary())
    return {"event": Event(tuple(shape), support), "context": values.label(num_classes) if num_classes else None}
