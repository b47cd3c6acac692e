"""Files of arrays as a data set: .npy, .npz, HDF5, Zarr, Parquet, or a folder of .npy files."""

from pathlib import Path

import numpy as np

from vae_jax.data import array_files, assemble, splits
from vae_jax.data.values import SPLITS, Dataset
from vae_jax.spec import BadOption, nearest, shown

CLASS_NAMES = "class_names"
DEFAULTS = {"x": "x", "label": "label", "context": "context"}  # names of arrays, and their parts of a split


def load(
    path=None, *, x=None, label=None, context=None, split=None, held_out=None, missing=False, max_value=None
) -> Dataset:
    """Return the data set of a file of arrays: images [N, H, W] or [N, H, W, C], vectors [N, D], series [N, T].

    The splits are arrays of their own if their names say so: `x_train`, `train_x`, `train/x` or `x/train`, with the
    other names of `splits.NAMES`, and the same for labels and contexts. Otherwise `split` names an array of the names
    of splits, one for each example. Without both, valid and test are held out (`splits.completed`). An array
    `class_names` of strings, if there is one, has the names of the classes.

    Args:
      path: the file or the folder.
      x: the name of the examples; None for "x", or for the only array in the file.
      label: the name of their classes; None for "label" if the file has it, "" for none.
      context: the name of what a model can be conditional on; None for "context" if the file has it, "" for none.
      split: the name of an array of "train", "valid" and "test", or of booleans that are True for test examples; None
        if there is none.
      held_out: the number of examples of each split that is missing; None for a sixth, at most 10,000.
      missing: True if NaN means "not observed"; otherwise NaN is refused.
      max_value: the largest value that can be stored; None or 0 to find it out.

    Raises FileNotFoundError if there is no file, `ValueError` for damaged files and arrays that do not fit together,
    and `BadOption` for a name that is not in the file.
    """
    if path is None:
        raise ValueError(f"arrays needs a path: one of {', '.join(array_files.SUFFIXES)} or a folder of .npy files")
    chosen = {"x": x, "label": label, "context": context, "split": split}
    for option, name in chosen.items():
        if name is not None and not isinstance(name, str):
            raise BadOption(f"{option} must be the name of an array, got {shown(name)}")
    path = Path(path).expanduser()
    file = array_files.opened(path)
    names = _names(path, file.names, chosen)
    parts = {of: tuple(None if name is None else file.read(name) for name in part) for of, part in names.items()}
    if split:
        parts = _divided(path, parts["train"], file, split)
    labelled = any(part[1] is not None for part in parts.values())
    class_names = file.read(CLASS_NAMES) if labelled and CLASS_NAMES in file.names else None
    return assemble.of_splits(
        path.resolve().stem,
        parts,
        where=str(path),
        class_names=None if class_names is None else tuple(map(str, np.atleast_1d(class_names))),
        held_out=held_out,
        missing=missing,
        max_value=max_value,
    )


def _names(path, names, chosen) -> dict[str, list]:
    """Return {split: [name of x, name of the labels or None, name of the contexts or None]}."""
    places = {part: _places(names, chosen[part] or DEFAULTS[part]) for part in DEFAULTS if chosen[part] != ""}
    if not places.get("x"):
        if chosen["x"] is None and len(names) == 1:
            places["x"] = {"train": names[0]}
        else:
            word = chosen["x"] or DEFAULTS["x"]
            raise BadOption(f"x: {path} has no array {word!r} and no {word}_train{nearest(word, names)}")
    for part in ("label", "context"):
        if chosen[part] and not places[part]:
            raise BadOption(f"{part}: {path} has no array {chosen[part]!r}{nearest(chosen[part], names)}")
    if "train" not in places["x"]:
        have = ", ".join(places["x"].values())
        raise ValueError(f"{path}: it has {have} and no training examples; name them {chosen['x'] or 'x'}_train")
    return {split: [places.get(part, {}).get(split) for part in DEFAULTS] for split in SPLITS if split in places["x"]}


def _places(names, word) -> dict[str, str]:
    """Return {split: name of the array} for the arrays of `word`: itself as "train", or one for each split."""
    found = {}
    for split, aliases in splits.NAMES.items():
        for alias in aliases:
            for name in (f"{word}_{alias}", f"{alias}_{word}", f"{alias}/{word}", f"{word}/{alias}"):
                if name in names:
                    found.setdefault(split, name)
    if word in names:
        if "train" in found:
            raise BadOption(f"x: both {word!r} and {found['train']!r} are there; give the name of another array")
        found["train"] = word
    return found


def _divided(path, arrays, file, split) -> dict[str, tuple]:
    """Return {split: its rows of the arrays}, as the array `split` says."""
    if split not in file.names:
        raise BadOption(f"split: {path} has no array {split!r}{nearest(split, file.names)}")
    words = np.asarray(file.read(split))
    words = np.where(words, "test", "train") if words.dtype == bool else words
    words = words.astype(str) if words.dtype.kind in "SU" and words.ndim == 1 else words
    if words.shape != (len(arrays[0]),) or words.dtype.kind != "U":
        raise ValueError(
            f"{path}: {split!r} must hold names of splits or booleans, one for each of {len(arrays[0])} examples, got "
            f"{words.dtype} {list(words.shape)}"
        )
    unknown = [word for word in np.unique(words).tolist() if splits.named(word) is None]
    if unknown:
        allowed = [name for names in splits.NAMES.values() for name in names]
        raise ValueError(f"{path}: {split!r} holds {unknown[0]!r}, which is no split{nearest(unknown[0], allowed)}")
    of_row = np.array([splits.named(word) for word in words.tolist()])
    parts = {}
    for name in SPLITS:
        rows = np.flatnonzero(of_row == name)
        if len(rows):
            parts[name] = tuple(None if array is None else splits.rows(array, rows) for array in arrays)
    if "train" not in parts:
        raise ValueError(f"{path}: {split!r} calls no example train")
    return parts
