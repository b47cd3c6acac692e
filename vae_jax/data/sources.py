"""Read a data set by its name: `load(name, path=None) -> Dataset`.

A data set is read from this machine or refused with a remedy: reading never starts a download. Plain IDX files and
TFDS sets are mapped, so they may be larger than memory.

* `digits`, `four_by_four`, `dsprites_by_rule`, `faces_by_rule`, `mnist`, `fashion_mnist`, `mnist_static`,
  `stacked_mnist`, `binarized_mnist`, `idx`: see `images`.
* `text`: a file with a sentence on each line (`text.load`), or by default sentences of `synthetic.grammar`.
* `audio`: a sound file, a folder of them or an .npz (`audio.load`), or by default sung vowels (`synthetic.vowels`).
* `images`: a folder of image files (`folders.load`). `arrays`: .npy, .npz, HDF5, Zarr, Parquet (`arrays.load`).
  `huggingface`: a set in the format of that hub (`huggingface.load`).
* `strokes`: pen drawings, an .npz of points or a folder of SVG files (`drawings.load`), or by default polygons
  (`synthetic.polygons`).
* `table`: a CSV, Parquet or Arrow file (`table.load`), or by default scikit-learn's breast_cancer.
* `counts`: counts from a known process (`synthetic.counts`).
* `NAME`, `NAME/CONFIG` or `tfds:NAME`: a prepared set of TFDS; `path` is then TFDS's data_dir. With `tokens` it is a
  set with texts, and every line is a sentence.

The log reports the values of the images and the scale on which they are read (`ranges`).
"""

from pathlib import Path

import numpy as np

from vae_jax.data import arrays, drawings, folders, huggingface, images, labels, prepared, synthetic, table, text
from vae_jax.data import audio as sound
from vae_jax.data.values import NAMES, SPLITS, Dataset, Split
from vae_jax.spec import BadOption, call

# The readers of the user's own files: (path, *, max_value, **files) -> Dataset.
READERS = {"images": folders.load, "arrays": arrays.load, "huggingface": huggingface.load, "strokes": drawings.load}
# Those with options in `files`. A max_value is at most 65535, of others 255.
WITH_FILES = (*READERS, "table", "dsprites_by_rule")


def load(
    name: str,
    path: str | None = None,
    *,
    tokens: dict | None = None,
    audio: dict | None = None,
    files: dict | None = None,
    max_value: int | None = None,
) -> Dataset:
    """Return the data set `name`, and log how its values are read and which classes a split lacks.

    Args:
      name: one of `NAMES`, or a set of TFDS.
      path: where its files are; no other place is then searched.
      tokens: keyword arguments of `text.load`, or of `text.of_lines` for TFDS.
      audio: keyword arguments of `audio.load`.
      files: keyword arguments of the reader of the user's files that `name` names (`READERS`).
      max_value: the largest value that a pixel can have; `None` or 0 to find it out (`ranges.find`).

    Raises FileNotFoundError for missing files, `ValueError` for unknown names and damaged files, and `BadOption` for
    options out of range and for values that can be read in two ways.
    """
    if tokens and name in set(NAMES) - {"text"}:
        raise BadOption(f"tokens must be empty for {name}, which is no text, got {tokens}")
    if audio and name != "audio":
        raise BadOption(f"audio must be empty for {name}: it is for the data set 'audio', got {audio}")
    if files and name not in WITH_FILES:
        raise BadOption(f"files must be empty for {name}: it is for {', '.join(sorted(WITH_FILES))}; got {files}")
    whole = isinstance(max_value, int | np.integer) and not isinstance(max_value, bool)
    most = 65535 if name in WITH_FILES else 255
    if max_value and not (whole and 1 <= max_value <= most):
        raise BadOption(f"max_value must be 0 (find it out) or an integer from 1 to {most}, got {max_value!r}")
    dataset = _load(name, path, tokens or {}, audio or {}, files or {}, max_value)
    if max_value and max_value != dataset.max_value:
        raise BadOption(
            f"max_value must be 0 for {dataset.name}, whose values are known to lie in 0..{dataset.max_value}; got "
            f"{max_value}"
        )
    labels.log_missing_classes(dataset)
    return dataset


def _load(name, path, tokens, audio, files, max_value) -> Dataset:
    if name in READERS:
        return _of_files(READERS[name], path, files, max_value)
    match name:
        case "audio":
            return _of_audio(path, audio)
        case "table":
            return call(table.load, files, path, where="files")
        case "counts":
            return _counts(path)
        case "text":
            name = "grammar" if path is None else Path(path).stem
            return _of_tokens(name, *call(text.load, tokens, path, where="tokens"))
        case "dsprites_by_rule":
            return call(images.dsprites_by_rule, files, path, where="files")
        case "digits" | "four_by_four" | "faces_by_rule":
            return getattr(images, name)(path)
        case "mnist_static" | "stacked_mnist" | "binarized_mnist":
            return getattr(images, name)(path)
        case "mnist" | "fashion_mnist":
            return images.mnist(name, path, max_value)
        case "idx":
            return images.of_folder(path, max_value)
        case _ if tokens:
            name = name.removeprefix("tfds:")
            return _of_tokens(name, *call(text.of_lines, tokens, prepared.texts(name, path), name, where="tokens"))
        case _:
            return images.of_tfds(name.removeprefix("tfds:"), path, max_value)


def _counts(path) -> Dataset:
    """Return counts of 200 genes in 2,000 cells that are drawn from a known process (`synthetic.counts`)."""
    if path is not None:
        raise ValueError(f"counts is drawn, not read, and takes no path, got {path}; read your own with name='table'")
    splits = {split: Split(synthetic.counts(split)[-1]) for split in SPLITS}
    return Dataset("counts", **splits, max_value=max(int(split.x.max()) for split in splits.values()))


def _of_tokens(name, ids, vocabulary) -> Dataset:
    splits = {split: Split(ids[split]) for split in SPLITS}
    return Dataset(name, **splits, max_value=len(vocabulary) - 1, vocabulary=vocabulary)


def _of_files(reader, path, files, max_value) -> Dataset:
    """Call a reader of the user's files. `max_value` stands beside `files`, and so do the errors about it."""
    try:
        return call(reader, files, path, where="files", max_value=max_value)
    except BadOption as error:
        message = str(error)
        raise BadOption(message.removeprefix("files.") if message.startswith("files.max_value") else message) from error


def _of_audio(path, options) -> Dataset:
    parts, encoding, classes = call(sound.load, options, path, where="audio")
    splits = {split: Split(*part) for split, part in parts.items()}
    name, max_value = "vowels" if path is None else Path(path).stem, encoding.num_levels - 1
    of_classes = {"num_classes": len(classes), "class_names": tuple(classes)} if classes else {}
    return Dataset(name, **splits, max_value=max_value, encoding=encoding, **of_classes)


def without_classes(dataset: Dataset, classes) -> Dataset:
    """Return `dataset` without the examples of `classes`. The other labels do not change.

    The remaining examples are copied into memory. Raises `ValueError` for unknown classes, and if a split is empty.
    """
    rest = _chosen(dataset, classes, keep=False)
    if empty := [split for split in SPLITS if len(getattr(rest, split).x) == 0]:
        raise ValueError(f"{dataset.name} without the classes {tuple(classes)} has no example in its {empty[0]} split")
    return rest


def only_classes(dataset: Dataset, classes) -> Dataset:
    """Return the examples of `classes`: those that `without_classes` leaves out."""
    return _chosen(dataset, classes, keep=True)


def _chosen(dataset, classes, *, keep) -> Dataset:
    if any(getattr(dataset, split).label is None for split in SPLITS):
        raise ValueError(f"{dataset.name} has no labels, so no class can be left out")
    known = range(dataset.num_classes)
    if unknown := [label for label in classes if label not in known]:
        raise ValueError(f"{dataset.name} has no class {unknown[0]!r}: its classes are 0 .. {dataset.num_classes - 1}")
    splits = {}
    for split in SPLITS:
        stored = getattr(dataset, split)
        chosen = np.isin(stored.label, classes) == keep
        splits[split] = Split(*(None if array is None else array[chosen] for array in stored))
    return dataset._replace(**splits)
