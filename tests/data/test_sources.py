"""The readers on files small enough to write here; every error by the words that help."""

import gzip
import hashlib
import json
import os
import socket
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vae_jax.data import idx, prepared, reading, sources, transforms
from vae_jax.data import images as data_images
from vae_jax.data.sources import load

REAL = Path(os.environ.get("VAE_JAX_DATA", "nowhere"))


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    """No data of this machine, no cache of it, no network."""

    def refuse(*_):
        raise AssertionError("a reader opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("VAE_JAX_DATA", raising=False)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(data_images, "DEBIAN", {})


def images(n, *shape, seed=0):
    return np.random.default_rng(seed).integers(256, size=(n, *shape), dtype=np.uint8)


def write_idx(folder, train, test, *, test_name="t10k", dash="-", end="", labels=True):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, x in (("train", train), (test_name, test)):
        idx.write(folder / f"{prefix}-images{dash}idx{x.ndim}-ubyte{end}", x)
        if labels:
            idx.write(folder / f"{prefix}-labels{dash}idx1-ubyte{end}", np.arange(len(x), dtype=np.uint8) % 10)
    return folder


# ------------------------------------------------------------------------------------------------------------ idx


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("end", ["", ".gz"])
def test_idx_reads_what_it_wrote(tmp_path, dtype, end):
    x = np.arange(24).reshape(2, 3, 4).astype(dtype)
    idx.write(tmp_path / f"x{end}", x)
    y = idx.read(tmp_path / f"x{end}")
    assert y.dtype == x.dtype and y.dtype.isnative
    np.testing.assert_array_equal(y, x)


def test_idx_follows_the_format_not_the_file_name(tmp_path):
    data = bytes.fromhex("00000b02 00000001 00000002 0001 fffe".replace(" ", ""))
    (tmp_path / "plain.gz").write_bytes(data)  # as browsers leave it
    (tmp_path / "zipped").write_bytes(gzip.compress(data))
    for name in ("plain.gz", "zipped"):
        np.testing.assert_array_equal(idx.read(tmp_path / name), [[1, -2]])


@pytest.mark.parametrize(
    "data, words",
    [
        (b"", r"wrong magic number .*empty"),
        (b"\x89PNG\r\n\x1a\n", r"wrong magic number 0x89504e47"),
        (bytes([0, 0, 0x0A, 1, 0, 0, 0, 0]), r"wrong magic number 0x00000a01"),
        (bytes([0, 0, 8, 3, 0, 0]), r"wrong magic number 0x00000803"),
        (struct.pack(">4BII", 0, 0, 8, 2, 3, 5) + bytes(14), r"truncated: expected 27 bytes .* got 26"),
        (struct.pack(">4BII", 0, 0, 8, 2, 3, 5) + bytes(16), r"too long: expected 27 bytes .* got 28"),
    ],
)
def test_idx_refuses_unsound_files(tmp_path, data, words):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(ValueError, match=words) as error:
        idx.read(tmp_path / "file")
    assert str(tmp_path / "file") in str(error.value)


def test_idx_refuses_unsound_gzip(tmp_path):
    whole = gzip.compress(struct.pack(">4BI", 0, 0, 8, 1, 10_000) + images(10_000).tobytes())
    (tmp_path / "half.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"half.gz: truncated: expected 10,008 bytes .* got \d,\d+"):
        idx.read(tmp_path / "half.gz")
    (tmp_path / "tail.gz").write_bytes(whole[:-1])  # all the data, and no check of it
    with pytest.raises(ValueError, match=r"truncated"):
        idx.read(tmp_path / "tail.gz")
    (tmp_path / "flipped.gz").write_bytes(whole[:500] + bytes([whole[500] ^ 255]) + whole[501:])
    with pytest.raises(ValueError, match=r"flipped.gz: damaged gzip"):
        idx.read(tmp_path / "flipped.gz")


def test_idx_refuses_a_type_it_lacks(tmp_path):
    with pytest.raises(ValueError, match=r"no type for int64: use one of uint8"):
        idx.write(tmp_path / "x", np.arange(3))


# --------------------------------------------------------------------------------------------- folders of IDX files


@pytest.mark.parametrize(
    "spelling", [{}, {"end": ".gz"}, {"test_name": "test"}, {"dash": ".", "end": ".gz"}, {"labels": False}]
)
def test_idx_folder(tmp_path, spelling):
    train, test = images(25, 6, 5), images(7, 6, 5, seed=1)
    data = load("idx", str(write_idx(tmp_path, train, test, **spelling)))
    assert data.max_value == 255 and [len(split.x) for split in data[1:4]] == [21, 4, 7]
    row = {image.tobytes(): i for i, image in enumerate(train)}
    rows = [[row[np.asarray(image).tobytes()] for image in part.x] for part in (data.train, data.valid)]
    assert [sorted(r) for r in rows] == rows and sorted([*rows[0], *rows[1]]) == list(range(25))
    np.testing.assert_array_equal(data.test.x, test[..., None])
    if spelling.get("labels", True):
        assert data.num_classes == 10 and data.train.label.dtype == np.int32
        for part, chosen in zip((data.train, data.valid), rows, strict=True):
            np.testing.assert_array_equal(part.label, np.array(chosen) % 10)
    else:
        assert data.num_classes is None and data.train.label is data.valid.label is data.test.label is None


def test_idx_colour_float_and_wide_integers(tmp_path):
    colour = load("idx", write_idx(tmp_path / "colour", images(12, 4, 4, 3), images(3, 4, 4, 3)))
    assert colour.train.x.shape == (10, 4, 4, 3)
    (tmp_path / "float").mkdir()
    (tmp_path / "int").mkdir()
    for prefix in ("train", "t10k"):
        idx.write(tmp_path / "float" / f"{prefix}-images-idx3-double", np.linspace(0, 1, 96).reshape(6, 4, 4))
        idx.write(tmp_path / "int" / f"{prefix}-images-idx3-int", np.full((6, 4, 4), 255, np.int32))
    floats, ints = load("idx", tmp_path / "float"), load("idx", tmp_path / "int")
    assert floats.train.x.dtype == np.float32 and floats.max_value == 1
    assert ints.train.x.dtype == np.uint8 and ints.max_value == 255


@pytest.mark.parametrize(
    "dtype, bad, words",
    [
        ("f4", np.nan, r"value nan at index \(2, 1, 3\), the first of 1: floats must lie in \[0, 1\]"),
        ("f8", 1.5, r"value 1.5 at index \(2, 1, 3\)"),
        ("i2", 256, r"value 256 at index \(2, 1, 3\), the first of 1: integers must lie in 0..255"),
        ("i1", -1, r"value -1 at index"),
    ],
)
def test_values_that_are_no_pixels(tmp_path, dtype, bad, words):
    x = np.zeros((6, 4, 4), dtype)
    x[2, 1, 3] = bad
    idx.write(tmp_path / "train-images-idx3-x", x)
    with pytest.raises(ValueError, match=words):
        load("idx", tmp_path)


def test_unsound_folders(tmp_path):
    with pytest.raises(ValueError, match=r"idx needs a path"):
        load("idx")
    with pytest.raises(FileNotFoundError, match=r"no folder .*nowhere"):
        load("idx", tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no file train-images-idx3-ubyte\[.gz\] or train-images.idx3"):
        load("idx", tmp_path)
    x, label = images(6, 4, 4), np.zeros(6, np.uint8)
    idx.write(tmp_path / "train-images-idx3-ubyte", x)
    with pytest.raises(FileNotFoundError, match=r"no file t10k-images.* or test-images"):
        load("idx", tmp_path)
    idx.write(tmp_path / "t10k-images-idx3-ubyte", x[:, :3])
    with pytest.raises(ValueError, match=r"\(4, 4, 1\), test images uint8 \(3, 4, 1\)"):
        load("idx", tmp_path)
    idx.write(tmp_path / "t10k-images-idx3-ubyte", x[:2])
    idx.write(tmp_path / "train-labels-idx1-ubyte", label[:5])
    with pytest.raises(ValueError, match=r"has 6 images, train-labels-idx1-ubyte has 5 labels"):
        load("idx", tmp_path)
    idx.write(tmp_path / "train-labels-idx1-ubyte", label)
    with pytest.raises(FileNotFoundError, match=r"only the train labels"):
        load("idx", tmp_path)
    idx.write(tmp_path / "train-labels-idx1-ubyte", label[:, None])
    with pytest.raises(ValueError, match=r"labels must be integers"):
        load("idx", tmp_path)
    idx.write(tmp_path / "train-images-idx3-ubyte", label)
    with pytest.raises(ValueError, match=r"images must be \[N, H, W\]"):
        load("idx", tmp_path)
    with pytest.raises(ValueError, match=r"too few to hold a sixth"):
        load("idx", write_idx(tmp_path / "few", x[:5], x))


# ---------------------------------------------------------------------------------------------- what is held out


def sorted_by_class(folder, n=600, *, end="", classes=10, side=4):
    """A set whose files are sorted by class: image i is of class classes * i // n, and carries i in its pixels."""
    number = np.arange(n)
    x = np.full((n, side, side), 255, np.uint8)
    x[:, 0, 0], x[:, 0, 1] = number % 256, number // 256
    folder.mkdir(parents=True, exist_ok=True)
    for prefix in ("train", "t10k"):
        idx.write(folder / f"{prefix}-images-idx3-ubyte{end}", x)
        idx.write(folder / f"{prefix}-labels-idx1-ubyte{end}", (classes * number // n).astype(np.uint8))
    return folder


def numbers_of(images):
    x = np.asarray(images.x).astype(int)
    return x[:, 0, 0, 0] + 256 * x[:, 0, 1, 0]


@pytest.mark.parametrize("end", ["", ".gz"])
def test_the_hold_out_of_a_sorted_folder_has_every_class(tmp_path, end):
    data, again = (load("idx", sorted_by_class(tmp_path, end=end)) for _ in range(2))
    train, valid = numbers_of(data.train), numbers_of(data.valid)
    assert len(valid) == 100 and sorted([*train, *valid]) == list(range(600))
    assert np.bincount(data.valid.label, minlength=10).min() >= 3
    for part, number in ((data.train, train), (data.valid, valid)):
        np.testing.assert_array_equal(part.label, number // 60)
    np.testing.assert_array_equal(numbers_of(again.valid), valid)
    assert isinstance(data.train.x, reading.Rows if not end else np.ndarray)  # a plain file stays on disk


def test_the_published_hold_out_is_the_end(tmp_path):
    data = load("mnist", sorted_by_class(tmp_path, side=28))
    np.testing.assert_array_equal(numbers_of(data.valid), np.arange(500, 600))
    assert isinstance(data.train.x, np.memmap)


def test_tfds_hold_outs_have_every_class(make_tfds):
    n = np.arange(360)
    x = np.stack([np.full(360, 255), n % 256, n // 256], axis=-1).astype(np.uint8)[:, None, None]
    make_tfds("one", {"train": np.tile(x, (1, 4, 4, 1))})
    data = load("one")
    rows = [np.asarray(part.x)[:, 0, 0].astype(int) @ [0, 1, 256] for part in data[1:4]]
    assert [len(r) for r in rows] == [250, 50, 60] and sorted(np.concatenate(rows)) == list(range(360))
    for part, number in zip(data[1:4], rows, strict=True):
        np.testing.assert_array_equal(part.label, number % 4)
        assert isinstance(part.x, reading.Rows)


def test_rows_of_a_map_are_those_of_the_array(tmp_path):
    np.save(tmp_path / "x.npy", images(20, 3, 2))
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[3] = 0  # only in memory, where no other process can read it
    assert reading._place(private) is None and reading._place(private[2:]) is None
    mapped, index = np.load(tmp_path / "x.npy", mmap_mode="r"), np.array([3, 1, 19, 4])
    rows, x = reading.Rows(mapped, index), np.asarray(mapped)[index]
    assert (rows.shape, rows.dtype, rows.ndim, rows.size, rows.nbytes, len(rows)) == ((4, 3, 2), x.dtype, 3, 24, 24, 4)
    np.testing.assert_array_equal(np.asarray(rows), x)
    for key in (
        0,
        -1,
        slice(1, 3),
        [2, 0],
        x[:, 0, 0] > 99,
        (slice(None), 1),
        (2, 0, 1),
        ...,
        (..., 0),
        (slice(2), ..., 1),
    ):
        np.testing.assert_array_equal(rows[key], x[key])
    assert [row.tolist() for row in rows] == x.tolist()


def test_splits_without_a_class_are_said(tmp_path, caplog):
    write_idx(tmp_path, images(25, 4, 4), images(4, 4, 4))  # test labels 0..3
    with caplog.at_level("INFO", logger="absl"):
        data = load("idx", tmp_path)
    assert "idx: the test split has no example of 6 of 10 classes: 4, 5, 6, 7, 8, 9" in caplog.text
    lacking = sorted(set(range(10)) - set(data.valid.label.tolist()))
    assert f"idx: the valid split has no example of {len(lacking)} of 10 classes: {lacking[0]}" in caplog.text
    assert "train split has no" not in caplog.text


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
@pytest.mark.parametrize("split", ["train", "t10k"])
@pytest.mark.parametrize("label", [10, 200])
def test_labels_beyond_the_classes_of_a_named_set(tmp_path, name, split, label):
    write_idx(tmp_path, images(25, 28, 28), images(25, 28, 28))
    labels = np.arange(25, dtype=np.uint8) % 10
    labels[7] = label
    idx.write(tmp_path / f"{split}-labels-idx1-ubyte", labels)
    with pytest.raises(ValueError, match=rf"a label is {label}, and {name} has the classes 0\.\.9; .*name='idx'$"):
        load(name, tmp_path)
    assert load("idx", tmp_path).num_classes == label + 1


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.full(25, -1, np.int8), r"labels must be integers >= 0, and the smallest is -1"),
        (np.zeros(25, np.float32), r"labels must be integers >= 0 of shape \[N\], these are float32"),
        (np.full(25, 2**31 - 1, np.int32), r"a label is 2147483647, which would be 2147483648 classes for 25"),
    ],
)
def test_labels_that_are_no_classes(tmp_path, labels, words):
    write_idx(tmp_path, images(25, 4, 4), images(5, 4, 4))
    idx.write(tmp_path / "train-labels-idx1-ubyte", labels)
    with pytest.raises(ValueError, match=words) as error:
        load("idx", tmp_path)
    assert str(tmp_path) in str(error.value) and "\n" not in str(error.value)


def test_labels_that_tfds_does_not_publish(make_tfds, tmp_path, caplog):
    make_tfds("tiny", {"train": images(24, 4, 4, 3), "test": images(6, 4, 4, 3)})
    load("tiny")
    (cache,) = (tmp_path / "cache").iterdir()
    np.save(cache / "test_label.npy", np.full(6, -1, np.int32))
    data = load("tiny")
    assert data.num_classes is data.train.label is data.test.label is None
    assert "some labels are negative (not published): the data set is read without labels" in caplog.text
    np.save(cache / "test_label.npy", np.full(6, 4, np.int32))
    with pytest.raises(ValueError, match=r"a label is 4, and tiny has the classes 0\.\.3"):
        load("tiny")
    for wrong in (10**9, "4", [4]):
        (cache / "meta.json").write_text(json.dumps({"num_classes": wrong}))
        with pytest.raises(ValueError, match=rf"^{cache}: the number of classes must be at most 1,000,000, got"):
            load("tiny")


# ------------------------------------------------------------------------------------------------- the named sets


def test_mnist_is_looked_for_in_order(tmp_path, monkeypatch):
    ours, theirs, debian = (images(12, 28, 28, seed=seed) for seed in range(3))
    write_idx(tmp_path / "a" / "fashion_mnist", ours, ours)
    write_idx(tmp_path / "b" / "fashion_mnist", theirs, theirs)
    write_idx(tmp_path / "debian", debian, debian, end=".gz")
    monkeypatch.setattr(data_images, "DEBIAN", {"fashion_mnist": [tmp_path / "debian"]})

    def first(path=None):
        return load("fashion_mnist", path).test.x[..., 0]

    np.testing.assert_array_equal(first(), debian)
    monkeypatch.setenv("VAE_JAX_DATA", str(tmp_path / "b"))
    np.testing.assert_array_equal(first(), theirs)
    np.testing.assert_array_equal(first(tmp_path / "a"), ours)
    np.testing.assert_array_equal(first(tmp_path / "a" / "fashion_mnist"), ours)
    with pytest.raises(FileNotFoundError, match=r"prepare mnist --from DIR.*path.*VAE_JAX_DATA/mnist .*tried: .*b"):
        load("mnist")
    with pytest.raises(FileNotFoundError, match=r"no folder"):
        load("mnist", tmp_path / "c")
    write_idx(tmp_path / "small", images(12, 4, 4), images(12, 4, 4))
    with pytest.raises(ValueError, match=r"small: mnist has images of 28x28, these are 4x4; .*with name='idx'"):
        load("mnist", tmp_path / "small")


def test_digits():
    data = load("digits")
    assert [split.x.shape for split in data[1:4]] == [(1197, 8, 8, 1), (300, 8, 8, 1), (300, 8, 8, 1)]
    assert data.max_value == data.train.x.max() == 16 and data.train.x.dtype == np.uint8 and data.num_classes == 10
    np.testing.assert_array_equal(data.test.label[:8], load("digits").test.label[:8])
    assert np.bincount(data.test.label).min() > 15  # its own order would not mix so well
    with pytest.raises(ValueError, match=r"takes no path"):
        load("digits", "here")


def test_classes_are_left_out_of_every_split():
    whole = load("digits")
    without, only = sources.without_classes(whole, (0, 7)), sources.only_classes(whole, (0, 7))
    for own, left, never in zip(whole[1:4], without[1:4], only[1:4], strict=True):
        chosen = np.array([label in (0, 7) for label in own.label])
        for part, kept in ((left, ~chosen), (never, chosen)):
            np.testing.assert_array_equal(part.x, own.x[kept])
            np.testing.assert_array_equal(part.label, own.label[kept])
    assert without[4:] == only[4:] == whole[4:] and set(only.test.label) == {0, 7}


def test_classes_that_cannot_be_left_out(tmp_path):
    digits = load("digits")
    with pytest.raises(ValueError, match=r"digits has no class 10: its classes are 0 \.\. 9"):
        sources.without_classes(digits, (3, 10))
    with pytest.raises(ValueError, match=r"digits without the classes \(0, 1, .* 9\) has no example in its train"):
        sources.without_classes(digits, range(10))
    unlabelled = load("idx", write_idx(tmp_path, images(12, 3, 3), images(3, 3, 3), labels=False))
    with pytest.raises(ValueError, match="idx has no labels"):
        sources.without_classes(unlabelled, (0,))


def test_mnist_static_is_one_draw(tmp_path):
    levels = np.zeros(28 * 28, np.uint8)
    levels[:256] = np.arange(256)
    write_idx(tmp_path / "mnist", np.tile(levels.reshape(28, 28), (240, 1, 1)), images(6, 28, 28))
    one, two, grey = load("mnist_static", tmp_path), load("mnist_static", tmp_path), load("mnist", tmp_path)
    assert one.max_value == 1 and one.num_classes == 10 and set(np.unique(one.train.x)) == {0, 1}
    for a, b, c in zip(one[1:4], two[1:4], grey[1:4], strict=True):
        np.testing.assert_array_equal(a.x, b.x)
        np.testing.assert_array_equal(a.label, c.label)
    p = np.arange(256) / 255
    mean, sd = one.train.x.mean(0).ravel()[:256], np.sqrt(p * (1 - p) / 200)
    assert mean[0] == 0 and mean[255] == 1 and np.abs((mean - p)[1:255] / sd[1:255]).max() < 5
    assert not np.array_equal(one.train.x[:40], one.valid.x)


def test_stacked_mnist_is_three_digits_of_the_same_split(tmp_path):
    x = np.broadcast_to(np.arange(16, 256, dtype=np.uint8)[:, None, None], (240, 28, 28))  # an image is its number
    write_idx(tmp_path / "mnist", x, x[100:130])
    one, two, grey = load("stacked_mnist", tmp_path), load("stacked_mnist", tmp_path), load("mnist", tmp_path)
    assert one.num_classes == 1000 and one.max_value == 255
    for stacked, again, source in zip(one[1:4], two[1:4], grey[1:4], strict=True):
        assert stacked.x.shape == (len(source.x), 28, 28, 3) and stacked.label.dtype == np.int32
        np.testing.assert_array_equal(stacked.x, again.x)
        label = dict(zip(source.x[:, 0, 0, 0].tolist(), source.label.tolist(), strict=True))
        digits = np.vectorize(label.get)(stacked.x[:, 5, 7])  # None for an image of another split
        np.testing.assert_array_equal(stacked.label, digits @ [100, 10, 1])
        assert np.all(stacked.x == stacked.x[:, :1, :1]) and len(np.unique(digits)) > 5
    write_idx(tmp_path / "bare" / "mnist", x, x, labels=False)
    with pytest.raises(ValueError, match="stacked_mnist needs the label files of MNIST"):
        load("stacked_mnist", tmp_path / "bare")


def test_the_fixed_draw_does_not_drift():
    x = np.arange(256, dtype=np.uint8).repeat(4)
    digest = [hashlib.sha256(transforms.fixed_draw(x, 255, split)).hexdigest()[:16] for split in sources.SPLITS]
    assert digest == ["c69a84a775bce574", "1e123470b2742d46", "ac5f4a24ca2ffcb4"]
    assert transforms.fixed_draw(x.astype(np.float32) / 255, 1, "train").mean() == pytest.approx(0.5, abs=0.05)


def test_binarized_mnist_is_known_by_its_digest(tmp_path, monkeypatch):
    bits = {split: images(8, 784, seed=i) & 1 for i, split in enumerate(sources.SPLITS)}
    file = tmp_path / "binarized_mnist.npz"
    np.savez(file, **{split: np.packbits(x, axis=1) for split, x in bits.items()})
    with pytest.raises(
        ValueError, match=r"train split is not Larochelle's draw: expected sha256 43490d4d.*mnist_static"
    ):
        load("binarized_mnist", file)
    monkeypatch.setattr(data_images, "BINARIZED_MNIST", {s: hashlib.sha256(x).hexdigest() for s, x in bits.items()})
    for path in (file, tmp_path):
        data = load("binarized_mnist", str(path))
        assert data.max_value == 1 and data.num_classes is None and data.test.label is None
        np.testing.assert_array_equal(data.valid.x.reshape(8, 784), bits["valid"])
    with pytest.raises(FileNotFoundError, match=r"not prepared.*binarized_mnist.npz"):
        load("binarized_mnist")
    monkeypatch.setenv("VAE_JAX_DATA", str(tmp_path))
    assert load("binarized_mnist").train.x.shape == (8, 28, 28, 1)
    with pytest.raises(FileNotFoundError, match=r"no binarized_mnist.npz under it"):
        load("binarized_mnist", tmp_path / "tfds")
    file.write_bytes(file.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r"binarized_mnist.npz: not an .npz of arrays"):
        load("binarized_mnist", file)


@pytest.mark.skipif(not (REAL / "binarized_mnist.npz").is_file(), reason="no binarized_mnist.npz in $VAE_JAX_DATA")
def test_the_real_binarized_mnist():
    data = load("binarized_mnist", REAL)
    assert [len(split.x) for split in data[1:4]] == [50_000, 10_000, 10_000]


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="no mnist/ in $VAE_JAX_DATA")
def test_the_real_mnist():
    data = load("mnist", REAL)
    assert [split.x.shape for split in data[1:4]] == [(n, 28, 28, 1) for n in (50_000, 10_000, 10_000)]
    assert data.train.label[:6].tolist() == [5, 0, 4, 1, 9, 2] and data.test.label[:4].tolist() == [7, 2, 1, 0]


# ------------------------------------------------------------------------------------------------------------ TFDS


@pytest.fixture
def make_tfds(tmp_path):
    """Prepares a tiny TFDS set under $TFDS_DATA_DIR: {split: images} with the given features."""
    import tensorflow_datasets as tfds
    from PIL import Image

    def make(name, splits, features=None, file_format="array_record"):
        class Tiny(tfds.core.GeneratorBasedBuilder, skip_registration=True):
            VERSION = tfds.core.Version("3.0.1")

            def _info(self):
                label = tfds.features.ClassLabel(num_classes=4)
                given = features or {"image": tfds.features.Image(shape=(None, None, 3)), "label": label}
                return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(given))

            def _split_generators(self, dl_manager):
                return {split: self._generate_examples(x) for split, x in splits.items()}

            def _generate_examples(self, x):
                for key, image in enumerate(x):
                    if isinstance(image, dict):
                        yield key, image
                        continue
                    encoded = Image.fromarray(image)
                    example = {"image": encoded, "label": key % 4}
                    yield key, {k: v for k, v in example.items() if k in self.info.features} or {"x": key}

        Tiny.name = name
        Tiny(data_dir=tmp_path / "tfds").download_and_prepare(file_format=file_format)

    return make


def test_a_tfds_set_is_cached_and_mapped(make_tfds, monkeypatch):
    train, test = images(24, 5, 6, 3), images(6, 5, 6, 3, seed=1)
    make_tfds("tiny", {"train": train, "test": test})
    data = load("tiny")
    assert isinstance(data.test.x, np.memmap) and data.max_value == 255 and data.num_classes == 4
    assert [split.x.shape for split in data[1:4]] == [(20, 5, 6, 3), (4, 5, 6, 3), (6, 5, 6, 3)]
    stored = np.concatenate([data.train.x, data.valid.x])
    label = np.concatenate([data.train.label, data.valid.label])
    where = {image.tobytes(): i for i, image in enumerate(train)}  # TFDS shuffles
    assert [where[image.tobytes()] % 4 for image in stored] == label.tolist() and len(where) == len(stored)
    monkeypatch.setattr(prepared, "_convert", None)  # from here on only the cache
    np.testing.assert_array_equal(load("tfds:tiny").test.x, data.test.x)


def test_tfds_splits(make_tfds):
    make_tfds("three", {split: images(6 + i, 4, 4, 3) for i, split in enumerate(("train", "validation", "test", "x"))})
    make_tfds("one", {"train": images(36, 4, 4, 3)})
    assert [len(split.x) for split in load("three")[1:4]] == [6, 7, 8]
    assert [len(split.x) for split in load("one")[1:4]] == [25, 5, 6]


def test_numbered_sets_are_read_in_the_published_order(make_tfds):
    import tensorflow_datasets as tfds

    features = {"image": tfds.features.Image(shape=(4, 4, 1))}
    train, test = images(24, 4, 4), images(6, 4, 4, seed=1)
    make_tfds("mnist", {"train": train, "test": test}, features)
    data = load("mnist")
    np.testing.assert_array_equal(np.concatenate([data.train.x, data.valid.x])[..., 0], train)
    np.testing.assert_array_equal(data.test.x[..., 0], test)
    assert data.num_classes is None and data.train.label is None
    assert load("mnist_static").train.x.shape == data.train.x.shape


def test_a_set_prepared_anew_is_not_read_from_the_old_cache(make_tfds, tmp_path):
    make_tfds("tiny", {"train": images(12, 4, 4, 3), "test": images(6, 4, 4, 3)})
    load("tiny")
    (tmp_path / "tfds" / "tiny").rename(tmp_path / "old")
    make_tfds("tiny", {"train": images(18, 4, 4, 3), "test": images(6, 4, 4, 3)})
    assert len(load("tiny").train.x) == 15


def test_tfds_sets_that_are_not_images_of_one_size(make_tfds, tmp_path):
    import tensorflow_datasets as tfds

    make_tfds("sizes", {"train": [images(4, 4, 3), images(5, 4, 3)]})
    with pytest.raises(ValueError, match=r"sizes.*: images vary in size \(\(., 4, 3\), \(., 4, 3\)\)"):
        load("sizes")
    make_tfds("none", {"train": images(3, 4, 4, 3)}, {"x": tfds.features.Scalar(np.int64)})
    with pytest.raises(ValueError, match=r"none.*: no uint8 'image'"):
        load("none")
    make_tfds("other", {"test": images(3, 4, 4, 3)})
    with pytest.raises(ValueError, match=r"no 'train' split"):
        load("other")
    assert not list((tmp_path / "cache").iterdir())  # nothing half-made is left


def test_a_tfds_set_of_texts_is_read_line_by_line(make_tfds):
    import tensorflow_datasets as tfds

    of_text = {"text": tfds.features.Text(), "title": tfds.features.Text()}
    lines = [f"the {n} cats\n\nsat on the {n} mats" for n in range(60)]
    prose = {"train": lines, "test": ["a 7 dog", "the 3\u2028cats\nsat"]}  # \n alone ends a line
    prose = {split: [{"text": text, "title": "?"} for text in part] for split, part in prose.items()}
    make_tfds("prose", prose, of_text)
    data = load("tfds:prose", tokens={"max_length": 5, "min_count": 2})
    said = {split: [data.vocabulary.decode(row) for row in getattr(data, split).x] for split in sources.SPLITS}
    assert sorted(said["test"]) == ["<unk> 7 <unk>", "sat", "the 3 cats"]  # TFDS's own, of which none is left out
    assert len(said["valid"]) == 6 and len(said["train"]) == 114  # a twentieth of the 120 lines that are not empty
    assert data.name == "prose" and data.train.x.shape[1] == 6

    with pytest.raises(ValueError, match=r"prose.*: no uint8 'image'"):
        load("prose")
    make_tfds(
        "titles", {"train": [{"title": "a", "subtitle": "b"}]}, {"title": of_text["text"], "subtitle": of_text["text"]}
    )
    with pytest.raises(ValueError, match=r"titles.*: one feature of text"):
        load("titles", tokens={"max_length": 5})


def test_tfds_sets_that_are_not_ready(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"python -m vae_jax.data.prepare cifar10 --from DIR"):
        load("cifar10")
    with pytest.raises(
        ValueError, match=r"no data set 'fashion-mnist': ours are digits, mnist,.*nearest.*fashion_mnist"
    ):
        load("fashion-mnist")
    with pytest.raises(ValueError, match=r"no data set '../mnist'"):
        load("../mnist")
    for version in ("3.0.1", "3.0.10"):
        (tmp_path / "tfds" / "emnist" / "letters" / version).mkdir(parents=True)
        (tmp_path / "tfds" / "emnist" / "letters" / version / "dataset_info.json").write_text("{}")
    with pytest.raises(ValueError, match=r"emnist has configurations: give the name emnist/letters"):
        load("emnist")
    with pytest.raises(ValueError, match=r"3.0.10: stored as tfrecord, which only TensorFlow reads"):
        load("emnist/letters")


def test_importing_is_light():
    """Of everything up to the first step of training; each of these takes a tenth of a second to two seconds."""
    heavy = "tensorflow_datasets sklearn PIL grain tensorflow scipy orbax matplotlib pandas huggingface_hub"
    code = f"import sys, vae_jax.runs.train; print([m for m in '{heavy}'.split() if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize(
    ("name", "digests"),
    [
        ("digits", ["70c74c32b9875727", "87c3891a0462de17", "ca7684602c04b23c"]),
        ("text", ["f7b15eb42ccb7ffd", "5e03897b35702a73", "3e533a0aa556fa52"]),
    ],
)
def test_the_sets_behind_recorded_numbers_do_not_drift(name, digests):
    data = load(name)
    assert [hashlib.sha256(part.x).hexdigest()[:16] for part in data[1:4]] == digests
