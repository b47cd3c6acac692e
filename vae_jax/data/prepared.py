"""Read prepared sets of TFDS without TensorFlow: images once into .npy files that are mapped, texts line by line.

`prepare` makes them. A prepared folder may also come from elsewhere. TFDS imports the modules that its `features.json`
names, so these names are checked before TFDS sees the folder (`check_folder`).
"""

import difflib
import hashlib
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np

from vae_jax.data import files
from vae_jax.data.values import NAMES

# TFDS stores examples in the order of a hash of their keys. In these sets the keys are 0 .. N-1, so the published
# order can be restored, and with it every split and fixed draw that it defines.
NUMBERED = ("mnist", "fashion_mnist", "kmnist", "binarized_mnist")
FEATURE_CLASS = r"tensorflow_datasets\.core\.features(\.[A-Za-z_]\w*)+"  # what features.json may name


def cached(name: str, data_dir=None) -> Path:
    """Return the folder of a prepared set's .npy files under $VAE_JAX_CACHE. The first call makes it.

    It holds `{split}_x.npy` [N, H, W, C] uint8, `{split}_label.npy` int32 [N] if there are class labels, and
    `meta.json`. Raises FileNotFoundError if the set is not prepared, `ValueError` if TFDS has no such name or its
    images differ in size.
    """
    folder = prepared_dir(name, data_dir)
    check_folder(folder)
    root = Path(os.environ.get("VAE_JAX_CACHE") or "~/.cache/vae_jax").expanduser()
    # With the fingerprint, a set that is prepared again under the same version is not read from the old cache.
    fingerprint = hashlib.sha256((folder / "dataset_info.json").read_bytes()).hexdigest()[:8]
    cache = root / f"{name.replace('/', '-')}-{folder.name}-{fingerprint}"
    if not cache.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{cache.name}-") as work:
            _convert(name, folder, made := Path(work) / "made")
            try:
                made.rename(cache)
            except OSError:
                if not cache.is_dir():  # otherwise another process was first, with the same files
                    raise
    return cache


def texts(name: str, data_dir=None) -> dict[str, list[str]]:
    """Return {"train", "valid", "test": lines} of a prepared set with texts; "valid" and "test" only if TFDS has them.

    The lines are those of the feature `text`, or of the only feature that is text. Raises the errors of `cached`, and
    `ValueError` if no feature is text or several are.
    """
    import tensorflow_datasets as tfds

    folder = prepared_dir(name, data_dir)
    check_folder(folder)
    builder, features, splits = _opened(folder)
    names = [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]
    if "text" in names:
        names = ["text"]
    if len(names) != 1 or "train" not in splits:
        raise ValueError(
            f"{folder}: one feature of text and a 'train' split are required; it has {_short(features)} and "
            f"{sorted(splits)}"
        )
    ours = {"train": "train", "validation": "valid", "test": "test"}
    with files.reading(folder, "TFDS cannot read this folder"):
        return {
            ours[split]: [line for example in builder.as_data_source(split) for line in _lines(example[names[0]])]
            for split in ours
            if split in splits
        }


def tfds_root(data_dir=None) -> Path:
    """Return the data directory that TFDS itself would take: the argument, $TFDS_DATA_DIR or ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepared_dir(name, data_dir=None) -> Path:
    """Return the folder of the newest prepared version of a TFDS set. Nothing is prepared or downloaded.

    Raises FileNotFoundError if there is none; `ValueError` for an unknown name, for a missing configuration, and for
    files that are not array_record.
    """
    root = tfds_root(data_dir)
    is_path_safe = re.fullmatch(r"\w+(/[\w.+-]+)?", name) and name.partition("/")[2] not in (".", "..")
    if not is_path_safe:
        check_name(name)
        raise ValueError(
            f"no data set {name!r}: a set of TFDS is NAME or NAME/CONFIG, of letters, digits, '_', '.', '+', '-'"
        )
    if versions := [info.parent for info in (root / name).glob("*/dataset_info.json")]:
        newest = max(versions, key=lambda folder: [int(n) for n in re.findall(r"\d+", folder.name)])
        _check_format(name, newest)
        return newest
    if configs := sorted({info.parent.parent.name for info in (root / name).glob("*/*/dataset_info.json")}):
        raise ValueError(
            f"{name} has configurations: give the name {' or '.join(f'{name}/{config}' for config in configs)}"
        )
    check_name(name)
    raise FileNotFoundError(
        f"{name} is not prepared in {root}; prepare it once: python -m vae_jax.data.prepare {name} (downloads), or "
        f"python -m vae_jax.data.prepare {name} --from DIR (from its original files)"
    )


def check_name(name) -> None:
    """Raise `ValueError`, with the nearest names, for a set that TFDS does not have."""
    import tensorflow_datasets as tfds

    if name in set(NAMES) - set(NUMBERED):
        raise ValueError(f"{name} is no set of TFDS and needs no preparing: load it as it is")
    known = tfds.list_builders(with_community_datasets=False)
    if name.partition("/")[0] not in known:
        near = difflib.get_close_matches(name, {*NAMES, *known}, n=5)
        raise ValueError(
            f"no data set {name!r}: ours are {', '.join(NAMES)}; all others are sets of TFDS"
            + (f", where the nearest names are {', '.join(near)}" if near else "")
        )


def check_folder(folder: Path) -> None:
    """Raise `ValueError` for a prepared folder whose JSON files name a class that is not of TFDS, or another folder.

    Names of splits and templates of file names in `dataset_info.json` become paths.
    """
    check_classes(folder)
    where = folder / "dataset_info.json"
    info, splits = read_json(where), read_json(where).get("splits", [])
    if not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
        raise ValueError(f"{where}: the splits must be a list of objects; prepare the set again")
    required = [info.get("name"), *(split.get("name") for split in splits)]
    optional = [info.get(key) for key in ("fileFormat", "file_format", "version", "configName", "config_name")]
    optional += [split.get(key) for split in splits for key in ("filepathTemplate", "filepath_template")]
    for name in [*required, *filter(None, optional)]:
        files.plain_name(name, where)


def check_classes(folder: Path) -> None:
    """Raise `ValueError` if TFDS would import a module that is not its own.

    TFDS imports the module of every `pythonClassName` (`type`, in older files), at any depth of `features.json` and in
    JSON texts within it.
    """
    for file in (folder / "features.json", folder / "dataset_info.json"):
        keys = ("pythonclassname", "type") if file.name == "features.json" else ("pythonclassname",)
        for key, value in _items(read_json(file)) if file.exists() else ():
            if key in keys and isinstance(value, str) and not re.fullmatch(FEATURE_CLASS, value):
                raise ValueError(
                    f"{file}: it names the class {value[:80]!r}, whose module TFDS would import and so run; only "
                    "classes of tensorflow_datasets.core.features are allowed; prepare the set again from its source"
                )


def read_json(file) -> dict:
    """Return the object in a JSON file. Raise FileNotFoundError, or `ValueError` that names the file."""
    data = files.regular(file).read_bytes()
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: damaged JSON ({files.one_line(error)}); prepare the set again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: a JSON object is required, got {type(content).__name__}; prepare the set again")
    return content


def _check_format(name, folder):
    info = read_json(folder / "dataset_info.json")
    others = info.get("alternativeFileFormats")
    if "array_record" not in [info.get("fileFormat"), *(others if isinstance(others, list) else [])]:
        raise ValueError(
            f"{folder}: stored as {info.get('fileFormat', 'tfrecord')}, which only TensorFlow reads; prepare it in "
            f"another folder (python -m vae_jax.data.prepare {name} --data_dir DIR) and set TFDS_DATA_DIR=DIR"
        )


def _items(content):
    """Yield every (key, value) at any depth, also within texts that are JSON; keys as protobuf compares them."""
    todo = [content]
    while todo:
        content = todo.pop()
        if isinstance(content, dict):
            yield from ((str(key).replace("_", "").lower(), value) for key, value in content.items())
            todo += content.values()
        elif isinstance(content, list):
            todo += content
        elif isinstance(content, str) and content.lstrip()[:1] in ("{", "[", '"'):
            try:
                todo.append(json.loads(content))
            except (ValueError, RecursionError):  # TFDS cannot read it either
                continue


def _opened(folder):
    """Return TFDS's builder of a folder, its features and its splits.

    It reads only the folder, so no code of the set is needed and nothing can be downloaded.
    """
    import tensorflow_datasets as tfds

    with files.reading(folder, "TFDS cannot read this folder"):
        builder = tfds.builder_from_directory(folder)
        return builder, dict(builder.info.features), set(builder.info.splits)


def _convert(name, folder: Path, cache: Path) -> None:
    """Decode all splits into `cache`."""
    import tensorflow_datasets as tfds

    builder, features, splits = _opened(folder)
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8 or "train" not in splits:
        raise ValueError(
            f"{folder}: no uint8 'image' or no 'train' split: it has {_short(features)} and {sorted(splits)}"
        )
    num_classes = label.num_classes if isinstance(label, tfds.features.ClassLabel) else None
    cache.mkdir()
    (cache / "meta.json").write_text(json.dumps({"num_classes": num_classes}))
    for split in sorted(splits & {"train", "validation", "test"}):
        with files.reading(folder, "TFDS cannot read this folder"):
            examples = builder.as_data_source(split)
            stored = sum(file.stat().st_size for file in folder.glob("*array_record*"))
            if len(examples) > stored:  # every example takes at least a byte
                raise ValueError(f"{folder}: {len(examples):,} examples in {stored:,} bytes; prepare the set again")
            keys = published_order(split, len(examples)) if name in NUMBERED else range(len(examples))
            labels = _decode(folder, examples, keys, cache / f"{split}_x.npy", num_classes is not None)
        if num_classes is not None:
            np.save(cache / f"{split}_label.npy", labels)


def published_order(split, n) -> list[int]:
    """Return the key of the example at each stored position, for sets whose keys are 0 .. n-1."""
    from tensorflow_datasets.core.hashing import Hasher

    return sorted(range(n), key=Hasher(split).hash_key)


def _decode(folder, examples, keys, file, labelled) -> np.ndarray:
    """Write the images of a split to `file`, each in the row of its key, and return the labels in that order."""
    x = np.lib.format.open_memmap(file, "w+", np.uint8, (len(examples), *examples[0]["image"].shape))
    labels = np.zeros(len(examples), np.int32)
    for key, example in zip(keys, examples, strict=True):
        if example["image"].shape != x.shape[1:]:
            raise ValueError(
                f"{folder}: images vary in size ({x.shape[1:]}, {example['image'].shape}); all must have one size"
            )
        x[key] = example["image"]
        labels[key] = example["label"] if labelled else 0
    x.flush()
    return labels


def _short(features):
    return files.one_line(features)[:300]


def _lines(text):
    return (text.decode() if isinstance(text, bytes) else str(text)).split("\n")
