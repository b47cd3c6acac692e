"""The values that pass from data to models: a data set and its splits, what is modelled, and what it depends on.

`Dataset` and `Split` hold stored arrays. `event_of` describes one example as the model sees it, after the transform.
`label`, `library`, `vector`, `image` and `prefix` describe the kinds of context (`core.Context`).
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.core import Context, Event
from vae_jax.data.audio import Encoding
from vae_jax.data.text import Vocabulary
from vae_jax.spec import BadOption, nearest
from vae_jax.support import Binary, Counts, Levels, Real, Strokes, Support, Tokens, Unit, centred, standardize

SPLITS = ("train", "valid", "test")
# The data sets that `sources.load` reads by itself. Every other name is a set of TFDS.
NAMES = (
    *("digits", "mnist", "fashion_mnist", "binarized_mnist", "mnist_static", "stacked_mnist"),
    *("four_by_four", "dsprites_by_rule", "faces_by_rule", "counts"),
    *("idx", "text", "audio", "images", "arrays", "table", "huggingface", "strokes"),
)


class Split(NamedTuple):
    """The stored arrays of one split of N examples.

    x: images [N, H, W, C], uint8 or uint16 in 0..max_value, or float32; vectors and series [N, D] of the same types;
      token ids of sentences, int32 [N, T]; levels of sound, uint8 or uint16 [N, T]; points of pen drawings, int16
      [N, T, 3]. A memory map, or rows of one
      (`reading.Rows`), stays in its file. Examples of a source (`on_demand.OnDemand`) are made when they are read.
    label: classes, int32 [N], or None.
    context: vectors [N, D] or images [N, H, W, C] that come with the examples, or None (`contexts`).
    """

    x: np.ndarray
    label: np.ndarray | None = None
    context: np.ndarray | None = None


class Dataset(NamedTuple):
    """Three splits, and how to read their values.

    max_value: the largest value that can be stored: 1 for binary and float images and for real numbers, 255 for most
      images of bytes, the last id of a text, the last level of sound, the largest offset of pen drawings.
    num_classes: the number of classes; None without labels.
    vocabulary: what the ids of a text mean; None for other data.
    encoding: what the levels of sound mean; None for other data.
    class_names: the name of each class, in the order of the labels; None without names.
    columns: what the columns of a table mean (`table.Columns`); None for other data.
    stands_for: the fingerprint of the data in whose place there are zeros (`description.stand_in`); None for data.
    missing: True if values of x may be NaN, which means: not observed.
    strokes: True for pen drawings (`drawings`).
    """

    name: str
    train: Split
    valid: Split
    test: Split
    max_value: int
    num_classes: int | None = None
    vocabulary: Vocabulary | None = None
    encoding: Encoding | None = None
    class_names: tuple[str, ...] | None = None
    columns: Any = None
    stands_for: str | None = None
    missing: bool = False
    strokes: bool = False


def event_of(dataset: Dataset, transform: str) -> Event:
    """Return the shape and the support of one example of `dataset` after the transform of this name (`transforms`).

    Raises `BadOption` for an unknown transform, and unless the rows of a table, and no other data, have 'columns', and
    pen drawings, and no other data, 'strokes'.
    """
    supports = {
        "binarize": Binary(),
        "columns": dataset.columns and dataset.columns.support,
        "counts": Counts(),
        "dequantize": Unit(),
        "levels": Levels(dataset.max_value + 1),
        "real": Real(),
        "strokes": Strokes(dataset.max_value),
        "tokens": Tokens(dataset.max_value + 1),
        "unit": Unit(),
    }
    if transform not in supports:
        raise BadOption(f"transform: unknown value {transform!r}{nearest(str(transform), supports)}")
    if (dataset.columns is not None) != (transform == "columns"):
        kind = "is no table" if dataset.columns is None else "is a table"
        raise BadOption(
            f"transform: a table needs 'columns', and other data cannot have it; {dataset.name} {kind}, got "
            f"{transform!r}"
        )
    if dataset.strokes != (transform == "strokes"):
        kind = "has pen drawings" if dataset.strokes else "has none"
        raise BadOption(
            f"transform: pen drawings need 'strokes', and other data cannot have it; {dataset.name} {kind}, got "
            f"{transform!r}"
        )
    return Event(dataset.train.x.shape[1:], supports[transform], dataset.missing)


def label(num_classes: int) -> Context:
    """Return the context that is a class, 0 .. num_classes - 1. Networks see a one-hot vector [num_classes]."""
    return Context((), Levels(num_classes), lambda context: jax.nn.one_hot(context, num_classes))


def library() -> Context:
    """Return the context that is the total count of an example, [1]. Networks and heads see its logarithm."""
    return Context((1,), Counts(), lambda context: jnp.log(jnp.maximum(context, 1.0)))


def vector(size: int) -> Context:
    """Return the context that is a vector [size] of real numbers. Networks see it as it is."""
    return Context((size,), Real(), lambda context: context)


def image(shape: tuple, support: Support) -> Context:
    """Return the context that is an image of this shape, (h, w, c). Networks see the image, its levels in [-1, 1]."""
    return Context(shape, support, lambda context: standardize(support, context))


def degraded(degradation) -> Context:
    """Return the context that is a degraded image (`vae_jax.degradations`). Networks see an image in about [-1, 1].

    Hidden pixels are NaN in the context, and 0 for networks, which then also see the mask as the last channel.
    """
    support = degradation.event.support
    shape = jax.eval_shape(degradation.apply, jax.ShapeDtypeStruct(degradation.event.shape, jnp.float32)).shape

    def embed(y):
        if degradation.name == "jpeg":
            return centred(support, degradation.baseline(y))
        if degradation.mask is None or degradation.mask.all():
            return centred(support, y)
        mask = jnp.asarray(degradation.mask)
        seen = jnp.where(mask, centred(support, jnp.where(mask, y, 0.0)), 0.0)
        return jnp.concatenate([seen, mask[..., :1].astype(seen.dtype)], axis=-1)

    return Context(shape, support, embed)


def prefix(length: int, support: Support) -> Context:
    """Return the context that is the first `length` places of a sequence, whose values have this support.

    Networks see a vector: numbers [length], with levels in [-1, 1], or the one-hot rows of tokens [length · V].
    """
    if not isinstance(support, Tokens):
        return Context((length,), support, lambda context: standardize(support, context))
    return Context((length,), support, lambda context: jax.nn.one_hot(context, support.num_levels).reshape(-1))
