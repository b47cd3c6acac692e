"""The context of a model, from a data set to the batch: `(dataset, event, **options) -> Conditioning`.

    none                       p(x)
    label                      p(x | class)
    library                    p(x | the sum of x): counts, given how many there are in an example
    vector, image              p(x | c), with an array c that is stored beside x (`Split.context`)
    image with a size          p(x | x reduced to that size): super-resolution
    degraded                   p(x | y = A(x) + noise): inpainting, super-resolution, removal of noise and artifacts
    prefix                     p(x_{>n} | x_{<=n}): a sequence is continued

A batch then has a "context" [B, ...] beside its "x". `event` is that of the whole example (`values.event_of`).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import degradations, spec
from vae_jax.core import Context, Event
from vae_jax.data import reading, values
from vae_jax.data.values import SPLITS, Dataset, Split
from vae_jax.spec import BadOption, integers, sizes
from vae_jax.support import Binary, Columns, Counts, Levels, Real, Unit

__all__ = ["degraded", "image", "label", "library", "none", "prefix", "vector"]
KINDS = ("blur", "downsample", "half", "identity", "jpeg", "square")  # of degradations, by their functions


class Conditioning(NamedTuple):
    """How a batch gets its context."""

    event: Event  # what is left to be modelled
    context: Context | None  # what it is conditional on
    stored: Callable[[Split], np.ndarray | None]  # the array [N, ...] that travels with x, None without one
    divide: Callable[[dict], dict]  # a batch whose x is transformed -> the batch that a model sees


def none(dataset: Dataset, event: Event) -> Conditioning:
    """Model p(x)."""
    return Conditioning(event, None, lambda split: None, lambda batch: batch)


def label(dataset: Dataset, event: Event) -> Conditioning:
    """Model p(x | class). Raises `BadOption` if a split has no labels."""
    if dataset.num_classes is None or any(getattr(dataset, split).label is None for split in SPLITS):
        raise BadOption(f"name 'label': {dataset.name} has no labels; set it to 'none', or store labels")
    return Conditioning(event, values.label(dataset.num_classes), lambda split: split.label, lambda batch: batch)


def library(dataset: Dataset, event: Event) -> Conditioning:
    """Model p(x | Σ_d x_d) of counts x: the total count of an example is its library size.

    Raises `BadOption` for values that are no counts, and for missing ones, whose total is not known.
    """
    support = event.support.plain() if isinstance(event.support, Columns) else event.support
    if support != Counts():
        raise BadOption(
            f"name 'library': the values of {dataset.name} are {event.support}, and a library size is a sum of counts; "
            "set the name to 'none', or the transform to 'counts'"
        )
    if event.missing:
        raise BadOption(f"name 'library': {dataset.name} has missing counts, whose total is not known; use 'none'")

    def divide(batch):
        x = jnp.asarray(batch["x"])
        return batch | {"context": jnp.sum(x.reshape(len(x), -1), axis=1, keepdims=True)}

    return Conditioning(event, values.library(), lambda split: None, divide)


def vector(dataset: Dataset, event: Event) -> Conditioning:
    """Model p(x | c) for the vectors c, [N, D], in `Split.context`. Raises `BadOption` if a split has none."""
    (size,) = _stored_shape(dataset, "vector", "[N, D]", 1)
    return Conditioning(event, values.vector(size), _context, _as_floats)


def image(dataset: Dataset, event: Event, *, size: tuple | None = None, max_value: int = 255) -> Conditioning:
    """Model p(x | c) of an image c.

    Args:
      dataset: where x comes from, and c if it is stored.
      event: the shape and the support of x.
      size: (h, w) for c = x reduced to h x w pixels, each the mean of a block of x; None for `Split.context`.
      max_value: the largest value of stored integers; stored floats are taken as they are.

    Raises `BadOption` if x is no image, if its blocks are not equal, and if no images are stored.
    """
    if size is None:
        integers(max_value=max_value)
        shape = _stored_shape(dataset, "image", "[N, H, W, C]", 3)
        floating = np.issubdtype(dataset.train.context.dtype, np.floating)
        support = Real() if floating else Levels(max_value + 1)
        return Conditioning(event, values.image(shape, support), _context, _as_floats)
    _complete(dataset, event, "'image' with a size")
    if len(event.shape) != 3:
        raise BadOption(f"size is for images [H, W, C], and an example of {dataset.name} has the shape {event.shape}")
    sizes(size=size)
    height, width, channels = event.shape
    if len(size) != 2 or height % size[0] or width % size[1]:
        raise BadOption(f"size must be (h, w), where h divides {height} and w divides {width}, got {tuple(size)}")
    (h, w), support = size, Unit() if isinstance(event.support, Binary) else event.support  # the mean of bits

    def divide(batch):
        blocks = jnp.reshape(batch["x"], (-1, h, height // h, w, width // w, channels))
        return batch | {"context": jnp.mean(blocks, axis=(2, 4))}

    return Conditioning(event, values.image((h, w, channels), support), lambda split: None, divide)


def degraded(dataset: Dataset, event: Event, *, degradation: dict) -> Conditioning:
    """Model p(x | y) of an image y = A(x) + noise (`vae_jax.degradations`): amortised restoration.

    The context is y itself. Networks see an image: y on the scale [-1, 1], a decoded JPEG, or for a mask the shown
    pixels, zeros for the hidden ones, and the mask as a further channel. The noise of an example is always the same,
    drawn from a key that its pixels determine, so that examples can be read in any order.

    Args:
      dataset: where x comes from.
      event: the shape and the support of x.
      degradation: {"name": "half", ...}, one of `KINDS`, and its options.

    Raises `BadOption` that names the key.
    """
    _complete(dataset, event, "'degraded'")
    if spec.name_of(degradation) not in KINDS:
        raise BadOption(f"degradation.name must be one of {', '.join(KINDS)}, got {spec.name_of(degradation)!r}")
    made = spec.build(degradations, degradation, event, where="degradation")
    return Conditioning(event, values.degraded(made), lambda split: None, _degrade(made))


def _degrade(made):
    """Return the function that gives a batch its degraded images."""

    def one(x):
        x = x.astype(jnp.float32)
        odd = 2 * np.arange(x.size, dtype=np.uint32) + 1
        words = jax.lax.bitcast_convert_type(jnp.ravel(x), jnp.uint32)
        seed = jnp.sum(words * odd, dtype=jnp.uint32)  # whole numbers: their sum does not depend on the order
        return made.sample(jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), seed), x)

    return lambda batch: batch | {"context": jax.vmap(one)(jnp.asarray(batch["x"]))}


def prefix(dataset: Dataset, event: Event, *, length: int) -> Conditioning:
    """Model p(x_{>n} | x_{<=n}), n = `length`. Raises `BadOption` if x is no sequence or is not longer."""
    _complete(dataset, event, "'prefix'")
    if len(event.shape) != 1:
        raise BadOption(
            f"name 'prefix' is for sequences [T], and an example of {dataset.name} has the shape {event.shape}; "
            "for images take 'image' with a size"
        )
    integers(length=length)
    if length >= event.shape[0]:
        raise BadOption(f"length must be between 1 and {event.shape[0] - 1}, so that a rest is left, got {length}")

    def divide(batch):
        return batch | {"x": batch["x"][:, length:], "context": batch["x"][:, :length]}

    rest = event._replace(shape=(event.shape[0] - length,))
    return Conditioning(rest, values.prefix(length, event.support), lambda split: None, divide)


def _complete(dataset, event, what):
    """Raise `BadOption` if x, from which the context is made, has missing values."""
    if event.missing:
        raise BadOption(f"name {what}: {dataset.name} has missing values, and networks would see them; use 'none'")


def _context(split):
    return np.asarray(split.context) if isinstance(split.context, reading.Rows) else split.context


def _as_floats(batch):
    return batch | {"context": jnp.asarray(batch["context"], jnp.float32)}


def _stored_shape(dataset, name, required, rank):
    """Return the shape of one stored context. Raise `BadOption` if the splits do not store one for each example."""
    for split in SPLITS:
        x, _, context = getattr(dataset, split)
        if context is None:
            raise BadOption(
                f"name {name!r}: {dataset.name} stores no contexts in its {split} split; give every `Split` an array "
                f"context={required}, or set the name to 'none'"
            )
        shape, expected = np.shape(context), np.shape(dataset.train.context)[1:]
        if len(shape) != rank + 1 or len(context) != len(x) or shape[1:] != expected:
            raise BadOption(
                f"name {name!r}: the contexts of {dataset.name} must be {required}, one for each of the {len(x)} "
                f"examples and of one shape in all splits; its {split} split has {list(shape)}"
            )
    return expected
