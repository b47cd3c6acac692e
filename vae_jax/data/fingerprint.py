"""A short name for the content of a data set: data sets that differ have different names."""

import hashlib

import numpy as np

from vae_jax.data import on_demand
from vae_jax.data.values import SPLITS

WHOLE = 2**30  # bytes: smaller arrays are read completely
SAMPLED = 2**16  # evenly spaced rows that are read of a larger array


def fingerprint(dataset) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of all splits (values, types, shapes, labels) and of their meaning.

    Only `SAMPLED` rows are read of an array above `WHOLE` bytes: a change in other rows is not noticed. Zeros that
    stand in for data have the name of those.
    """
    if dataset.stands_for is not None:
        return dataset.stands_for
    digest = hashlib.sha256(repr((dataset.max_value, dataset.num_classes, dataset.encoding)).encode())
    digest.update(repr(dataset.vocabulary and (dataset.vocabulary.level, dataset.vocabulary.tokens)).encode())
    for split in SPLITS:
        x, label, context = getattr(dataset, split)
        for array in (x, label) if context is None else (x, label, context):
            digest.update(f"{None if array is None else (array.shape, array.dtype.str)}".encode())
            if (seen := on_demand.seen(array)) is not None:  # read once, when it was made
                digest.update(seen.digest + np.ascontiguousarray(getattr(array, "index", ())).tobytes())
            elif array is not None:
                rows = array if array.nbytes <= WHOLE else array[_spread(len(array))]
                digest.update(np.ascontiguousarray(rows))
    return digest.hexdigest()[:16]


def _spread(size):
    return np.unique(np.linspace(0, size - 1, SAMPLED).astype(np.int64))
