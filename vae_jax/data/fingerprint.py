"""A short name for the content of a data set: two sets that differ have different names."""

import hashlib

import numpy as np

WHOLE = 2**30  # bytes of an array up to which all of it is read
SAMPLED = 2**16  # rows of a larger one, evenly spaced


def fingerprint(dataset) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of all splits (values, types, shapes, labels) and of what they mean.

    Of an array above `WHOLE` bytes, only `SAMPLED` rows are read: a change elsewhere is not seen.
    """
    digest = hashlib.sha256(repr((dataset.max_value, dataset.num_classes, dataset.encoding)).encode())
    digest.update(repr(dataset.vocabulary and (dataset.vocabulary.level, dataset.vocabulary.tokens)).encode())
    for split in ("train", "valid", "test"):
        x, label, context = getattr(dataset, split)
        for array in (x, label) if context is None else (x, label, context):
            digest.update(f"{None if array is None else (array.shape, array.dtype.str)}".encode())
            if array is not None:
                rows = array if array.nbytes <= WHOLE else array[_spread(len(array))]
                digest.update(np.ascontiguousarray(rows))
    return digest.hexdigest()[:16]


def _spread(size):
    return np.unique(np.linspace(0, size - 1, SAMPLED).astype(np.int64))
