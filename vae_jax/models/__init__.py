"""One file per family: its equations, `family(...) -> Model`, `from_config(*, event, **keys) -> Model`."""

import importlib
import inspect
import pkgutil

from vae_jax.core import Context, Event, Model
from vae_jax.spec import BadOption, call
from vae_jax.support import Columns, Strokes, Tokens


def families() -> list[str]:
    """Return the names of the model families: the files of this folder."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def from_config(family: str, config: dict, *, event: Event, context: Context | None = None) -> Model:
    """Return the model of `family` (a file of this folder) whose keyword arguments are the keys of `config`.

    Args:
      family: a name among `families`.
      config: a dict of options; "model" is its path in errors.
      event: what is modelled.
      context: what the model is conditional on; None for an unconditional model.

    Raises `BadOption` for an unknown family or key, with the nearest allowed one, and for a family that does not model
    this kind of data or takes no context.
    """
    if family not in families():
        raise BadOption(f"family: unknown value {family!r} (allowed: {', '.join(families())})")
    module = importlib.import_module(f"vae_jax.models.{family}")
    takes = getattr(module, "TAKES", None)  # supports; by default all except tokens and strokes
    words = {(Tokens,): "text", (Strokes,): "pen drawings", None: "images"}
    if isinstance(event.support, Tokens | Strokes) if takes is None else not isinstance(event.support, takes):
        kind = words.get(takes) or " or ".join(t.__name__ for t in takes)
        data = words.get((type(event.support),)) or ("images" if len(event.shape) == 3 else str(event.support))
        raise BadOption(f"family: {family!r} is a model of {kind}, and the data are {data}; use another family")
    arguments = {"event": event if getattr(module, "TABLES", False) else _complete(family, event)}
    if "context" in inspect.signature(module.from_config).parameters:
        arguments["context"] = context
    elif context is not None:
        raise BadOption(f"family: {family!r} takes no context; train it without one (data.context.name='none')")
    return call(module.from_config, config, where="model", **arguments)


def _complete(family, event) -> Event:
    """Return `event` for a family that reads neither mixed columns nor missing values.

    A table whose columns are all real, all binary or all counts is data of that kind. Raises `BadOption` for other
    tables and for missing values.
    """
    if event.missing:
        raise BadOption(
            f"family: {family!r} cannot leave out missing values, and the data have some; use 'vae' or "
            "'hierarchical_vae', or complete the data"
        )
    if not isinstance(event.support, Columns):
        return event
    if (support := event.support.plain()) is None:
        raise BadOption(
            f"family: {family!r} takes columns of one kind, real, binary or counts, and the table has the kinds "
            f"{', '.join(sorted(event.support.groups()))}; use 'vae' with the likelihood 'columns'"
        )
    return event._replace(support=support)
