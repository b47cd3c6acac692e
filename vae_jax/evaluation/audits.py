"""Checks of a likelihood: what would make the number in a table wrong, and how to see it from outside."""

import functools
import itertools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import models
from vae_jax.conditionals import pixels
from vae_jax.core import Event
from vae_jax.evaluation import likelihood, yardstick
from vae_jax.inference import psis
from vae_jax.objectives.bounds import log_weight
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Levels

SHAPES = ((2, 2), (2, 4), (4, 4))  # of the images of a twin, the smallest that its networks take
VECTOR = 8  # dimensions of a twin of a model of vectors
MOST_IMAGES = 2**16  # that are enumerated
WIDTH, DIM = 8, 3  # the widest layer of a twin, and its largest latent dimension
WIDE = ("hidden", "channels", "widths", "features", "num_hidden", "embedding", "width")


class Twin(NamedTuple):
    """A model with the same options as another one, but small, of few bits: all of its data can be enumerated."""

    model: object
    params: object  # not trained, and none of them zero
    x: np.ndarray  # every possible x, [2^D, ...]
    context: object  # of all of them, or None


def tail_shapes(model, params, key, data, *, num_samples):
    """Return the Pareto shape k̂ of the importance weights of every example [N], arXiv:1507.02646.

    Above 0.7 the bound of `num_samples` weights is far from log p(x), however small its standard error is.
    """
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(len(data["x"])))
    return np.asarray(_tail_shapes(model.latent, num_samples, params, keys, data["x"], data.get("context")))


@functools.partial(jax.jit, static_argnums=(0, 1))
def _tail_shapes(latent, num_samples, params, keys, x, context):
    def one(item):
        key, x, context = item
        each = jax.random.split(key, num_samples)
        weigh = lambda k: log_weight(latent, params, k, x, context)  # noqa: E731
        return psis.smooth(jax.lax.map(weigh, each, batch_size=min(num_samples, likelihood.SAMPLES_AT_ONCE))).shape

    return jax.lax.map(one, (keys, x, context))


def of_batch_mates(model, params, key, data, *, num_samples, offset=0.0):
    """Return by how much log p(x) of the examples changes when every other one is replaced, [N] nats; 0 is right.

    A network that normalises over a batch has another number for other batch-mates. The noise of an example is that of
    its place, hence the same.
    """

    def measure(data):  # always with the same noise
        return yardstick.measure(
            model, params, jax.random.clone(key), data, num_samples=num_samples, offset=offset
        ).log_prob

    whole = measure(data)
    odd = np.arange(len(whole)) % 2 == 1
    change = np.zeros(len(whole))
    for replaced in (odd, ~odd):
        order = np.where(replaced, np.roll(np.arange(len(whole)), 2), np.arange(len(whole)))
        others = measure(jax.tree.map(lambda a, order=order: np.asarray(a)[order], data))
        change[~replaced] = np.abs(others - whole)[~replaced]
    return change


def twin(family, config, event, *, context=None, of_context=None, key=None) -> Twin:
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
            given = None if context is None else np.broadcast_to(np.asarray(of_context), (len(x),))
            batch = {"x": jnp.asarray(x[:: max(1, len(x) // 64)])}
            batch |= {} if given is None else {"context": jnp.asarray(given[: len(batch["x"])])}
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
    return Twin(model, tree.unflatten(moved), x, given)


def _is_float(a):
    return jnp.issubdtype(jnp.result_type(a), jnp.floating)


def shrunk(value, name=""):
    """Return the options of a model with small widths and few latents: the same equations at less cost."""
    if isinstance(value, dict):
        levels = {"num_levels": 2} if value.get("name") in pixels.__all__ else {}
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


def total_mass(small: Twin, key, *, num_samples, repeats=4) -> tuple[float, float]:
    """Return Σ_x p(x) over all x of a twin and its standard error, through the same function as a table's numbers.

    The exponential of an importance-weighted bound is an unbiased estimate of p(x), so the sum is 1 in the mean, for
    any number of samples. That of the exponential of another bound is at most 1.
    """
    data = {"x": small.x} | ({} if small.context is None else {"context": small.context})
    sampled = yardstick.is_bound(yardstick.kind_of(small.model, num_samples))
    keys = jax.random.split(key, repeats if sampled else 1)
    measured = [yardstick.measure(small.model, small.params, k, data, num_samples=num_samples) for k in keys]
    p = np.exp(np.array([one.log_prob for one in measured], np.float64))
    spread = np.var(p, axis=0, ddof=1).sum() / len(p) if len(p) > 1 else 0.0
    return float(p.sum(axis=1).mean()), float(np.sqrt(spread))
