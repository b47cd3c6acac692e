"""TFDS sets without TensorFlow: prepared once; images are decoded once into .npy files that are mapped into memory.

    python -m vae_jax.data.prepare NAME [--from DIR] [--data_dir DIR]

writes the set as array_record where plain `tfds.data_source(NAME)` reads it. The sets of `NUMBERED` need no
TensorFlow and, with `--from` and their original files, no network; others are made by TFDS's own code, which needs
TensorFlow. The extra `tfds` holds what TFDS needs and does not declare.

Original files count only with the sha256 that TFDS registers: MNIST, Fashion-MNIST and Kuzushiji-MNIST share their
file names, and nothing else tells them apart.

A prepared folder may come from elsewhere. TFDS imports the modules that its `features.json` names, so the names are
checked before TFDS sees the folder (`check_folder`).
"""

import argparse
import difflib
import hashlib
import importlib.util
import json
import os
import re
import tempfile
from pathlib import Path

import numpy as np

from vae_jax.data import files, idx
from vae_jax.data.values import NAMES

# TFDS stores examples in the order of a hash of their keys. In these sets the keys are 0 .. N-1, so the published
# order, and with it every split and fixed draw that is defined by it, can be had back.
NUMBERED = ("mnist", "fashion_mnist", "kmnist", "binarized_mnist")
FEATURE_CLASS = r"tensorflow_datasets\.core\.features(\.[A-Za-z_]\w*)+"  # what features.json may name
PACKED = ("train", "valid", "test")  # the arrays of binarized_mnist.npz


# ------------------------------------------------------------------------------------------------------- reading


def cached(name: str, data_dir=None) -> Path:
    """The folder of a prepared set's .npy files, under $VAE_JAX_CACHE: made at the first call, whole once it exists.

    `{split}_x.npy` [N, H, W, C] uint8 and, with class labels, `{split}_label.npy` int32 [N]; `meta.json`. Raises
    FileNotFoundError if the set is not prepared, ValueError if TFDS has no such name or its images are of many sizes.
    """
    prepared = prepared_dir(name, data_dir)
    check_folder(prepared)
    root = Path(os.environ.get("VAE_JAX_CACHE") or "~/.cache/vae_jax").expanduser()
    # The fingerprint: a set prepared anew under the same version must not be read from the cache of the old one.
    fingerprint = hashlib.sha256((prepared / "dataset_info.json").read_bytes()).hexdigest()[:8]
    cache = root / f"{name.replace('/', '-')}-{prepared.name}-{fingerprint}"
    if not cache.is_dir():
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=f".{cache.name}-") as work:
            _convert(name, prepared, made := Path(work) / "made")
            try:
                made.rename(cache)
            except OSError:
                if not cache.is_dir():  # else another process was first, with the same files
                    raise
    return cache


def tfds_root(data_dir=None) -> Path:
    """TFDS's own choice of a data directory: the argument, $TFDS_DATA_DIR, ~/tensorflow_datasets."""
    return Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()


def prepared_dir(name, data_dir=None) -> Path:
    """The folder of the newest prepared version of a TFDS set; never builds or fetches one.

    Raises FileNotFoundError where there is none, ValueError for an unknown name, a configuration that is not named, and
    files that are not array_record.
    """
    root = tfds_root(data_dir)
    if re.fullmatch(r"\w+(/[\w.+-]+)?", name) and name.partition("/")[2] not in (".", ".."):
        if versions := [info.parent for info in (root / name).glob("*/dataset_info.json")]:
            newest = max(versions, key=lambda folder: [int(n) for n in re.findall(r"\d+", folder.name)])
            info = read_json(newest / "dataset_info.json")
            formats = [info.get("fileFormat"), *_as_list(info.get("alternativeFileFormats"))]
            if "array_record" not in formats:
                raise ValueError(
                    f"{newest}: stored as {info.get('fileFormat', 'tfrecord')}, which only TensorFlow reads; prepare "
                    f"it elsewhere (python -m vae_jax.data.prepare {name} --data_dir DIR) and set TFDS_DATA_DIR=DIR"
                )
            return newest
        if configs := sorted({info.parent.parent.name for info in (root / name).glob("*/*/dataset_info.json")}):
            raise ValueError(f"{name} has configurations: say {' or '.join(f'{name}/{config}' for config in configs)}")
        check_name(name)
        raise FileNotFoundError(
            f"{name} is not prepared in {root}; prepare it once: python -m vae_jax.data.prepare {name} (downloads), or "
            f"python -m vae_jax.data.prepare {name} --from DIR (from its original files)"
        )
    check_name(name)
    raise ValueError(
        f"no data set {name!r}: a set of TFDS is NAME or NAME/CONFIG, of letters, digits, '_', '.', '+', '-'"
    )


def read_json(file) -> dict:
    """The object in a JSON file. Raises FileNotFoundError, or `ValueError` that names the file."""
    data = files.regular(file).read_bytes()
    try:
        content = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: damaged JSON ({files.one_line(error)}); prepare the set again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file}: a JSON object is required, found {type(content).__name__}; prepare the set again")
    return content


def check_folder(prepared: Path) -> None:
    """Raise `ValueError` for a prepared folder whose JSON files name a class that is not TFDS's own, or another folder.

    Names of splits and templates of file names in `dataset_info.json` become paths.
    """
    _check_classes(prepared)
    where = prepared / "dataset_info.json"
    info, splits = read_json(where), read_json(where).get("splits", [])
    if not isinstance(splits, list) or not all(isinstance(split, dict) for split in splits):
        raise ValueError(f"{where}: the splits must be a list of objects; prepare the set again")
    required = [info.get("name"), *(split.get("name") for split in splits)]
    optional = [info.get(key) for key in ("fileFormat", "file_format", "version", "configName", "config_name")]
    optional += [split.get(key) for split in splits for key in ("filepathTemplate", "filepath_template")]
    for name in [*required, *filter(None, optional)]:
        files.plain_name(name, where)


def _check_classes(prepared: Path) -> None:
    """Raise `ValueError` where TFDS would import a module that is not its own.

    It imports the module of every `pythonClassName` (`type`, in older files), at any depth of `features.json` and in
    JSON texts within it.
    """
    for file in (prepared / "features.json", prepared / "dataset_info.json"):
        keys = ("pythonclassname", "type") if file.name == "features.json" else ("pythonclassname",)
        for key, value in _items(read_json(file)) if file.exists() else ():
            if key in keys and isinstance(value, str) and not re.fullmatch(FEATURE_CLASS, value):
                raise ValueError(
                    f"{file}: it names the class {value[:80]!r}, whose module TFDS would import and so run; only "
                    "classes of tensorflow_datasets.core.features are allowed; prepare the set again from its source"
                )


def _items(content):
    """Every (key, value) at any depth, also within texts that are JSON; keys as protobuf compares them."""
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
            except (ValueError, RecursionError):  # which TFDS cannot read either
                continue


def _as_list(value) -> list:
    return value if isinstance(value, list) else []


def check_name(name) -> None:
    """Raises ValueError, with the nearest names, for a set that TFDS does not have."""
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


def _convert(name, prepared: Path, cache: Path) -> None:
    """Decodes all splits. Read from the folder alone, which needs no code of the set and cannot download."""
    import tensorflow_datasets as tfds

    with files.reading(prepared, "TFDS cannot read this folder"):
        builder = tfds.builder_from_directory(prepared)
        features, splits = dict(builder.info.features), set(builder.info.splits)
    image, label = features.get("image"), features.get("label")
    if not isinstance(image, tfds.features.Image) or image.np_dtype != np.uint8 or "train" not in splits:
        raise ValueError(
            f"{prepared}: no uint8 'image' or no 'train' split: it has {_words(features)} and {sorted(splits)}"
        )
    num_classes = label.num_classes if isinstance(label, tfds.features.ClassLabel) else None
    cache.mkdir()
    (cache / "meta.json").write_text(json.dumps({"num_classes": num_classes}))
    for split in sorted(splits & {"train", "validation", "test"}):
        with files.reading(prepared, "TFDS cannot read this folder"):
            examples = builder.as_data_source(split)
            stored = sum(file.stat().st_size for file in prepared.glob("*array_record*"))
            if len(examples) > stored:  # an example takes a byte at least
                raise ValueError(f"{prepared}: {len(examples):,} examples in {stored:,} bytes; prepare the set again")
            keys = _published_order(split, len(examples)) if name in NUMBERED else range(len(examples))
            labels = _decode(prepared, examples, keys, cache / f"{split}_x.npy", num_classes is not None)
        if num_classes is not None:
            np.save(cache / f"{split}_label.npy", labels)


def _words(features):
    return files.one_line(features)[:300]


def texts(name: str, data_dir=None) -> dict[str, list[str]]:
    """{"train", "valid", "test", those there are: lines} of a prepared set with texts: its feature `text`, else the one
    that is text. Raises as `cached` does, and ValueError where no feature is text, or several are.
    """
    import tensorflow_datasets as tfds

    prepared = prepared_dir(name, data_dir)
    check_folder(prepared)
    with files.reading(prepared, "TFDS cannot read this folder"):
        builder = tfds.builder_from_directory(prepared)
        features, splits = dict(builder.info.features), set(builder.info.splits)
    found = [key for key, feature in features.items() if isinstance(feature, tfds.features.Text)]
    if "text" in found:
        found = ["text"]
    if len(found) != 1 or "train" not in splits:
        raise ValueError(
            f"{prepared}: want one feature of text and a 'train' split; it has {_words(features)} and {sorted(splits)}"
        )
    ours = {"train": "train", "validation": "valid", "test": "test"}
    with files.reading(prepared, "TFDS cannot read this folder"):
        return {
            ours[split]: [line for example in builder.as_data_source(split) for line in _lines(example[found[0]])]
            for split in ours
            if split in splits
        }


def _lines(text):
    return (text.decode() if isinstance(text, bytes) else str(text)).split("\n")


def _published_order(split, n) -> list[int]:
    """The key of the example at each stored position, where keys are 0 .. n-1."""
    from tensorflow_datasets.core.hashing import Hasher

    return sorted(range(n), key=Hasher(split).hash_key)


def _decode(prepared, examples, keys, file, labelled) -> np.ndarray:
    """Writes one split's images to `file`, each in the row of its key, and returns the labels in that order."""
    x = np.lib.format.open_memmap(file, "w+", np.uint8, (len(examples), *examples[0]["image"].shape))
    labels = np.zeros(len(examples), np.int32)
    for key, example in zip(keys, examples, strict=True):
        if example["image"].shape != x.shape[1:]:
            raise ValueError(
                f"{prepared}: images vary in size ({x.shape[1:]}, {example['image'].shape}): they must all be of one"
            )
        x[key] = example["image"]
        labels[key] = example["label"] if labelled else 0
    x.flush()
    return labels


# ----------------------------------------------------------------------------------------------------- preparing


def prepare(name: str, source=None, data_dir=None) -> Path:
    """Writes the TFDS set `name` as array_record and returns its folder; from the files in `source`, or by download.

    Raises ValueError for unknown names and for files that are not the official ones, FileNotFoundError for missing
    ones, ImportError where a module that makes the set is not installed.
    """
    import tensorflow_datasets as tfds

    check_name(name)
    try:
        ready = prepared_dir(name, data_dir)
        print(f"{name}: already prepared, nothing to do: {ready}")
        return ready
    except FileNotFoundError:
        root = tfds_root(data_dir)
    if lacking := [module for module in ("importlib_resources", "PIL") if importlib.util.find_spec(module) is None]:
        raise ImportError(f"preparing a set needs {' and '.join(lacking)}: pip install 'vae_jax[tfds]'")
    for features in (root / name.partition("/")[0]).rglob("features.json"):  # of a folder that is not whole
        _check_classes(features.parent)
    if name in NUMBERED:
        builder = builder_cls(name)(data_dir=root)
    elif importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            f"TFDS makes {name} with TensorFlow, which is not installed: pip install tensorflow. "
            f"Without it these can be prepared: {', '.join(NUMBERED)}"
        )
    else:
        builder = tfds.builder(name, data_dir=root)
    with tempfile.TemporaryDirectory() as work:
        if source is None:
            print(f"{name}: TFDS downloads its original files (where there is no network it takes minutes to give up)")
        elif name in NUMBERED:
            source = official_files(type(builder), source, Path(work))
            print(f"{name}: {len(builder.url_infos)} original files with the registered sha256, no download: {source}")
        config = tfds.download.DownloadConfig(manual_dir=source, try_download_gcs=False)
        builder.download_and_prepare(file_format="array_record", download_config=config)
    counts = ", ".join(f"{split} {info.num_examples}" for split, info in builder.info.splits.items())
    print(f"{name} {builder.version}: {counts} examples written to {builder.data_dir}")
    return Path(builder.data_dir)


def builder_cls(name):
    """TFDS's builder of a set of `NUMBERED`, same name, version, features and checksums, with TensorFlow taken out.

    TensorFlow only unzips, opens and encodes there: `idx`, `open` and Pillow do it as well.
    """
    import tensorflow_datasets as tfds
    from PIL import Image

    stock = tfds.builder_cls(name)

    class WithoutTensorFlow(stock, skip_registration=True):
        name, url_infos = stock.name, stock.url_infos

        def _split_generators(self, dl_manager):
            # TFDS unzips into a folder that is named by the file alone, where a second set with the same file names
            # would silently find the first one's images.
            dl_manager.download_and_extract = dl_manager.download
            return super()._split_generators(dl_manager)

        def _generate_examples(self, data_path, label_path=None, num_examples=None):
            if label_path is None:
                text = np.frombuffer(Path(data_path).read_bytes(), np.uint8)  # "0 1 ... 0\n", 784 digits a line
                for key, image in enumerate((text[::2] - ord("0")).reshape(-1, 28, 28)):
                    yield key, {"image": Image.fromarray(image)}
            else:
                for key, (image, label) in enumerate(zip(idx.read(data_path), idx.read(label_path), strict=True)):
                    yield key, {"image": Image.fromarray(image), "label": int(label)}

    WithoutTensorFlow.__module__ = stock.__module__  # which the set on disk records as its maker
    return WithoutTensorFlow


def official_files(builder_cls, source, work: Path) -> Path:
    """The folder, under `source`, of the files that TFDS would download, each with the registered sha256.

    `binarized_mnist.npz` will do for the text files: they are rebuilt in `work`, and checked like the others. Raises
    FileNotFoundError that lists what is missing, ValueError for a file that is another one.
    """
    from tensorflow_datasets.core.download.checksums import get_all_url_infos

    source = Path(source).expanduser()
    source = source / builder_cls.name if (source / builder_cls.name).is_dir() else source
    if builder_cls.name == "binarized_mnist" and (source / "binarized_mnist.npz").is_file():
        source = _unpack_to_text(source / "binarized_mnist.npz", work)
    expected = {info.filename: info.checksum for info in builder_cls.url_infos.values()}
    if not source.is_dir():
        raise FileNotFoundError(f"{builder_cls.name}: no directory {source}")
    if missing := [file for file in expected if not (source / file).is_file()]:
        raise FileNotFoundError(f"{builder_cls.name}: {source} lacks {', '.join(sorted(missing))}")
    for file, checksum in expected.items():
        found = hashlib.sha256((source / file).read_bytes()).hexdigest()
        if found != checksum:
            twin = next((url for url, info in get_all_url_infos().items() if info.checksum == found), None)
            raise ValueError(
                f"{source / file}: not {builder_cls.name}'s official file: expected sha256 {checksum}, found {found}"
                + (f", which is {twin}" if twin else " (a copy that was zipped anew is another file, too)")
            )
    return source


def _unpack_to_text(npz: Path, folder: Path) -> Path:
    """The .amat files of the packed bits: a line an image, "0 1 ... 0"."""
    for split, bits in packed_bits(npz).items():
        text = np.full((len(bits), 2 * bits.shape[1]), ord(" "), np.uint8)
        text[:, ::2] = bits + ord("0")
        text[:, -1] = ord("\n")
        (folder / f"binarized_mnist_{split}.amat").write_bytes(text.tobytes())
    return folder


def packed_bits(npz) -> dict[str, np.ndarray]:
    """{split: bits [N, 784]} of binarized_mnist.npz, whose arrays `PACKED` hold eight pixels a byte."""
    packed = files.load_npz(npz, PACKED)
    for split in PACKED:
        found = packed.get(split)
        if found is None or found.dtype != np.uint8 or found.ndim != 2 or found.shape[1] != 98:
            what = "is not there" if found is None else f"is {found.dtype} {list(found.shape)}"
            raise ValueError(f"{npz}: want the packed bits, uint8 [N, 98], of {', '.join(PACKED)}; {split} {what}")
    return {split: np.unpackbits(packed[split], axis=1) for split in PACKED}


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(prog="python -m vae_jax.data.prepare", description="Prepare a TFDS set once.")
    parser.add_argument("name", help=f"a TFDS set; without TensorFlow: {', '.join(NUMBERED)}")
    parser.add_argument("--from", dest="source", metavar="DIR", help="folder of the original files: no download")
    parser.add_argument("--data_dir", metavar="DIR", help="default: $TFDS_DATA_DIR or ~/tensorflow_datasets")
    args = parser.parse_args(argv)
    try:
        prepare(args.name, args.source, args.data_dir)
    except (ImportError, OSError, ValueError) as error:
        raise SystemExit(f"error: {files.one_line(error)}") from error


if __name__ == "__main__":
    main()
