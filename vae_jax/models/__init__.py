"""One file per family: its equations, `family(...) -> Model`, `from_config(**keys) -> Model`."""

import importlib
import inspect
import pkgutil

from vae_jax.core import Model
from vae_jax.spec import BadOption, call


def families() -> list[str]:
    """The model families there are: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def from_config(family: str, config: dict, **given) -> Model:
    """The model of `family` (a file of this folder) whose keyword arguments are the keys of `config`.

    `given` is what the data say: `event_shape`, `num_classes` where there is a context (0 otherwise), and of a text
    its `vocabulary_size`.
    Raises `ValueError` for an unknown family or key, with the nearest allowed one, and where a family of images is
    given text or the other way round.
    """
    if family not in families():
        raise BadOption(f"family: unknown value {family!r} (allowed: {', '.join(families())})")
    module = importlib.import_module(f"vae_jax.models.{family}")
    size = inspect.signature(module.from_config).parameters.get("vocabulary_size")
    either = size is not None and size.default is not size.empty  # of words, or of levels
    if not either and (size is not None) != ("vocabulary_size" in given):
        kinds = ("text", "images") if size is not None else ("images", "text")
        raise BadOption(f"family: {family!r} is a model of {kinds[0]}, and the data are {kinds[1]}")
    return call(module.from_config, config, where="model", **given)
