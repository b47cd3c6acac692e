"""Data sets from your own arrays, `from_arrays`, and from a source that is larger than memory, `from_source`.

Every reader of the user's files ends here: values get a type that is stored, labels become classes, missing splits are
held out, the range is found, and the log says what looks wrong.
"""

import numpy as np

from vae_jax.data import labels, on_demand, ranges, splits, stored, suspicions
from vae_jax.data.on_demand import OnDemand
from vae_jax.data.reading import Rows
from vae_jax.data.values import SPLITS, Dataset, Split
from vae_jax.spec import BadOption, flags, integers


def from_arrays(
    x,
    label=None,
    context=None,
    *,
    valid=None,
    test=None,
    class_names=None,
    max_value=None,
    missing=False,
    name="arrays",
) -> Dataset:
    """Return the data set of your own arrays: NumPy, JAX, lists, anything that NumPy makes an array of.

    A sixth of the training examples, at most 10,000, is held out for `test` and then for `valid` if they are not given.
    A permutation of fixed seed chooses them.

    Args:
      x: the training examples: images [N, H, W] or [N, H, W, C], vectors [N, D] or series [N, T]; integers, True and
        False, or floats. bytes, uint16 and float32 are not copied, so they may be memory maps.
      label: classes [N]: integers, strings, True and False; None without.
      context: vectors [N, D] or images [N, H, W, C] on which a model can be conditional; None without.
      valid: the validation examples: x, or a tuple (x, label) or (x, label, context).
      test: the test examples, like `valid`.
      class_names: the names of the classes 0, 1, 2, ...
      max_value: the largest value that can be stored; None to find it out (`ranges.find`).
      missing: True if NaN means "not observed"; otherwise NaN is refused.
      name: of the data set.

    Raises `ValueError` for arrays that do not fit together, and `BadOption` for options that do not fit.
    """
    given = {"train": (x, label, context), "valid": _tuple(valid), "test": _tuple(test)}
    dataset = of_splits(
        name,
        {split: parts for split, parts in given.items() if parts is not None},
        class_names=class_names,
        max_value=max_value,
        missing=missing,
    )
    labels.log_missing_classes(dataset)
    return dataset


def from_source(
    source,
    *,
    valid=None,
    test=None,
    x="x",
    label="label",
    class_names=None,
    max_value=None,
    missing=False,
    name="source",
) -> Dataset:
    """Return the data set of a random-access source, whose examples are made when a batch needs them.

    The source is read once, in threads, to find the range, the labels and what is wrong. After that it is streamed if
    it has more bytes than `memory_limit` of the pipeline. The batches are those of the same examples as an array, bit
    for bit.

    Args:
      source: has `len(source)` and `source[i]`, like a Grain source: an array, or a dict of arrays. It returns the same
        example i at every call, and is called from several threads.
      valid: the source of the validation examples; None to hold them out (`splits.completed`).
      test: the source of the test examples.
      x: the key of an example in the dict.
      label: the key of its label; examples may have none.
      class_names: the names of the classes 0, 1, 2, ...
      max_value: the largest value that can be stored; None to find it out (`ranges.find`).
      missing: True if NaN means "not observed"; otherwise NaN is refused.
      name: of the data set.
    """
    parts = {}
    for split, given in (("train", source), ("valid", valid), ("test", test)):
        if given is not None:
            seen = on_demand.survey(given, f"{name}, {split}", x=x, label=label)
            parts[split] = OnDemand(given, x, (len(given), *seen.shape), seen.dtype, seen), seen.labels, None
    dataset = of_splits(name, parts, class_names=class_names, max_value=max_value, missing=missing)
    labels.log_missing_classes(dataset)
    return dataset


def of_splits(
    name,
    parts,
    *,
    where=None,
    class_names=None,
    max_value=None,
    missing=False,
    held_out=None,
    dark_below=ranges.NEARLY,
) -> Dataset:
    """Return the data set of {split: (x, label, context)}, where "train" is required.

    Args:
      name: of the data set.
      parts: arrays of any type; labels and contexts may be None.
      where: what messages name: the file; the name by default.
      class_names: the names of the classes 0, 1, 2, ...; None to take them from the labels.
      max_value: the largest value that can be stored; None or 0 to find it out.
      missing: True if NaN means "not observed".
      held_out: the number of examples of each missing split; None for a sixth of the training examples.
      dark_below: the share of the scale 0..255 which the largest value must reach, so that images need no `max_value`.
    """
    flags(missing=missing)
    integers(max_value=max_value or 0, at_least=0, at_most=65535)
    integers(held_out=1 if held_out is None else held_out)
    where = where or name
    x = {split: stored.examples(f"{where}, {split}", x, missing) for split, (x, _, _) in parts.items()}
    binary = all(array.dtype == bool for array in x.values())
    x = stored.alike(where, x)
    stored.check_numbers(where, x, missing)
    for split, part in parts.items():
        for what, array in zip(("label", "context"), part[1:], strict=True):
            if array is not None and len(array) != len(x[split]):
                raise ValueError(f"{where}: its {split} split has {len(x[split])} examples and {len(array)} {what}s")
    encoded, names = labels.encode(where, {split: label for split, (_, label, _) in parts.items()}, class_names)
    given = {}
    for split, (_, _, context) in parts.items():
        label = None if encoded is None else encoded[split]
        given[split] = Split(x[split], label, None if context is None else _context(f"{where}, {split}", context))
    max_value = max_value or (1 if binary else None)
    max_value = ranges.find(where, x, max_value, missing=missing, dark_below=dark_below)
    if encoded is None:
        num_classes = None
    else:
        num_classes = len(names) if names else 1 + max(int(label.max()) for label in encoded.values())
    whole = splits.completed(where, given, held_out)
    dataset = Dataset(name, **whole, max_value=max_value, num_classes=num_classes, class_names=names, missing=missing)
    suspicions.log(dataset, held_out=[split for split in SPLITS if split not in given])
    return dataset


def _context(where, context):
    """Return the contexts of a split as an array of finite numbers. A memory map stays one."""
    if not isinstance(context, np.memmap | Rows):
        context = np.asarray(context)
    if context.dtype.kind not in "buif" or context.ndim < 2:
        raise ValueError(
            f"{where}: contexts must be numbers, [N, D] or [N, H, W, C], these are {context.dtype} "
            f"{list(context.shape)}"
        )
    if not np.isfinite(ranges.look(context)[:2]).all():
        raise ValueError(f"{where}: a context is not finite; leave this example out")
    return context


def _tuple(part):
    """Return (x, label, context) of a split that is given as x or as a tuple, None for None."""
    if part is None:
        return None
    part = tuple(part) if isinstance(part, tuple) else (part,)
    if not 1 <= len(part) <= 3:
        raise BadOption(f"valid and test must be x, (x, label) or (x, label, context), got {len(part)} arrays")
    return part + (None,) * (3 - len(part))
