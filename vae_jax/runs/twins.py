"""Small twins of models: the same options over so few bits that every possible x can be enumerated."""

import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import models
from vae_jax.core import Event
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Levels

SHAPES = ((2, 2), (2, 4), (4, 4))  # of the images of a twin, the smallest that its networks take
VECTOR = 8  # dimensions of a twin of a model of vectors
WIDTH, DIM = 8, 3  # the widest layer of a twin, and its largest latent dimension
WIDE = ("hidden", "channels", "widths", "features", "num_hidden", "embedding", "width")
OF_LEVELS = ("categorical", "discretized_logistic", "discretized_logistic_mixture")  # heads


class Twin(NamedTuple):
    """A model with the same options as another one, but small, of few bits: all of its data can be enumerated."""

    model: object
    params: object  # not trained, and none of them zero
    data: dict  # every possible "x", [2^D, ...], and their "context"


def of(family, config, event, *, context=None, of_context=None, key=None) -> Twin:
    """Return the twin of a model: `config` with small widths, over so few bits that all images can be enumerated.

    Levels become two. Parameters are those of initialisation with noise, so that nothing is zero.

    Args:
      family: the family of the model.
      config: the options of the model, a dict.
      event: the `core.Event` of the model.
      context: its `core.Context`, a label; None for none.
      of_context: the context of one example.
      key: of the parameters.

    Raises `ValueError` for data that are not bits or levels, and if no small image suits the networks.
    """
    key = jax.random.key(0) if key is None else key
    if not isinstance(event.support, Binary | Levels):
        raise ValueError("x is not discrete: the integral of its density is not a sum")
    if context is not None and context.shape != ():
        raise ValueError("the context is not a label")
    support = Binary() if isinstance(event.support, Binary) else Levels(2)
    sizes = [(*shape, 1) for shape in SHAPES] if len(event.shape) == 3 else [(VECTOR,)] if len(event.shape) == 1 else []
    why = f"x of shape {tuple(event.shape)} has no small twin"
    for shape in sizes:
        try:
            model = models.from_config(family, shrunk(config), event=Event(shape, support), context=context)
            x = np.array(list(itertools.product((0.0, 1.0), repeat=math.prod(shape))), np.float32).reshape(-1, *shape)
            data = {"x": x} | ({} if context is None else {"context": np.full(len(x), of_context)})
            batch = {name: jnp.asarray(values[:: max(1, len(x) // 64)]) for name, values in data.items()}
            params = jax.jit(model.init)(key, batch)
            break
        except (BadOption, ValueError, TypeError) as error:
            why = str(error).split("\n")[0]
    else:
        raise ValueError(f"no small image suits the model: {why}")
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.fold_in(key, 1), len(leaves))
    moved = [
        a + 0.1 * jax.random.normal(k, jnp.shape(a)).astype(jnp.result_type(a)) if _is_float(a) else a
        for a, k in zip(leaves, keys, strict=True)
    ]
    return Twin(model, tree.unflatten(moved), data)


def _is_float(a):
    return jnp.issubdtype(jnp.result_type(a), jnp.floating)


def shrunk(value, name=""):
    """Return the options of a model with small widths and few latents: the same equations at less cost."""
    if isinstance(value, dict):
        levels = {"num_levels": 2} if value.get("name") in OF_LEVELS else {}
        return {key: shrunk(inner, key) for key, inner in value.items()} | levels
    if name in WIDE and isinstance(value, tuple | list):
        return tuple(min(entry, WIDTH) for entry in value)
    if name in WIDE and isinstance(value, int) and not isinstance(value, bool):
        return min(value, WIDTH)
    if name == "latent_dim":
        return min(value, DIM)
    if name == "num_components":
        return min(value, WIDTH)
    return value
