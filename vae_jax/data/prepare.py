"""Prepare a set of TFDS once, so that `prepared` can read it without TensorFlow.

    python -m vae_jax.data.prepare NAME [--from DIR] [--data_dir DIR]

writes the set as array_record, where `tfds.data_source(NAME)` reads it too. The sets in `prepared.NUMBERED` need no
TensorFlow and, with `--from` and their original files, no network. Other sets are made by the code of TFDS, which
needs TensorFlow. The extra `tfds` holds what TFDS needs and does not declare.

Original files are accepted only with the sha256 that TFDS registers: MNIST, Fashion-MNIST and Kuzushiji-MNIST share
their file names, and nothing else distinguishes them.
"""

import argparse
import hashlib
import importlib.util
import tempfile
from pathlib import Path

import numpy as np

from vae_jax.data import files, idx, images
from vae_jax.data.prepared import NUMBERED, check_classes, check_name, prepared_dir, tfds_root


def prepare(name: str, source=None, data_dir=None) -> Path:
    """Write the TFDS set `name` as array_record and return its folder.

    It is made from the original files in the folder `source`, or from a download. Raises `ValueError` for unknown names
    and for files that are not the official ones, FileNotFoundError for missing files, and ImportError if a module that
    makes the set is not installed.
    """
    check_name(name)
    try:
        ready = prepared_dir(name, data_dir)
        print(f"{name}: already prepared, nothing to do: {ready}")
        return ready
    except FileNotFoundError:
        builder = _builder(name, tfds_root(data_dir))
    with tempfile.TemporaryDirectory() as work:
        if source is None:
            print(f"{name}: TFDS downloads the original files (without a network it gives up after some minutes)")
        elif name in NUMBERED:
            source = official_files(type(builder), source, Path(work))
            print(f"{name}: {len(builder.url_infos)} original files with the registered sha256, no download: {source}")
        import tensorflow_datasets as tfds

        config = tfds.download.DownloadConfig(manual_dir=source, try_download_gcs=False)
        builder.download_and_prepare(file_format="array_record", download_config=config)
    counts = ", ".join(f"{split} {info.num_examples}" for split, info in builder.info.splits.items())
    print(f"{name} {builder.version}: {counts} examples written to {builder.data_dir}")
    return Path(builder.data_dir)


def _builder(name, root):
    """Return TFDS's builder of a set. Raise ImportError if a module is missing."""
    import tensorflow_datasets as tfds

    if missing := [module for module in ("importlib_resources", "PIL") if importlib.util.find_spec(module) is None]:
        raise ImportError(f"preparing a set needs {' and '.join(missing)}: pip install 'vae_jax[tfds]'")
    for features in (root / name.partition("/")[0]).rglob("features.json"):  # in a folder that is not complete
        check_classes(features.parent)
    if name in NUMBERED:
        return builder_cls(name)(data_dir=root)
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            f"TFDS makes {name} with TensorFlow, which is not installed: pip install tensorflow. "
            f"Without TensorFlow these sets can be prepared: {', '.join(NUMBERED)}"
        )
    return tfds.builder(name, data_dir=root)


def builder_cls(name):
    """Return TFDS's builder class of a set in `NUMBERED`, with TensorFlow taken out.

    Name, version, features and checksums are those of TFDS. TensorFlow would only unzip, open and encode files there;
    `idx`, `open` and Pillow do the same.
    """
    import tensorflow_datasets as tfds
    from PIL import Image

    stock = tfds.builder_cls(name)

    class WithoutTensorFlow(stock, skip_registration=True):
        name, url_infos = stock.name, stock.url_infos

        def _split_generators(self, dl_manager):
            # TFDS unzips into a folder named only after the file. A second set with the same file names would then
            # silently find the images of the first.
            dl_manager.download_and_extract = dl_manager.download
            return super()._split_generators(dl_manager)

        def _generate_examples(self, data_path, label_path=None, num_examples=None):
            if label_path is None:
                text = np.frombuffer(Path(data_path).read_bytes(), np.uint8)  # "0 1 ... 0\n", 784 digits on a line
                for key, image in enumerate((text[::2] - ord("0")).reshape(-1, 28, 28)):
                    yield key, {"image": Image.fromarray(image)}
            else:
                for key, (image, label) in enumerate(zip(idx.read(data_path), idx.read(label_path), strict=True)):
                    yield key, {"image": Image.fromarray(image), "label": int(label)}

    WithoutTensorFlow.__module__ = stock.__module__  # recorded with the set as its maker
    return WithoutTensorFlow


def official_files(builder_cls, source, work: Path) -> Path:
    """Return the folder, under `source`, of the files that TFDS would download, each with the registered sha256.

    `binarized_mnist.npz` may stand in for the text files: they are written into `work` and checked like the others.
    Raises FileNotFoundError that lists what is missing, `ValueError` for a file with other content.
    """
    from tensorflow_datasets.core.download.checksums import get_all_url_infos

    source = Path(source).expanduser()
    source = source / builder_cls.name if (source / builder_cls.name).is_dir() else source
    if builder_cls.name == "binarized_mnist" and (source / "binarized_mnist.npz").is_file():
        source = unpack_to_text(source / "binarized_mnist.npz", work)
    expected = {info.filename: info.checksum for info in builder_cls.url_infos.values()}
    if not source.is_dir():
        raise FileNotFoundError(f"{builder_cls.name}: no folder {source}")
    if missing := [file for file in expected if not (source / file).is_file()]:
        raise FileNotFoundError(f"{builder_cls.name}: {source} lacks {', '.join(sorted(missing))}")
    for file, checksum in expected.items():
        digest = hashlib.sha256((source / file).read_bytes()).hexdigest()
        if digest != checksum:
            twin = next((url for url, info in get_all_url_infos().items() if info.checksum == digest), None)
            raise ValueError(
                f"{source / file}: not {builder_cls.name}'s official file: expected sha256 {checksum}, got {digest}"
                + (f", which is {twin}" if twin else " (a copy that was zipped again is another file, too)")
            )
    return source


def unpack_to_text(npz: Path, folder: Path) -> Path:
    """Write the packed bits as the original .amat files into `folder`: a line for each image, "0 1 ... 0"."""
    for split, bits in images.packed_bits(npz).items():
        text = np.full((len(bits), 2 * bits.shape[1]), ord(" "), np.uint8)
        text[:, ::2] = bits + ord("0")
        text[:, -1] = ord("\n")
        (folder / f"binarized_mnist_{split}.amat").write_bytes(text.tobytes())
    return folder


def main(argv=None) -> None:
    """Run the command line."""
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
