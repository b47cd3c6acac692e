"""Every reader on damaged files: the outcome is data, or one line that names the file. Never a traceback, never a hang.

The mutations are those of a fixed seed: bytes overwritten, the file cut, bytes doubled, and header fields at extremes.
"""

import functools
import gzip
import json
import os
import resource
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from vae_jax.data import array_files, audio, files, idx, image_files, recordings, sources, text
from vae_jax.data.images import packed_bits
from vae_jax.data.prepared import read_json

SECONDS = 20  # for all mutations of one reader: some five times what they take
MEMORY = 2**29  # by which the process may grow, whatever a file promises
EXTREMES = [0, 1, 0x7F, 0x80, 0xFF]


def mutated(data, number, seed):
    """`number` damaged copies of `data`, half of them damaged in the first 64 bytes, where headers are."""
    rng = np.random.default_rng(seed)
    for n in range(number):
        copy = bytearray(data)
        reach = min(len(data), 64) if n % 2 else len(data)
        for _ in range(rng.integers(1, 5)):
            at = int(rng.integers(reach))
            match int(rng.integers(5)):
                case 0:
                    copy[at : at + 1] = bytes([rng.integers(256)])
                case 1:
                    width = int(rng.integers(1, 9))  # a field of the header
                    copy[at : at + width] = bytes([EXTREMES[rng.integers(5)]]) * width
                case 2:
                    del copy[at : None if n % 4 == 0 else at + 3]
                case 3:
                    copy[at:at] = copy[at : at + 16]
                case 4:
                    copy[at : at + 1] = bytes([copy[at] ^ (1 << rng.integers(8))] if at < len(copy) else b"")
            if not copy:
                break
        yield bytes(copy)


def outcomes(file, data, read, number, seed=0):
    """How often a damaged `file` is read as data and how often it is refused, with one line that names it."""
    counts, start = {"data": 0, "refused": 0}, time.monotonic()
    for copy in mutated(data, number, seed):
        file.write_bytes(copy)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read()
            counts["data"] += 1
        except (ValueError, OSError) as error:
            assert str(file) in str(error) or str(file.parent) in str(error), error
            assert "\n" not in str(error), error
            assert type(error).__module__ == "builtins" and not isinstance(error, UnicodeError), error
            counts["refused"] += 1
    assert time.monotonic() - start < SECONDS
    return counts


@pytest.fixture(autouse=True)
def bounded():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < MEMORY


def noise(size):
    return np.round(3000 * np.random.default_rng(0).normal(size=size)).astype(np.int16)


def soundfile_bytes(path, **options):
    soundfile = pytest.importorskip("soundfile")
    scale = 2.0**15 if options.get("subtype") == "FLOAT" else 1  # floats lie in [-1, 1]
    soundfile.write(path, noise(1500) / scale if scale > 1 else noise(1500), 8000, **options)


def npz(path, save):
    save(path, x=np.stack([noise(20) + n for n in range(40)]), label=np.array(["a", "b"] * 20), sample_rate=8000)


def images(path):
    idx.write(path, np.random.default_rng(0).integers(256, size=(40, 5, 5), dtype=np.uint8))


def picture(path, **options):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.random.default_rng(0).integers(256, size=(9, 8, 3), dtype=np.uint8)).save(path, **options)


def decoded(path):
    return image_files.decode(path, str(path), image_files.options())


def five_bands(path):
    x = np.random.default_rng(0).integers(65536, size=(9, 8, 5), dtype=np.uint16)
    pytest.importorskip("tifffile").imwrite(path, x, photometric="minisblack", planarconfig="contig")


def hdf5(path):
    with pytest.importorskip("h5py").File(path, "w") as file:
        file.create_dataset("x", data=np.arange(600.0).reshape(40, 15), chunks=(10, 15), compression="gzip")


def parquet(path):
    table = pytest.importorskip("pyarrow").table({"x": np.arange(600.0).reshape(40, 15).tolist(), "y": ["a", "b"] * 20})
    __import__("pyarrow.parquet").parquet.write_table(table, path)


def read_arrays(path):
    file = array_files.opened(path)
    return [np.array(file.read(name)) for name in file.names]


def written(write):
    return lambda path: path.write_bytes(write)


TSV = "\n".join(f"Genesis 1:{n}\tIn the beginning, was {n} été" for n in range(60)).encode()
FORMATS = {  # name of the file: how it is made, how it is read
    "images": (images, idx.read),
    "images.gz": (images, idx.read),
    "wide": (lambda path: idx.write(path, np.arange(60, dtype=np.float64).reshape(3, 4, 5)), idx.read),
    "pcm.wav": (lambda path: recordings.write_wav(path, noise(1500), 8000), lambda path: recordings.read(path, 8000)),
    "float.wav": (functools.partial(soundfile_bytes, subtype="FLOAT"), lambda path: recordings.read(path, 8000)),
    "pcm24.wav": (functools.partial(soundfile_bytes, subtype="PCM_24"), lambda path: recordings.read(path, 8000)),
    "mulaw.wav": (functools.partial(soundfile_bytes, subtype="ULAW"), lambda path: recordings.read(path, 8000)),
    "adpcm.wav": (functools.partial(soundfile_bytes, subtype="MS_ADPCM"), lambda path: recordings.read(path, 8000)),
    "one.flac": (soundfile_bytes, lambda path: recordings.read(path, 8000)),
    "one.ogg": (soundfile_bytes, lambda path: recordings.read(path, 8000)),
    "x.npz": (functools.partial(npz, save=np.savez), lambda path: audio.load(path, length=10)),
    "packed.npz": (functools.partial(npz, save=np.savez_compressed), lambda path: audio.load(path, length=10)),
    "one.png": (picture, decoded),
    "one.jpg": (picture, decoded),
    "one.webp": (picture, decoded),
    "one.gif": (picture, decoded),
    "one.bmp": (picture, decoded),
    "one.tif": (picture, decoded),
    "lzw.tif": (functools.partial(picture, compression="tiff_lzw"), decoded),
    "five.tif": (five_bands, decoded),
    "one.npy": (lambda path: np.save(path, np.arange(60.0).reshape(4, 15)), read_arrays),
    "two.npz": (lambda path: np.savez(path, x=np.arange(60.0), y=np.array(["a", "b"])), read_arrays),
    "one.h5": (hdf5, read_arrays),
    "one.parquet": (parquet, read_arrays),
    "lines.txt": (written(TSV), lambda path: text.load(path, max_length=20)),
    "verses.tsv": (written(TSV), lambda path: text.load(path, max_length=20)),
}


@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_data_or_one_line(name, tmp_path):
    make, read = FORMATS[name]
    file = tmp_path / name
    make(file)
    read(file)
    counts = outcomes(file, file.read_bytes(), lambda: read(file), 200, seed=len(name))
    assert counts["refused"] > 10, counts  # else the mutations test nothing


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte"])
def test_a_damaged_set_of_idx_files(tmp_path, name, end):
    for prefix in ("train", "t10k"):
        images(tmp_path / f"{prefix}-images-idx3-ubyte{end}")
        idx.write(tmp_path / f"{prefix}-labels-idx1-ubyte{end}", np.arange(40, dtype=np.uint8) % 10)
    file = tmp_path / f"{name}{end}"
    counts = outcomes(file, file.read_bytes(), lambda: sources.load("idx", str(tmp_path)), 100)
    assert counts["refused"] > 50


def test_a_damaged_archive_of_bits(tmp_path):
    rng = np.random.default_rng(0)
    file = tmp_path / "binarized_mnist.npz"
    np.savez(file, **{split: rng.integers(256, size=(6, 98), dtype=np.uint8) for split in sources.SPLITS})
    assert outcomes(file, file.read_bytes(), lambda: packed_bits(file), 200)["refused"] > 100
    counts = outcomes(file, file.read_bytes(), lambda: sources.load("binarized_mnist", str(file)), 20)
    assert counts == {"data": 0, "refused": 20}  # another draw must not carry this name


def test_a_gz_is_unpacked_up_to_what_its_header_promises(tmp_path):
    """1 MB that would be 1 GB: no header of IDX, a short one, and one that promises all."""
    for header, words in (
        (b"", r"wrong magic number 0x00000000"),
        (b"\0\0\x08\x01\0\0\0\x05", r"too long: expected 13 bytes .* got 14 or more"),
    ):
        (tmp_path / "bomb.gz").write_bytes(gzip.compress(header) + 32 * gzip.compress(bytes(2**25)))
        with pytest.raises(ValueError, match=words):
            idx.read(tmp_path / "bomb.gz")  # `bounded` sees what it takes


def test_dimensions_of_absurd_size(tmp_path):
    for dims in ([2**32 - 1] * 3, [2**32 - 1] * 30, [0] + [2**32 - 1] * 8, [2**31, 2, 1], [1] * 200):
        header = bytes([0, 0, 8, len(dims)]) + b"".join(n.to_bytes(4, "big") for n in dims)
        for end, data in (("", header + bytes(9)), ("", header), (".gz", header)):
            if end:
                data = gzip.compress(data)
            (tmp_path / f"x{end}").write_bytes(data)
            with pytest.raises(ValueError, match=r"x(\.gz)?: (truncated|too long|wrong magic|no array has|this needs)"):
                idx.read(tmp_path / f"x{end}")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    tfds = pytest.importorskip("tensorflow_datasets")
    from PIL import Image

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "tiny"

        def _info(self):
            image, label = tfds.features.Image(shape=(4, 4, 1)), tfds.features.ClassLabel(names=["a", "b", "c"])
            given = tfds.features.FeaturesDict({"image": image, "label": label, "text": tfds.features.Text()})
            return tfds.core.DatasetInfo(builder=self, features=given)

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(24), "test": self._generate_examples(6)}

        def _generate_examples(self, n):
            for key in range(n):
                image = Image.fromarray(np.full((4, 4), 255 - key, np.uint8))
                yield key, {"image": image, "label": key % 3, "text": f"line {key} of it"}

    root = tmp_path_factory.mktemp("tfds")
    Tiny(data_dir=root).download_and_prepare(file_format="array_record")
    return root / "tiny" / "1.0.0"


@pytest.mark.parametrize("kind", ["images", "text"])
@pytest.mark.parametrize("name", ["features.json", "dataset_info.json", "label.labels.txt", "*-train.array_record*"])
def test_a_damaged_folder_of_tfds(prepared, name, kind, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared.parent.parent))
    (file,) = prepared.glob(name)
    data = file.read_bytes()
    calls = iter(range(10**6))

    def read():
        monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / str(next(calls))))
        sources.load("tiny", **({} if kind == "images" else {"tokens": {"max_length": 6}}))

    try:
        counts = outcomes(file, data, read, 60)
    finally:
        file.write_bytes(data)
    assert counts["refused"] or name == "label.labels.txt", counts
    read()


KEYS = ["splits", "name", "version", "fileFormat"]


VALUES = [None, 0, -1, 1e300, "", "x", [], {}, [None], [[]], {"a": {}}, True, "9" * 400]


@pytest.mark.parametrize("value", VALUES, ids=repr)
@pytest.mark.parametrize("key", KEYS)
def test_json_of_another_kind(prepared, key, value, monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(prepared.parent.parent))
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path))
    file = prepared / "dataset_info.json"
    data = file.read_bytes()
    try:
        for content in (json.loads(data) | {key: value}, value):
            file.write_text(json.dumps(content))
            try:
                sources.load("tiny")
            except (ValueError, FileNotFoundError) as error:
                assert str(prepared) in str(error) and "\n" not in str(error)
    finally:
        file.write_bytes(data)


def test_json_that_is_deep(tmp_path):
    (tmp_path / "x.json").write_text("[" * 10**5)
    with pytest.raises(ValueError, match=r"x\.json: damaged JSON"):
        read_json(tmp_path / "x.json")


def test_an_unreadable_file_is_not_called_damaged(tmp_path, monkeypatch):
    """What cannot be opened for the moment stays an OSError with its file."""
    np.savez(tmp_path / "x.npz", x=np.zeros(3))

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(tmp_path / "x.npz"))

    monkeypatch.setattr("zipfile.ZipFile", refuse)
    with pytest.raises(PermissionError, match=r"x\.npz"):
        files.load_npz(tmp_path / "x.npz", ("x",))
    assert os.path.exists(tmp_path / "x.npz") and isinstance(tmp_path, Path)
