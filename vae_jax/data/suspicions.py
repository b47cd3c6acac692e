"""Warnings in the log about a data set that is probably not as it should be. Nothing here changes it."""

import numpy as np
from absl import logging

from vae_jax.data import on_demand, ranges
from vae_jax.data.values import SPLITS

FEW = 100  # training examples: fewer are learned by heart
WHOLE, MANY = 2**30, 10**6  # bytes and examples: copies are looked for in smaller data
WIDE = 100  # the span of a column of real numbers: with such numbers a network begins far from any use
SHOWN = 8  # columns named in a line


def log(dataset, held_out=()) -> None:
    """Log warnings about few examples, columns that say nothing, copies across splits, and sorted labels.

    Args:
      dataset: the finished data set.
      held_out: the splits that a permutation has held out of the training examples.
    """
    name, train = dataset.name, dataset.train
    if len(train.x) < FEW:
        logging.warning("%s: %d training examples are few: a model will learn them by heart", name, len(train.x))
    if on_demand.seen(train.x) is None:
        if train.x.ndim == 2:
            _log_columns(name, train.x)
        examples = [getattr(dataset, split).x for split in SPLITS]
        if sum(x.nbytes for x in examples) <= WHOLE and sum(map(len, examples)) <= MANY:
            _log_copies(dataset)
    _log_order(dataset, held_out)


def _log_columns(name, x):
    """Log the columns of vectors [N, D] that are constant, and those that repeat another one."""
    low, high, digests = [], [], [hash(())] * x.shape[1]
    for part in _parts(x):
        low.append(np.fmin.reduce(part, axis=0))
        high.append(np.fmax.reduce(part, axis=0))
        digests = [hash((d, c.tobytes())) for d, c in zip(digests, np.ascontiguousarray(part.T), strict=True)]
    low, high = np.fmin.reduce(low, axis=0), np.fmax.reduce(high, axis=0)
    span = high.astype(np.float64) - low
    constant = np.flatnonzero(~(span > 0))  # also if nothing is observed
    if x.dtype.kind == "f" and (span[span > 0] > WIDE).any():
        words = "%s: columns reach over %.3g to %.3g: standardise them, or read them as a table, which does so"
        logging.warning(words, name, span[span > 0].min(), span.max())
    if len(constant):
        words = "%s: %d of %d columns are constant and say nothing; leave them out: %s"
        logging.warning(words, name, len(constant), x.shape[1], _shown(constant))
    first, repeated = {}, []
    for column, digest in enumerate(digests):
        if column not in constant and first.setdefault(digest, column) != column:
            repeated.append(f"{column} (= {first[digest]})")
    if repeated:
        words = "%s: %d of %d columns repeat another one, so a density has no limit; leave them out: %s"
        logging.warning(words, name, len(repeated), x.shape[1], _shown(repeated))


def _log_copies(dataset):
    """Log how many validation and test examples are copies of an example of an earlier split."""
    seen = {split: _hashes(getattr(dataset, split).x) for split in SPLITS}
    for split, earlier in (("valid", "train"), ("test", "train"), ("test", "valid")):
        copies = int(np.isin(seen[split], seen[earlier]).sum())
        if copies:
            words = "%s: %d of %d %s examples are copies of %s examples"
            logging.warning(words, dataset.name, copies, len(seen[split]), split, earlier)


def _hashes(x):
    return np.fromiter((hash(row.tobytes()) for part in _parts(x) for row in part), np.int64)


def _log_order(dataset, held_out):
    for split in SPLITS:
        label = getattr(dataset, split).label
        changes = None if label is None else np.count_nonzero(np.diff(label))
        if not changes or changes >= len(np.unique(label)):
            continue
        if split == "train":
            words = "%s: the training labels are sorted; every epoch has a random order%s"
            chosen = ", and a permutation chose the held-out examples" if held_out else ""
            logging.info(words, dataset.name, chosen)
        else:
            words = "%s: the %s labels are sorted: its first examples are of the first classes only"
            logging.warning(words, dataset.name, split)


def _parts(x):
    """Yield the rows of x in parts, as arrays."""
    rows = max(1, ranges.CHUNK_BYTES // max(1, x.nbytes // len(x)))
    for start in range(0, len(x), rows):
        yield np.asarray(x[start : start + rows])


def _shown(values):
    return ", ".join(map(str, values[:SHOWN])) + (", ..." if len(values) > SHOWN else "")
