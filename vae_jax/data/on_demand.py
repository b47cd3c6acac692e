"""Examples that are made when they are read: a random-access source of the user's, in the form of an array.

A source has `len(source)` and `source[i]`, as Grain's random-access sources and `grain.MapDataset` have. Example i must
be the same at every call, and calls come from several threads.
"""

import concurrent.futures
import hashlib
import os
import time
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from absl import logging

TOGETHER = 1024  # examples that threads read before the next line of the log is due
SECONDS = 10  # between two lines of the log


class Survey(NamedTuple):
    """Everything that is known of a source after one pass over it."""

    shape: tuple  # of an example
    dtype: np.dtype
    low: float
    high: float
    missing: bool  # True if a value is NaN
    labels: np.ndarray | None
    digest: bytes  # of all values, in order


class OnDemand:
    """An array [N, ...] whose rows are read from a source when they are asked for.

    It has the shape, type and length of an array. Indexing and `numpy.take` read examples into memory.
    """

    def __init__(self, source, key, shape, dtype, survey):
        self.source, self.key, self.survey = source, key, survey
        self.shape, self.dtype, self.ndim = tuple(shape), np.dtype(dtype), len(shape)
        self.size = int(np.prod(self.shape, dtype=np.int64))
        self.nbytes = self.size * self.dtype.itemsize

    def __len__(self):
        return self.shape[0]

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self.take(np.arange(len(self))), dtype)

    def __getitem__(self, key):
        first, *rest = key if isinstance(key, tuple) else (key,)
        if first is None or first is Ellipsis:
            return np.asarray(self)[key]
        index = np.arange(len(self))[first]
        return self.take(index)[(slice(None),) * np.ndim(index) + tuple(rest)]

    def reshaped(self, shape, dtype=None):
        """Return the same examples in another shape, which has as many values, or another type."""
        return OnDemand(self.source, self.key, shape, dtype or self.dtype, self.survey)

    def take(self, indices, axis=0, **_):
        """Return the examples at `indices` of any shape. `numpy.take` calls this."""
        indices = np.asarray(indices)
        x = np.empty((*indices.shape, *self.shape[1:]), self.dtype)
        for place in np.ndindex(indices.shape):
            example = np.asarray(_value(self.source[int(indices[place])], self.key))
            if example.shape != self.survey.shape:
                raise ValueError(
                    f"example {indices[place]} of the source has the shape {example.shape}, and it had the shape "
                    f"{self.survey.shape} before; a source must return the same example at every call"
                )
            x[place] = example.reshape(self.shape[1:])
        return x


def survey(source, name, *, x, label) -> Survey:
    """Read a source once, in threads.

    Args:
      source: has `len(source)` and `source[i]`: an array, or a dict of arrays.
      name: of the data set, for messages.
      x: the key of the examples, if the source returns dicts.
      label: the key of their labels; they may be absent.

    Raises `TypeError` if it is no such source, and `ValueError` for examples of different shapes or types.
    """
    if not (hasattr(source, "__len__") and hasattr(source, "__getitem__")):
        raise TypeError(
            f"{name}: a source must have len(source) and source[i], as a Grain random-access source has; a "
            f"{type(source).__name__} has not, so its batches could not be repeated"
        )
    if not len(source):
        raise ValueError(f"{name}: the source has no example")
    first = np.asarray(_value(source[0], x))
    if first.dtype.kind not in "buif" or not first.size:
        raise ValueError(
            f"{name}: examples must be arrays of numbers, and example 0 is {first.dtype} {first.shape}; convert them"
        )

    def look(i):
        example = source[i]
        value = np.asarray(_value(example, x))
        if value.shape != first.shape or value.dtype != first.dtype:
            raise ValueError(
                f"{name}: all examples must be alike; example 0 is {first.dtype} {first.shape}, and example {i} is "
                f"{value.dtype} {value.shape}"
            )
        low, high = float(np.fmin.reduce(value, axis=None)), float(np.fmax.reduce(value, axis=None))  # without NaN
        missing = value.dtype.kind == "f" and bool(np.isnan(value).any())
        labels = example.get(label) if isinstance(example, Mapping) else None
        return low, high, missing, labels, hashlib.blake2b(np.ascontiguousarray(value), digest_size=16).digest()

    looks, digest = [], hashlib.blake2b(f"{first.dtype.str} {first.shape}".encode(), digest_size=16)
    for part in in_threads(look, len(source), f"{name}: read"):
        looks += [(low, high, missing, labels) for low, high, missing, labels, _ in part]
        digest.update(b"".join(one[-1] for one in part))
    low, high, missing, labels = zip(*looks, strict=True)
    without = sum(one is None for one in labels)
    if without not in (0, len(labels)):
        raise ValueError(f"{name}: {without} of {len(labels)} examples have no {label!r}; give it to all, or to none")
    labels = None if without else np.asarray(labels)
    low, high = float(np.fmin.reduce(low)), float(np.fmax.reduce(high))
    return Survey(first.shape, first.dtype, low, high, any(missing), labels, digest.digest())


def seen(x) -> Survey | None:
    """Return the survey of the source behind an array, or behind its rows; None for an array in memory or in a file."""
    return getattr(getattr(x, "array", x), "survey", None)


def in_threads(function, number, words):
    """Yield lists of function(i) for the next i in 0 .. number - 1, computed in threads. The log says how far it is."""
    last = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        for start in range(0, number, TOGETHER):
            yield list(pool.map(function, range(start, min(start + TOGETHER, number))))
            if time.monotonic() - last > SECONDS:
                last, done = time.monotonic(), min(start + TOGETHER, number)
                logging.info("%s %s of %s (%d %%)", words, f"{done:,}", f"{number:,}", 100 * done // number)


def _value(example, key):
    if not isinstance(example, Mapping):
        return example
    if key not in example:
        raise ValueError(f"an example of the source has no key {key!r}; it has {', '.join(map(repr, example))}")
    return example[key]
