"""Data sets of images: digits, a folder of IDX files, the variants of MNIST, prepared TFDS sets.

A sixth of the training images, at most 10,000, is held out where no validation set is published.
"""

import hashlib
import importlib.util
import os
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.data import faces, files, idx, prepared, ranges, stored, synthetic
from vae_jax.data.splits import hold_out
from vae_jax.data.transforms import fixed_draw
from vae_jax.data.values import SPLITS, Dataset, Split
from vae_jax.spec import BadOption

DEBIAN = {"fashion_mnist": [Path("/usr/share/datasets/fashion-mnist")]}
PUBLISHED_ORDER = ("mnist", "fashion_mnist")  # their validation set is, by custom, the last 10,000 of train
DIGITS_SEED = 0
STACKED_SEED = 0
MAX_CLASSES = 10**6
SPRITE_SIDES = (64, 32, 16)  # pixels

# The sha256 of the unpacked bits, [N, 784] bytes of 0 and 1. Written as the original text ("0 1 ... 0\n"), the same
# bits have the sha256 that TFDS registers for the .amat files; every `prepare binarized_mnist` checks this.
BINARIZED_MNIST = {
    "train": "43490d4d6ac9002727af4426d8748609fdb7e4094fa65ad8d681ea60082a7a5a",
    "valid": "069b4f0beb389b776478c3e872b4df71c95ac4be64d7cbe6d32e24ebac8e6d5e",
    "test": "ca0294c3b8d984c7a1dc891015a8eea6f37bae59a34e35ea0fc8c47110a8dd86",
}


# ------------------------------------------------------------------------------------------- data sets with a name


def digits(path=None) -> Dataset:
    """Return the 1,797 digits of scikit-learn, 8x8 with 17 grey levels, split 1197 / 300 / 300 by a permutation.

    Their own order groups writers.
    """
    if path is not None:
        raise ValueError(f"digits is part of scikit-learn and takes no path, got {path}")
    # The file in its package, since importing scikit-learn takes a second.
    file = Path(importlib.util.find_spec("sklearn").origin).parent / "datasets" / "data" / "digits.csv.gz"
    rows = np.loadtxt(file, delimiter=",", dtype=np.uint8)
    order = np.random.default_rng(DIGITS_SEED).permutation(len(rows))
    x = rows[order, :64].reshape(-1, 8, 8, 1)
    label = rows[order, 64].astype(np.int32)
    train, valid, test = (Split(x[s], label[s]) for s in (slice(1197), slice(1197, 1497), slice(1497, None)))
    return Dataset("digits", train, valid, test, max_value=16, num_classes=10)


def four_by_four(path=None) -> Dataset:
    """Return 4x4 images drawn from a known process (`synthetic`), float32 in [0, 1], 1000 / 500 / 500."""
    if path is not None:
        raise ValueError(f"four_by_four is drawn, not read, and takes no path, got {path}")
    splits = {split: Split(*synthetic.four_by_four(split)[1:]) for split in SPLITS}
    return Dataset("four_by_four", **splits, max_value=1, num_classes=4)


def dsprites_by_rule(path=None, *, side=64) -> Dataset:
    """Return sprites of known factors, drawn by rule (`synthetic.dsprites`), 40,000 / 2,000 / 8,000 of 737,280.

    The label is the shape. The context is all five factors, `synthetic.DSPRITES_FACTORS`, as integers. The images have
    `side` x `side` pixels: 64, 32 or 16. Raises `BadOption` for another side.
    """
    if side not in SPRITE_SIDES:
        raise BadOption(f"side must be {', '.join(map(str, SPRITE_SIDES[:-1]))} or {SPRITE_SIDES[-1]}, got {side!r}")
    names = synthetic.DSPRITES_SHAPES
    splits = _of_factors("dsprites_by_rule", path, lambda split: synthetic.dsprites(split, side))
    return Dataset("dsprites_by_rule", **splits, max_value=1, num_classes=len(names), class_names=names)


def faces_by_rule(path=None) -> Dataset:
    """Return 28x20 cartoon faces of known factors, 256 grey levels, drawn by rule (`faces`), 2,225 / 300 / 500.

    The label is the smile, 0 .. 10. The context is all four factors, `faces.FACTORS`, as integers.
    """
    splits = _of_factors("faces_by_rule", path, faces.load)
    return Dataset("faces_by_rule", **splits, max_value=255, num_classes=faces.FACTORS["smile"])


def _of_factors(name, path, load):
    """Return {split: Split} from `load(split)`, images and their factors [N, K], the first of which is the label."""
    if path is not None:
        raise ValueError(f"{name} is drawn, not read, and takes no path, got {path}")
    drawn = {split: load(split) for split in SPLITS}
    return {split: Split(x, factors[:, 0].astype(np.int32), factors) for split, (x, factors) in drawn.items()}


def mnist(name, path=None, max_value=None) -> Dataset:
    """Return MNIST or Fashion-MNIST, 50,000 / 10,000 / 10,000, in the published order.

    The IDX files are looked for in `path`, else in $VAE_JAX_DATA/NAME and in Debian's folder, else TFDS is asked.
    """
    if path is not None:
        folder = _directory(name, path)
        folder = folder / name if (folder / name).is_dir() else folder
        return _of_folder(name, folder, num_classes=10, max_value=max_value)
    candidates = [root / name for root in _environment_dir()] + DEBIAN.get(name, [])
    for folder in candidates:
        if idx.find(folder, "train", "images"):
            return _of_folder(name, folder, num_classes=10, max_value=max_value)
    try:
        return of_tfds(name, max_value=max_value)
    except FileNotFoundError as error:
        tried = ", ".join(map(str, candidates)) or "none: $VAE_JAX_DATA is not set"
        raise FileNotFoundError(
            f"{error}; or give the folder of its IDX files as path or as $VAE_JAX_DATA/{name} (tried: {tried})"
        ) from None


def stacked_mnist(path=None) -> Dataset:
    """Return images of 28x28x3 whose channels are three random digits of MNIST: 1000 classes, 100a + 10b + c.

    The digits of a split come from the same split of MNIST, with replacement and a fixed seed: as many images as MNIST
    has, 50,000 / 10,000 / 10,000. A common test of how many modes a generator finds (arXiv:1611.02163 sec. 3.3.1).
    Raises `ValueError` without labels.
    """
    grey = mnist("mnist", path)
    if grey.train.label is None:
        raise ValueError("stacked_mnist needs the label files of MNIST: its classes are triples of digits")
    rng, splits = np.random.default_rng(STACKED_SEED), {}
    for split in SPLITS:
        x, label = getattr(grey, split)[:2]
        chosen = rng.integers(len(x), size=(len(x), 3))
        stacked = np.stack([x[column, :, :, 0] for column in chosen.T], axis=-1)
        splits[split] = Split(stacked, (label[chosen] @ [100, 10, 1]).astype(np.int32))
    return Dataset("stacked_mnist", **splits, max_value=grey.max_value, num_classes=1000)


def mnist_static(path=None) -> Dataset:
    """Return MNIST binarised once (`transforms.fixed_draw`), with its labels."""
    grey = mnist("mnist", path)
    drawn = {
        split: Split(fixed_draw(images.x, grey.max_value, split), images.label)
        for split, images in zip(SPLITS, grey[1:4], strict=True)
    }
    return Dataset("mnist_static", **drawn, max_value=1, num_classes=grey.num_classes)


def binarized_mnist(path=None) -> Dataset:
    """Return Larochelle's fixed draw of MNIST, 50,000 / 10,000 / 10,000, without labels.

    Raises `ValueError` for other bits: no other draw may have this name.
    """
    file = _binarized_file(path)
    if file is None:
        try:
            stored = of_tfds("binarized_mnist", max_value=1)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{error}; or give binarized_mnist.npz as path, or put it into $VAE_JAX_DATA"
            ) from None
        where, bits = "the prepared TFDS set", {split: np.asarray(getattr(stored, split).x) for split in SPLITS}
    else:
        where, bits = file, packed_bits(file)
    for split, x in bits.items():
        if (digest := hashlib.sha256(np.ascontiguousarray(x)).hexdigest()) != BINARIZED_MNIST[split]:
            raise ValueError(
                f"{where}: its {split} split is not Larochelle's draw: expected sha256 {BINARIZED_MNIST[split]}, "
                f"got {digest}. Another draw must have another name; mnist_static can be made from MNIST"
            )
    splits = {split: Split(x.reshape(-1, 28, 28, 1)) for split, x in bits.items()}
    return Dataset("binarized_mnist", **splits, max_value=1)


def packed_bits(npz) -> dict[str, np.ndarray]:
    """Return {split: bits [N, 784]} of binarized_mnist.npz, whose arrays hold eight pixels in a byte."""
    packed = files.load_npz(npz, SPLITS)
    for split in SPLITS:
        array = packed.get(split)
        if array is None or array.dtype != np.uint8 or array.ndim != 2 or array.shape[1] != 98:
            problem = "is not there" if array is None else f"is {array.dtype} {list(array.shape)}"
            raise ValueError(
                f"{npz}: the packed bits uint8 [N, 98] of {', '.join(SPLITS)} are required; {split} {problem}"
            )
    return {split: np.unpackbits(packed[split], axis=1) for split in SPLITS}


def _binarized_file(path) -> Path | None:
    """Return binarized_mnist.npz at `path` (the file or its folder) or in $VAE_JAX_DATA. Raise if `path` lacks it."""
    for place in _environment_dir() if path is None else [Path(path).expanduser()]:
        for file in (place, place / "binarized_mnist.npz", place / "binarized_mnist" / "binarized_mnist.npz"):
            if file.is_file():
                return file
    if path is not None:
        raise FileNotFoundError(f"binarized_mnist: no file {path} and no binarized_mnist.npz under it")
    return None


# --------------------------------------------------------------------------------------------------- folders, TFDS


def of_folder(path, max_value=None) -> Dataset:
    """Return the data set of a folder of IDX files. A permutation of fixed seed chooses the validation images."""
    return _of_folder("idx", _directory("idx", path), max_value=max_value)


def of_tfds(name, data_dir=None, max_value=None) -> Dataset:
    """Return a prepared image set of TFDS, through a cache of .npy files that are mapped, not read.

    If TFDS has no validation or no test split, each is held out of train, the test split first.
    """
    cache = prepared.cached(name, data_dir)
    num_classes = prepared.read_json(cache / "meta.json").get("num_classes")
    splits = {split: _mapped(cache, split) for split in ("train", "validation", "test")}
    splits = {split: images for split, images in splits.items() if images is not None}
    labels = [images.label for images in splits.values() if images.label is not None]
    if any((label < 0).any() for label in labels):
        logging.warning("%s: some labels are negative (not published): the data set is read without labels", name)
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


def _of_folder(name, folder, num_classes=None, max_value=None) -> Dataset:
    """Read the `train-*` and the `t10k-*` (or `test-*`) files. The validation set is a part of train."""
    train, test = Split(*idx.read_split(folder, "train")), Split(*idx.read_split(folder, "t10k", "test"))
    if (train.x.shape[1:], train.x.dtype) != (test.x.shape[1:], test.x.dtype):
        raise ValueError(
            f"{folder}: train images are {train.x.dtype} {train.x.shape[1:]}, "
            f"test images {test.x.dtype} {test.x.shape[1:]}: they must agree"
        )
    if train.x.ndim == 2:
        x = stored.alike(folder, {"train": train.x, "test": test.x})
        stored.check_numbers(folder, x, missing=None)
        train, test = train._replace(x=x["train"]), test._replace(x=x["test"])
    if name in PUBLISHED_ORDER and train.x.shape[1:3] != (28, 28):
        raise ValueError(
            f"{folder}: {name} has images of 28x28, these are {'x'.join(map(str, train.x.shape[1:3]))}; read images of "
            "your own with name='idx'"
        )
    if (train.label is None) != (test.label is None):
        raise FileNotFoundError(
            f"{folder}: only the {'test' if train.label is None else 'train'} labels are there; give both or none"
        )
    if train.label is not None:
        num_classes = _num_classes(name, folder, [train.label, test.label], num_classes, len(train.x))
    max_value = ranges.find(f"{name} in {folder}", {"train": train.x, "test": test.x}, max_value)
    train, valid = _hold_out(name, train)
    return Dataset(name, train, valid, test, max_value, num_classes)


def _num_classes(name, where, labels, num_classes, num_images) -> int:
    """Return `num_classes`, or one more than the largest label. Raise `ValueError` for labels that are no classes."""
    largest = max(int(label.max()) for label in labels)
    if not isinstance(num_classes, int | None) or (num_classes or 0) > MAX_CLASSES:
        raise ValueError(f"{where}: the number of classes must be at most {MAX_CLASSES:,}, got {num_classes!r}")
    if num_classes is not None and largest >= num_classes:
        raise ValueError(
            f"{where}: a label is {largest}, and {name} has the classes 0..{num_classes - 1}; the files are damaged or "
            "belong to another data set. Read another data set with name='idx'"
        )
    if largest >= max(1000, num_images):
        raise ValueError(
            f"{where}: a label is {largest}, which would be {largest + 1} classes for {num_images} training images; "
            "number the classes 0, 1, 2, ... or remove the label files"
        )
    return largest + 1 if num_classes is None else num_classes


def _hold_out(name, train: Split) -> tuple[Split, Split]:
    """Return the rest of `train` and its held-out images, both in the order of the file (`splits.hold_out`)."""
    return hold_out(name, train, last=name in PUBLISHED_ORDER)


def _directory(name, path) -> Path:
    if path is None:
        raise ValueError(f"{name} needs a path: the folder of its IDX files")
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise FileNotFoundError(f"{name}: no folder {folder}")
    return folder


def _environment_dir() -> list[Path]:
    """Return [$VAE_JAX_DATA], or [] if it is not set."""
    return [Path(root).expanduser() for root in [os.environ.get("VAE_JAX_DATA")] if root]
