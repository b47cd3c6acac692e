"""Labels of any kind as classes 0, 1, 2, ... with their names."""

import numpy as np
from absl import logging

from vae_jax.spec import BadOption, nearest

ASK_ABOVE = 20  # classes: labels with more distinct values than half of the examples are no classes


def encode(name, labels, class_names=None):
    """Return {split: int32 [N]} or None, and the names of the classes, or None if the labels are already 0, 1, 2, ...

    Numbers that do not begin at 0 or leave some out, strings, and True and False are numbered in their order; the names
    keep the old labels. Labels of a single class are dropped. The log says both.

    Args:
      name: of the data set, for messages.
      labels: {split: labels [N], or None for a split without}.
      class_names: the names in the order of the labels 0, 1, 2, ...; strings among the labels are looked up here.

    Raises `ValueError` if only some splits have labels and for labels that are no classes, `BadOption` if `class_names`
    does not fit.
    """
    if class_names is not None:
        class_names = _checked_names(class_names)
    without = [split for split, label in labels.items() if label is None]
    if len(without) == len(labels):
        if class_names is not None:
            raise BadOption(f"class_names must be None for {name}, which has no labels")
        return None, None
    if without:
        raise ValueError(f"{name}: its {without[0]} split has no labels, others have; give all of them labels, or none")
    labels = {split: _clean(name, split, label) for split, label in labels.items()}
    values = np.unique(np.concatenate([np.unique(label) for label in labels.values()]))
    number = max(len(label) for label in labels.values())
    if len(values) == 1 and len(class_names or values) == 1:
        logging.warning("%s: all examples have the label %s: it is dropped", name, (class_names or values)[0])
        return None, None
    if class_names is not None:
        return _by_names(name, labels, values, class_names), class_names
    if len(values) > max(ASK_ABOVE, number // 2):
        raise ValueError(
            f"{name}: {len(values)} distinct labels for {number} training examples are no classes; leave the labels "
            "out, or give numbers as a context"
        )
    numbered = values.dtype.kind in "iu"
    if numbered and values[0] == 0 and values[-1] == len(values) - 1:
        return {split: label.astype(np.int32) for split, label in labels.items()}, None
    if numbered:
        words = "%s: the labels %s .. %s are numbered 0 .. %d; class_names keeps the old ones"
        logging.info(words, name, values[0], values[-1], len(values) - 1)
    encoded = {split: np.searchsorted(values, label).astype(np.int32) for split, label in labels.items()}
    return encoded, tuple(map(str, values.tolist()))


def log_missing_classes(dataset) -> None:
    """Log a warning for each split that has no example of some class."""
    for split in ("train", "valid", "test"):
        label = getattr(dataset, split).label
        missing = [] if label is None else np.setdiff1d(np.arange(dataset.num_classes), label).tolist()
        if missing:
            shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
            words = "%s: the %s split has no example of %d of %d classes: %s"
            logging.warning(words, dataset.name, split, len(missing), dataset.num_classes, shown)


def _checked_names(class_names):
    if isinstance(class_names, str) or not all(isinstance(name, str) for name in class_names):
        raise BadOption(f"class_names must be a tuple of strings, got {class_names!r}")
    if len(set(class_names)) != len(class_names):
        raise BadOption(f"class_names must be distinct, got {tuple(class_names)!r}")
    return tuple(map(str, class_names))


def _clean(name, split, label):
    """Return labels [N] as integers or strings."""
    label = np.asarray(label)
    if label.ndim == 2 and label.shape[1] == 1:
        label = label[:, 0]
    if label.ndim == 2:
        raise ValueError(
            f"{name}: the {split} labels are {list(label.shape)}, and one label for each example is required; for "
            "one-hot rows give label.argmax(1), for real numbers give a context"
        )
    if label.ndim != 1:
        raise ValueError(f"{name}: the {split} labels must be [N], got the shape {list(label.shape)}")
    if label.dtype.kind == "O" and all(isinstance(value, str) for value in label):
        label = label.astype(str)
    if label.dtype.kind == "S":
        label = np.char.decode(label, "utf-8", "replace")
    if label.dtype.kind == "u" or (label.dtype.kind == "f" and np.all(label == np.round(label))):
        label = label.astype(np.int64)  # of unsigned and signed integers NumPy makes floats
    if label.dtype.kind == "b":
        label = label.astype(str)
    if label.dtype.kind not in "iuU":
        raise ValueError(
            f"{name}: the {split} labels are {label.dtype}, and integers, strings or True and False are required, one "
            "for each example; give other numbers as a context"
        )
    return label


def _by_names(name, labels, values, class_names):
    """Return labels numbered in the order of `class_names`."""
    if values.dtype.kind == "U":
        if unknown := sorted(set(values.tolist()) - set(class_names)):
            raise BadOption(f"class_names lacks {unknown[0]!r}, a label of {name}{nearest(unknown[0], class_names)}")
        place = np.array([class_names.index(value) for value in values.tolist()])
        return {split: place[np.searchsorted(values, label)].astype(np.int32) for split, label in labels.items()}
    if values[0] >= 0 and values[-1] < len(class_names):
        return {split: label.astype(np.int32) for split, label in labels.items()}
    if len(values) != len(class_names):
        raise BadOption(
            f"class_names has {len(class_names)} names, and {name} has {len(values)} labels, from {values[0]} to "
            f"{values[-1]}"
        )
    return {split: np.searchsorted(values, label).astype(np.int32) for split, label in labels.items()}
