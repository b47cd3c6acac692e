"""Data sets of images, of text and of sound, as NumPy arrays: `load(name, path=None)`.

A set is found on this machine or refused with a remedy: reading never starts a download. Plain IDX files and TFDS sets
are mapped, so they may be larger than memory; an IDX file in .gz is unpacked in memory: unpack a large one on disk.

* `digits`: embedded in scikit-learn, 1797 images 8x8 with 17 grey levels. Its own order groups writers, so it is
  split 1197 / 300 / 300 by a permutation of fixed seed.
* `four_by_four`: 4x4 images drawn from a known process (`synthetic`), float32 in [0, 1], 1000 / 500 / 500.
* `mnist`, `fashion_mnist`: IDX files in `path`, `$VAE_JAX_DATA/NAME`, Debian's folder; else the prepared TFDS set.
  The first 50k of train, its last 10k (validation), the 10k of test, in the published order wherever it is read from.
* `idx`: any folder of IDX files. A sixth of train, at most 10k images, is validation: a permutation of fixed seed.
* `binarized_mnist`: Larochelle's fixed draw, 50k / 10k / 10k, no labels; nothing else may carry its name.
* `mnist_static`: our own fixed draw of MNIST, seed `STATIC_SEED`, labels kept.
* `text`: a file at `path`, a sentence on each line (`text.load`, whose options are `tokens`); without a path 5000 / 500
  / 1000 sentences of a grammar (`synthetic.grammar`).
* `audio`: a sound file, a folder of them or an .npz at `path`, cut into windows (`audio.load`, whose options are
  `audio`); without a path 300 / 60 / 60 sung vowels (`synthetic.vowels`).
* `NAME`, `NAME/CONFIG` or `tfds:NAME`: an image set of TFDS, prepared beforehand; `path` is then TFDS's data_dir. With
  `tokens` a set with texts, of which every line is a sentence. Splits that it lacks are held out as those of `idx`.

The log says which values the images have and on which scale they are read (`ranges`).
"""

import hashlib
import os
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.data import audio as sound
from vae_jax.data import files, idx, prepare, ranges, reading, synthetic, text
from vae_jax.data.values import NAMES, SPLITS, Dataset, Split
from vae_jax.spec import BadOption, call

DEBIAN = {"fashion_mnist": [Path("/usr/share/datasets/fashion-mnist")]}
PUBLISHED_ORDER = ("mnist", "fashion_mnist")  # whose validation set is, by custom, the last 10k of train
DIGITS_SEED = 0
STATIC_SEED = 0
HOLD_OUT_SEED = 0
MAX_CLASSES = 10**6

# sha256 of the unpacked bits, [N, 784] bytes of 0 and 1. Written as the original text ("0 1 ... 0\n"), the same bits
# have the sha256 that TFDS registers for the .amat files; `prepare binarized_mnist` proves it anew at every run.
BINARIZED_MNIST = {
    "train": "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
    "valid": "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
    "test": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
}


def load(
    name: str,
    path: str | None = None,
    *,
    tokens: dict | None = None,
    audio: dict | None = None,
    max_value: int | None = None,
) -> Dataset:
    """Return the data set `name`, and log how its values are read and which classes a split lacks.

    Args:
      name: one of `NAMES`, or a set of TFDS.
      path: where its files are; nothing else is then looked at.
      tokens: keyword arguments of `text.load`, or of `text.of_lines` for TFDS.
      audio: keyword arguments of `audio.load`.
      max_value: the largest value that a pixel can have; `None` or 0 to find it out (`ranges.find`).

    Raises FileNotFoundError for what is not there, ValueError for unknown names, for files that are damaged, and for
    values that can be read in two ways.
    """
    if tokens and name in set(NAMES) - {"text"}:
        raise BadOption(f"tokens must be empty for {name}, which is no text, got {tokens}")
    if audio and name != "audio":
        raise BadOption(f"audio must be empty for {name}, only the set 'audio' takes it; got {audio}")
    whole = isinstance(max_value, int | np.integer) and not isinstance(max_value, bool)
    if max_value and not (whole and 1 <= max_value <= 255):
        raise BadOption(f"max_value must be 0 (find it out) or an integer from 1 to 255, got {max_value!r}")
    dataset = _load(name, path, tokens, audio, max_value)
    if max_value and max_value != dataset.max_value:
        raise BadOption(
            f"max_value must be 0 for {dataset.name}, whose values are known to lie in 0..{dataset.max_value}; got "
            f"{max_value}"
        )
    _say_classes(dataset)
    return dataset


def _load(name, path, tokens, audio, max_value) -> Dataset:
    match name:
        case "audio":
            return _audio(path, audio or {})
        case "text":
            name = "grammar" if path is None else Path(path).stem
            return _of_tokens(name, *call(text.load, tokens or {}, path, where="tokens"))
        case "digits":
            return _digits(path)
        case "four_by_four":
            return _four_by_four(path)
        case "idx":
            return _from_idx(name, _directory(name, path), max_value=max_value)
        case "mnist" | "fashion_mnist":
            return _mnist(name, path, max_value)
        case "mnist_static":
            return _mnist_static(path)
        case "binarized_mnist":
            return _binarized_mnist(path)
        case _ if tokens:
            name = name.removeprefix("tfds:")
            return _of_tokens(name, *call(text.of_lines, tokens, prepare.texts(name, path), name, where="tokens"))
        case _:
            return _from_tfds(name.removeprefix("tfds:"), path, max_value)


def without_classes(dataset: Dataset, classes) -> Dataset:
    """`dataset` where no split shows an image of `classes`; the labels of the others stay what they are.

    Copies what stays into memory. Raises `ValueError` for classes that are not there, and where a split is left empty.
    """
    left = _chosen(dataset, classes, keep=False)
    if empty := [split for split in SPLITS if len(getattr(left, split).x) == 0]:
        raise ValueError(f"{dataset.name} without the classes {tuple(classes)} has no image in its {empty[0]} split")
    return left


def only_classes(dataset: Dataset, classes) -> Dataset:
    """Keep the images of the given `classes` alone: those that `without_classes` leaves out."""
    return _chosen(dataset, classes, keep=True)


def _chosen(dataset, classes, *, keep) -> Dataset:
    if any(getattr(dataset, split).label is None for split in SPLITS):
        raise ValueError(f"{dataset.name} has no labels: none of its classes can be left out")
    known = range(dataset.num_classes)
    if unknown := [label for label in classes if label not in known]:
        raise ValueError(f"{dataset.name} has no class {unknown[0]!r}: its classes are 0 .. {dataset.num_classes - 1}")
    splits = {}
    for split in SPLITS:
        images = getattr(dataset, split)
        chosen = np.isin(images.label, classes) == keep
        splits[split] = Split(*(None if array is None else array[chosen] for array in images))
    return dataset._replace(**splits)


def fixed_draw(x: np.ndarray, max_value: int, split: str) -> np.ndarray:
    """One Bernoulli(x / max_value) draw a pixel, uint8, the same at every call: a stream per split from `STATIC_SEED`.

    Exact for integers: with r uniform on 0 .. max_value - 1, P(r < x) = x / max_value.
    """
    x, rng = np.asarray(x), np.random.default_rng([STATIC_SEED, SPLITS.index(split)])
    if np.issubdtype(x.dtype, np.floating):
        return (rng.random(x.shape, np.float32) < x / max_value).astype(np.uint8)
    return (rng.integers(max_value, size=x.shape, dtype=np.uint8) < x).astype(np.uint8)


# ---------------------------------------------------------------------------------------------- the sets, by name


def _digits(path) -> Dataset:
    from sklearn.datasets import load_digits

    if path is not None:
        raise ValueError(f"digits is part of scikit-learn and takes no path: got {path}")
    data = load_digits()
    order = np.random.default_rng(DIGITS_SEED).permutation(len(data.target))
    x = data.images.astype(np.uint8)[order, :, :, None]
    label = data.target.astype(np.int32)[order]
    train, valid, test = (Split(x[s], label[s]) for s in (slice(1197), slice(1197, 1497), slice(1497, None)))
    return Dataset("digits", train, valid, test, max_value=16, num_classes=10)


def _four_by_four(path) -> Dataset:
    if path is not None:
        raise ValueError(f"four_by_four is drawn, not read, and takes no path: got {path}")
    splits = {split: Split(*synthetic.four_by_four(split)[1:]) for split in SPLITS}
    return Dataset("four_by_four", **splits, max_value=1, num_classes=4)


def _of_tokens(name, ids, vocabulary) -> Dataset:
    splits = {split: Split(ids[split], None) for split in SPLITS}
    return Dataset(name, **splits, max_value=len(vocabulary) - 1, num_classes=None, vocabulary=vocabulary)


def _audio(path, options) -> Dataset:
    parts, encoding, classes = call(sound.load, options, path, where="audio")
    splits = {split: Split(*part) for split, part in parts.items()}
    name = "vowels" if path is None else Path(path).stem
    return Dataset(
        name, **splits, max_value=encoding.num_levels - 1, num_classes=len(classes) or None, encoding=encoding
    )


def _mnist(name, path, max_value=None) -> Dataset:
    if path is not None:
        folder = _directory(name, path)
        folder = folder / name if (folder / name).is_dir() else folder
        return _from_idx(name, folder, num_classes=10, max_value=max_value)
    candidates = [root / name for root in _environment_dir()] + DEBIAN.get(name, [])
    for folder in candidates:
        if idx.find(folder, "train", "images"):
            return _from_idx(name, folder, num_classes=10, max_value=max_value)
    try:
        return _from_tfds(name, max_value=max_value)
    except FileNotFoundError as error:
        tried = ", ".join(map(str, candidates)) or "none: $VAE_JAX_DATA is not set"
        raise FileNotFoundError(
            f"{error}; or give the folder of its IDX files as path, or as $VAE_JAX_DATA/{name} (tried: {tried})"
        ) from None


def _mnist_static(path) -> Dataset:
    mnist = _mnist("mnist", path)
    drawn = {
        split: Split(fixed_draw(images.x, mnist.max_value, split), images.label)
        for split, images in zip(SPLITS, mnist[1:4], strict=True)
    }
    return Dataset("mnist_static", **drawn, max_value=1, num_classes=mnist.num_classes)


def _binarized_mnist(path) -> Dataset:
    file = _binarized_file(path)
    if file is None:
        try:
            stored = _from_tfds("binarized_mnist", max_value=1)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}; or give binarized_mnist.npz as path, or put it into $VAE_JAX_DATA"
            ) from None
        where, bits = "the prepared TFDS set", {split: np.asarray(getattr(stored, split).x) for split in SPLITS}
    else:
        where, bits = file, prepare.packed_bits(file)
    for split, x in bits.items():
        if (found := hashlib.sha256(np.ascontiguousarray(x)).hexdigest()) != BINARIZED_MNIST[split]:
            raise ValueError(
                f"{where}: its {split} split is not Larochelle's draw: expected sha256 {BINARIZED_MNIST[split]}, "
                f"found {found}. Another draw must not carry this name; mnist_static is one that can be made here"
            )
    splits = {split: Split(x.reshape(-1, 28, 28, 1), None) for split, x in bits.items()}
    return Dataset("binarized_mnist", **splits, max_value=1, num_classes=None)


def _binarized_file(path) -> Path | None:
    """`binarized_mnist.npz` at `path` (the file or its folder) or in $VAE_JAX_DATA. Raises where `path` lacks it."""
    for place in _environment_dir() if path is None else [Path(path).expanduser()]:
        for file in (place, place / "binarized_mnist.npz", place / "binarized_mnist" / "binarized_mnist.npz"):
            if file.is_file():
                return file
    if path is not None:
        raise FileNotFoundError(f"binarized_mnist: no file {path} and no binarized_mnist.npz under it")
    return None


# ------------------------------------------------------------------------------------------------- IDX directories


def _from_idx(name, folder, num_classes=None, max_value=None) -> Dataset:
    """`train-*` and `t10k-*` (or `test-*`) files; the validation set is a part of train."""
    train, test = Split(*idx.read_split(folder, "train")), Split(*idx.read_split(folder, "t10k", "test"))
    if (train.x.shape[1:], train.x.dtype) != (test.x.shape[1:], test.x.dtype):
        raise ValueError(
            f"{folder}: train images are {train.x.dtype} {train.x.shape[1:]}, "
            f"test images {test.x.dtype} {test.x.shape[1:]}: they must agree"
        )
    if name in PUBLISHED_ORDER and train.x.shape[1:3] != (28, 28):
        raise ValueError(
            f"{folder}: {name} has images of 28x28, these are {'x'.join(map(str, train.x.shape[1:3]))}; read images of "
            "your own with name='idx'"
        )
    if (train.label is None) != (test.label is None):
        raise FileNotFoundError(
            f"{folder}: only the {'test' if train.label is None else 'train'} labels: give both or none"
        )
    if train.label is not None:
        num_classes = _num_classes(name, folder, [train.label, test.label], num_classes, len(train.x))
    max_value = ranges.find(f"{name} in {folder}", {"train": train.x, "test": test.x}, max_value)
    train, valid = _hold_out(name, train)
    return Dataset(name, train, valid, test, max_value, num_classes)


def _num_classes(name, where, labels, num_classes, num_images) -> int:
    """`num_classes`, or one more than the largest label. Raises `ValueError` for labels that cannot be classes."""
    largest = max(int(label.max()) for label in labels)
    if not isinstance(num_classes, int | None) or (num_classes or 0) > MAX_CLASSES:
        raise ValueError(f"{where}: the number of classes is {num_classes!r}, where at most {MAX_CLASSES:,} are read")
    if num_classes is not None and largest >= num_classes:
        raise ValueError(
            f"{where}: a label is {largest}, and {name} has the classes 0..{num_classes - 1}; these are the files of "
            "another set, or damaged. Read another set with name='idx'"
        )
    if largest >= max(1000, num_images):
        raise ValueError(
            f"{where}: a label is {largest}, which would be {largest + 1} classes for {num_images} training images; "
            "number the classes 0, 1, 2, ... or remove the label files"
        )
    return largest + 1 if num_classes is None else num_classes


def _say_classes(dataset) -> None:
    """Log the classes that a split does not show."""
    for split in SPLITS:
        label = getattr(dataset, split).label
        lacking = [] if label is None else np.setdiff1d(np.arange(dataset.num_classes), label).tolist()
        if lacking:
            shown = ", ".join(map(str, lacking[:10])) + (", ..." if len(lacking) > 10 else "")
            words = "%s: the %s split has no example of %d of %d classes: %s"
            logging.warning(words, dataset.name, split, len(lacking), dataset.num_classes, shown)


def _hold_out(name, train: Split) -> tuple[Split, Split]:
    """Return the rest of `train` and its min(10000, N // 6) held-out images, both in the order of the file.

    They are the last ones of the sets in `PUBLISHED_ORDER`. Elsewhere a permutation of fixed seed chooses them, because
    files are often sorted by class. Mapped images stay mapped.
    """
    size = len(train.x)
    held_out = min(10_000, size // 6)
    if not held_out:
        raise ValueError(f"{name}: {size} training images are too few to hold a sixth of them out")
    if name in PUBLISHED_ORDER:
        chosen = slice(size - held_out), slice(size - held_out, None)
    else:
        order = np.random.default_rng(HOLD_OUT_SEED).permutation(size)
        chosen = np.sort(order[held_out:]), np.sort(order[:held_out])
    left, out = (Split(_rows(train.x, c), None if train.label is None else train.label[c]) for c in chosen)
    return left, out


def _rows(x, chosen):
    """Return x[chosen], which stays in its file where x is mapped."""
    if isinstance(chosen, slice) or not isinstance(x, np.memmap | reading.Rows):
        return x[chosen]
    return reading.Rows(x.array, x.index[chosen]) if isinstance(x, reading.Rows) else reading.Rows(x, chosen)


def _directory(name, path) -> Path:
    if path is None:
        raise ValueError(f"{name} needs a path: the directory of its IDX files")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: no directory {folder}")
    return folder


def _environment_dir() -> list[Path]:
    """[$VAE_JAX_DATA] where it is set."""
    return [Path(root).expanduser() for root in [os.environ.get("VAE_JAX_DATA")] if root]


# ------------------------------------------------------------------------------------------------------------ TFDS


def _from_tfds(name, data_dir=None, max_value=None) -> Dataset:
    """A prepared TFDS set, through a cache of .npy files that are mapped, not read.

    Where TFDS has no validation or no test split, each is held out of train (test first).
    """
    cache = prepare.cached(name, data_dir)
    num_classes = prepare.read_json(cache / "meta.json").get("num_classes")
    splits = {split: _mapped(cache, split) for split in ("train", "validation", "test")}
    splits = {split: images for split, images in splits.items() if images is not None}
    labels = [images.label for images in splits.values() if images.label is not None]
    if any((label < 0).any() for label in labels):
        logging.warning("%s: some labels are negative (not published): the set is read without labels", name)
        splits = {split: images._replace(label=None) for split, images in splits.items()}
        num_classes = None
    elif labels:
        num_classes = _num_classes(name, cache, labels, num_classes, len(splits["train"].x))
    max_value = ranges.find(name, {split: images.x for split, images in splits.items()}, max_value)
    train, test, valid = (splits.get(split) for split in ("train", "test", "validation"))
    if test is None:
        train, test = _hold_out(name, train)
    if valid is None:
        train, valid = _hold_out(name, train)
    return Dataset(name, train, valid, test, max_value, num_classes)


def _mapped(cache, split) -> Split | None:
    x, label = cache / f"{split}_x.npy", cache / f"{split}_label.npy"
    if not x.exists():
        return None
    with files.reading(cache, "a damaged cache; remove this folder"):
        return Split(np.load(x, mmap_mode="r"), np.load(label, allow_pickle=False) if label.exists() else None)
