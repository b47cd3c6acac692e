"""The three splits: their usual names, and the rule by which examples are held out where a split is not published.

A sixth of the training examples, at most 10,000, is held out for each split that is missing, the test split first. For
arrays the number can be chosen.
"""

import numpy as np

from vae_jax.data import reading
from vae_jax.data.on_demand import OnDemand
from vae_jax.data.values import Split

HOLD_OUT_SEED = 0
MOST_HELD_OUT = 10_000
LEAST = 7  # examples: a smaller number gives no three splits
NAMES = {  # how folders and keys name a split
    "train": ("train", "training"),
    "valid": ("valid", "val", "validation", "dev"),
    "test": ("test", "testing"),
}


def named(name: str) -> str | None:
    """Return the split that a folder or a key of this name holds, None if it is no name of a split."""
    return next((split for split, names in NAMES.items() if name.lower() in names), None)


def completed(name: str, splits: dict[str, Split], number=None) -> dict[str, Split]:
    """Return {split: Split} with all three splits. Missing ones, the test split first, are held out of "train".

    Held-out examples stand in a random order of fixed seed, so that the first ones of them are of all classes. Each
    missing split gets `number` of them, by default a sixth of what is left. Raises `ValueError` if there are too few
    examples.
    """
    if len(splits["train"].x) < LEAST:
        raise ValueError(
            f"{name}: {len(splits['train'].x)} training examples are too few; give at least {LEAST}, better a thousand"
        )
    for split in ("test", "valid"):
        if split not in splits:
            rest, out = hold_out(name, splits["train"], in_order=False, number=number)
            splits = {**splits, "train": rest, split: out}
    return splits


def hold_out(name: str, train: Split, *, last=False, in_order=True, number=None) -> tuple[Split, Split]:
    """Return the rest of `train` and its held-out examples. Mapped examples stay mapped.

    Args:
      name: of the data set, for messages.
      train: the examples.
      last: True to hold out the last examples. Otherwise a permutation of fixed seed chooses them, because files are
        often sorted by class.
      in_order: True to leave the held-out examples in the order of the file, False for that of the permutation.
      number: how many; None for min(10000, N // 6).
    """
    size = len(train.x)
    held_out = min(MOST_HELD_OUT, size // 6) if number is None else number
    if not held_out:
        raise ValueError(f"{name}: {size} training examples are too few to hold a sixth of them out; give at least 6")
    if held_out >= size:
        raise ValueError(f"{name}: of {size} training examples {number} cannot be held out")
    if last:
        chosen = slice(size - held_out), slice(size - held_out, None)
    else:
        order = np.random.default_rng(HOLD_OUT_SEED).permutation(size)
        chosen = np.sort(order[held_out:]), np.sort(order[:held_out]) if in_order else order[:held_out]
    rest, out = (_chosen(train, c) for c in chosen)
    return rest, out


def _chosen(split, index) -> Split:
    label = None if split.label is None else np.asarray(split.label)[index]
    return Split(rows(split.x, index), label, None if split.context is None else rows(split.context, index))


def rows(x, chosen):
    """Return x[chosen]. If x is mapped or made on demand, it is not read."""
    if isinstance(chosen, slice) or not isinstance(x, np.memmap | reading.Rows | OnDemand):
        return x[chosen]
    return reading.Rows(x.array, x.index[chosen]) if isinstance(x, reading.Rows) else reading.Rows(x, chosen)
