"""Files from elsewhere: pipes, archives that promise too much, names that leave their folder, hostile sets."""

import ast
import io
import json
import os
import socket
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

import vae_jax
from vae_jax.data import audio, files, idx, images, prepare, recordings, sources, text
from vae_jax.data import prepared as tfds_folders


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.delenv("VAE_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "cache"))


def npz(path, members, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def npy(array, shape=None):
    """The bytes of an .npy file, whose header may name another shape than the array's."""
    buffer = io.BytesIO()
    header = np.lib.format.header_data_from_array_1_0(array) | ({} if shape is None else {"shape": shape})
    np.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue() + array.tobytes()


# ------------------------------------------------------------------------------------------------- regular files only

READERS = {
    "idx": idx.read,
    "npz": lambda path: files.load_npz(path, ("x",)),
    "text": text.read_lines,
    "audio": lambda path: recordings.read(path, 8000),
    "arrays": lambda path: audio.load(path.rename(path.with_suffix(".npz"))),
    "json": tfds_folders.read_json,
    "bits": images.packed_bits,
}


def fifo(path):
    os.mkfifo(path)


def listener(path):
    server = socket.socket(socket.AF_UNIX)
    os.chdir(path.parent)  # the address of a socket is short
    server.bind(path.name)
    server.close()


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("make", "kind"),
    [(fifo, "a pipe"), (listener, "a socket"), (lambda path: path.symlink_to("/dev/zero"), "a device")],
    ids=["fifo", "socket", "device"],
)
def test_no_reader_opens_what_is_no_regular_file(tmp_path, monkeypatch, reader, make, kind):
    monkeypatch.chdir(tmp_path)
    make(tmp_path / "data")
    with pytest.raises(ValueError, match=rf"data(\.npz)?: this is {kind}.*; only regular files are read$"):
        READERS[reader](tmp_path / "data")


@pytest.mark.parametrize("reader", READERS)
def test_every_reader_names_a_file_that_is_not_there(tmp_path, reader):
    with pytest.raises((FileNotFoundError, ValueError), match="nowhere"):
        READERS[reader](tmp_path / "nowhere" / "data")


@pytest.mark.parametrize("name", ["train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte"])
def test_a_set_with_a_pipe_for_a_file(tmp_path, name):
    for prefix in ("train", "t10k"):
        idx.write(tmp_path / f"{prefix}-images-idx3-ubyte", np.full((12, 2, 2), 255, np.uint8))
        idx.write(tmp_path / f"{prefix}-labels-idx1-ubyte", np.zeros(12, np.uint8))
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match=rf"{name}: this is a pipe"):
        sources.load("idx", tmp_path)


# ----------------------------------------------------------------------------------------------------------- archives


def test_an_archive_is_read_as_numpy_reads_it(tmp_path):
    arrays = {
        "x": np.arange(6.0).reshape(2, 3),
        "f": np.asfortranarray(np.eye(3)),
        "s": np.array(["a", "bc"]),
        "n": np.array(7),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", **arrays)
        read = files.load_npz(tmp_path / "x.npz", (*arrays, "absent"))
        assert set(read) == set(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(read[name], array)


class Hostile:
    def __reduce__(self):
        return os.mkdir, ("ran",)


def test_python_objects_are_refused_and_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("x.npz", x=np.array([Hostile()], object))
    for read in (lambda: files.load_npz("x.npz", ("x",)), lambda: audio.load("x.npz")):
        with pytest.raises(ValueError, match=r"^x\.npz: .*x\.npy: an array of Python objects, which could run code"):
            read()
    assert not Path("ran").exists()


ZEROS = np.zeros(16, np.uint8)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (npy(ZEROS, (2**40,)), r"\(1099511627776,\) uint8 are 1,099,511,627,776 bytes, and the archive has 16"),
        (npy(ZEROS, (2**62, 2**62, 8)), r"and the archive has 16"),
        (npy(ZEROS, (15,)), r"are 15 bytes, and the archive has 16"),
        (npy(ZEROS, (-16,)), r"negative size|are -16 bytes"),
        (npy(ZEROS)[:40], r"x\.npz: not an \.npz of arrays"),
        (b"", r"x\.npz: not an \.npz of arrays"),
        (b"\x93NUMPY\x09\x00" + bytes(100), r"x\.npz: not an \.npz of arrays"),
        (b"\x93NUMPY\x01\x00\x10\x00" + b"__import__('os')" + bytes(20), r"x\.npz: not an \.npz of arrays"),
    ],
)
def test_arrays_that_are_not_what_their_header_says(tmp_path, content, words):
    path = npz(tmp_path / "x.npz", {"x.npy": content})
    with pytest.raises(ValueError, match=words) as error:
        files.load_npz(path, ("x",))
    assert str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_bomb_is_refused_by_its_header(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sysconf", lambda name: {"SC_PHYS_PAGES": 100, "SC_PAGE_SIZE": 4096}[name])
    path = npz(tmp_path / "x.npz", {"x.npy": npy(np.zeros(10**6, np.uint8))})
    assert path.stat().st_size < 2000
    with pytest.raises(ValueError, match=r"this needs 1,000,000 bytes, and the machine has 409,600; store"):
        files.load_npz(path, ("x",))
    idx.write(tmp_path / "x.gz", np.zeros(10**6, np.uint8))
    with pytest.raises(ValueError, match=r"x\.gz: this needs 1,000,000 bytes.*; unpack it on disk"):
        idx.read(tmp_path / "x.gz")


# -------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["../x", "a/b", "/etc/x", "..", ".", "", "a\0b", "a\\b", None, 3])
def test_names_that_leave_their_folder(name):
    with pytest.raises(ValueError, match=r"^here: .* is no plain name; a name from data must not lead to another"):
        files.plain_name(name, "here")


@pytest.mark.parametrize("name", ["train", "a.b-c_d+e", "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}", "..a", "日本"])
def test_plain_names(name):
    assert files.plain_name(name, "here") == name


@pytest.mark.parametrize("extra", ["../evil", "/tmp/evil", "a/../../evil", "other"])
def test_names_in_an_archive_are_no_paths(tmp_path, extra):
    """The keys of binarized_mnist.npz became names of files."""
    bits = npy(np.zeros((6, 98), np.uint8))
    members = {f"{split}.npy": bits for split in sources.SPLITS} | {f"{extra}.npy": bits}
    work, path = tmp_path / "work" / "inner", tmp_path / "deep" / "binarized_mnist.npz"
    work.mkdir(parents=True)
    path.parent.mkdir()
    npz(path, members)
    if extra == "other":
        prepare.unpack_to_text(path, work)
    else:
        with pytest.raises(ValueError, match=r"binarized_mnist\.npz: '.*evil\.npy' is no plain name"):
            prepare.unpack_to_text(path, work)
        with pytest.raises(SystemExit, match=r"^error: .*binarized_mnist\.npz: '.*evil\.npy' is no plain name"):
            prepare.main(["binarized_mnist", "--from", str(path.parent)])
    written = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    texts = {f"work/inner/binarized_mnist_{split}.amat" for split in sources.SPLITS}
    assert written == {"deep/binarized_mnist.npz"} | (texts if extra == "other" else set())
    members.pop(f"{extra}.npy")
    del members["valid.npy"]
    with pytest.raises(ValueError, match=r"binarized_mnist\.npz: the packed bits .* are required; valid is not there"):
        prepare.unpack_to_text(npz(path, members), work)


@pytest.mark.parametrize(
    "name", ["mnist/..", "mnist/.", "../mnist", "mnist/../../x", "a/b/c", "/etc", "tfds:../x", "mnist/"]
)
def test_names_of_sets_are_no_paths(tmp_path, name):
    (tmp_path / "x" / "1.0.0").mkdir(parents=True)
    (tmp_path / "x" / "1.0.0" / "dataset_info.json").write_text('{"fileFormat": "array_record"}')
    with pytest.raises(ValueError, match=r"no data set"):
        sources.load(name)
    with pytest.raises(ValueError, match=r"no data set"):
        tfds_folders.prepared_dir(name.removeprefix("tfds:"))


def test_numpy_is_never_allowed_to_unpickle():
    """Every `load` of NumPy in the package is of ours and says nothing of pickles, or says no."""
    for file in Path(vae_jax.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
                assert isinstance(node.value, ast.Constant) and node.value.value is False, file
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None)]
                assert not {"pickle", "dill", "cloudpickle", "joblib"} & set(names), file


# ------------------------------------------------------------------------------------------------- prepared TFDS sets

tfds = pytest.importorskip("tensorflow_datasets")


@pytest.fixture
def prepared(tmp_path):
    """The folder of a small prepared set with images, labels and texts."""
    from PIL import Image

    class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        name = "tiny"

        def _info(self):
            given = {
                "image": tfds.features.Image(shape=(4, 4, 1)),
                "label": tfds.features.ClassLabel(num_classes=3),
                "words": tfds.features.Sequence(tfds.features.Text()),
                "text": tfds.features.Text(),
            }
            return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(given))

        def _split_generators(self, dl_manager):
            return {"train": self._generate_examples(24), "test": self._generate_examples(6)}

        def _generate_examples(self, n):
            for key in range(n):
                image = Image.fromarray(np.full((4, 4), 255 - key, np.uint8))
                yield key, {"image": image, "label": key % 3, "words": ["a"], "text": f"line {key} of it"}

    builder = Tiny(data_dir=tmp_path / "tfds")
    builder.download_and_prepare(file_format="array_record")
    return Path(builder.data_dir)


HOSTILE = "hostile_features.Evil"
IMAGE = "tensorflow_datasets.core.features.image_feature.Image"


def nested(content, name):
    content["featuresDict"]["features"]["words"]["sequence"]["feature"]["pythonClassName"] = name


def snake(content, name):
    feature = content["featuresDict"]["features"]["image"]
    del feature["pythonClassName"]
    feature["python_class_name"] = name


def json_text(content, name):
    inner = json.dumps({"feature": json.dumps({"type": name, "content": {}})})
    content["featuresDict"]["features"]["label"] = {
        "pythonClassName": "tensorflow_datasets.core.features.features_dict.FeaturesDict",
        "jsonFeature": {"json": inner},
    }


def legacy(content, name):
    content.clear()
    features = {"image": {"type": name, "content": {}}}
    content |= {"type": "tensorflow_datasets.core.features.features_dict.FeaturesDict", "content": features}


def top(content, name):
    content["pythonClassName"] = name


PLACES = [top, nested, snake, json_text, legacy]


@pytest.mark.parametrize("place", PLACES, ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    "name",
    [
        HOSTILE,
        "hostile_features.tensorflow_datasets.core.features.Evil",
        "tensorflow_datasets.core.featuresevil.Evil",
        "tensorflow_datasets.core.features..hostile_features.Evil",
        "tensorflow_datasets.core.features.\nhostile_features.Evil",
        "tensorflow_datasets.scripts.cli.main.X",
        "Evil",
        "",
    ],
)
def test_no_module_that_data_names_is_imported(tmp_path, monkeypatch, prepared, place, name):
    package = tmp_path / "hostile_features"
    package.mkdir()
    (package / "__init__.py").write_text("open('ran', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))  # as the current folder is, of `python -m`
    content = json.loads((prepared / "features.json").read_text())
    place(content, name)
    (prepared / "features.json").write_text(json.dumps(content))
    modules = set(sys.modules)
    for read in (lambda: sources.load("tiny"), lambda: sources.load("tfds:tiny", tokens={"max_length": 5})):
        with pytest.raises(
            ValueError, match=r"features\.json: it names the class .*, whose module TFDS would import"
        ) as e:
            read()
        assert "\n" not in str(e.value)
    (prepared / "dataset_info.json").rename(tmp_path / "info.json")  # no set yet: `prepare` looks at what is there
    for module in (prepare, tfds_folders):
        monkeypatch.setattr(module, "check_name", lambda name: None)
    with pytest.raises(ValueError, match=r"features\.json: it names the class"):
        prepare.prepare("tiny") if sys.modules.get("tensorflow") else tfds_folders.check_classes(prepared)
    assert not (tmp_path / "ran").exists() and not any("hostile" in name for name in set(sys.modules) - modules)
    assert not (tmp_path / "cache").exists()


def test_the_test_above_would_see_an_import(tmp_path, monkeypatch, prepared):
    (tmp_path / "hostile_features.py").write_text("open('ran', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    content = json.loads((prepared / "features.json").read_text())
    nested(content, HOSTILE)
    (prepared / "features.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="Unrecognized FeatureConnector"):
        tfds.builder_from_directory(prepared)
    assert (tmp_path / "ran").exists()


def test_classes_in_dataset_info_are_refused_too(prepared):
    info = json.loads((prepared / "dataset_info.json").read_text())
    (prepared / "dataset_info.json").write_text(json.dumps(info | {"features": {"pythonClassName": HOSTILE}}))
    with pytest.raises(ValueError, match=r"dataset_info\.json: it names the class 'hostile_features\.Evil'"):
        sources.load("tiny")


@pytest.mark.parametrize("name", ["../other", "/etc/passwd", "..", "a/b"])
@pytest.mark.parametrize("key", ["name", "version", "fileFormat", "split", "filepathTemplate"])
def test_names_in_a_prepared_folder_are_no_paths(prepared, key, name):
    info = json.loads((prepared / "dataset_info.json").read_text())
    place = info["splits"][0] if key in ("split", "filepathTemplate") else info
    place["name" if key == "split" else key] = name
    info["alternativeFileFormats"] = ["array_record"]
    (prepared / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"dataset_info\.json: .* is no plain name"):
        sources.load("tiny")


def test_a_set_that_nobody_has_touched_is_read(prepared):
    data = sources.load("tiny")
    assert data.num_classes == 3 and len(data.test.x) == 6
    assert sum(len(part.x) for part in sources.load("tfds:tiny", tokens={"max_length": 5})[1:4]) == 30


def test_a_set_that_promises_more_examples_than_it_has_bytes(prepared):
    info = json.loads((prepared / "dataset_info.json").read_text())
    info["splits"][0]["shardLengths"] = [str(10**12)]
    (prepared / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(ValueError, match=r"1\.0\.0: .*1,000,000,000,000 examples in|TFDS cannot read this folder"):
        sources.load("tiny")


def test_a_damaged_cache_says_which(prepared, tmp_path):
    sources.load("tiny")
    (cache,) = (tmp_path / "cache").iterdir()
    for file in ("train_x.npy", "test_label.npy", "meta.json"):
        content = (cache / file).read_bytes()
        (cache / file).write_bytes(content[: len(content) // 3])
        with pytest.raises(ValueError, match=rf"^{cache}"):
            sources.load("tiny")
        (cache / file).write_bytes(content)
