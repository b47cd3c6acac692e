"""Preparing TFDS sets from files: real builders, with the checksums of tiny files in place of the registered ones."""

import hashlib
import importlib.util
import os
import socket
from pathlib import Path

import numpy as np
import pytest

from vae_jax.data import idx, images, prepare, prepared, sources

tfds = pytest.importorskip("tensorflow_datasets")
REAL = Path(os.environ.get("VAE_JAX_DATA", "nowhere"))


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    def refuse(*_):
        raise AssertionError("preparing from files opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "cache"))


def write_mnist_like(folder, seed):
    """Four files under the official names; returns the arrays by file name."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(seed)
    arrays = {}
    for prefix, n in (("train", 24), ("t10k", 6)):
        arrays[f"{prefix}-images-idx3-ubyte.gz"] = rng.integers(256, size=(n, 28, 28), dtype=np.uint8)
        arrays[f"{prefix}-labels-idx1-ubyte.gz"] = rng.integers(10, size=n, dtype=np.uint8)
    for file, array in arrays.items():
        idx.write(folder / file, array)
    return arrays


@pytest.fixture
def register(monkeypatch):
    """Takes the files of a folder as the official ones of a set, by their own checksums."""
    stock, classes = prepare.builder_cls, {}
    monkeypatch.setattr(prepare, "builder_cls", lambda name: classes.get(name) or stock(name))

    def register(name, folder):
        cls = stock(name)
        infos = {}
        for url, info in cls.url_infos.items():
            data = (folder / info.filename).read_bytes()
            infos[url] = type(info)(len(data), hashlib.sha256(data).hexdigest(), info.filename)
        cls.url_infos = infos
        classes[name] = cls

    return register


def test_two_sets_with_the_same_file_names(tmp_path, register, capsys):
    for seed, name in enumerate(("mnist", "fashion_mnist")):
        arrays = write_mnist_like(tmp_path / name, seed)
        register(name, tmp_path / name)
        folder = prepare.prepare(name, source=tmp_path)  # DIR/NAME is accepted for DIR
        printed = capsys.readouterr().out
        assert "4 original files" in printed and str(tmp_path / name) in printed
        assert "train 24, test 6 examples written to" in printed and str(folder) in printed

        examples = tfds.data_source(name, split="train", data_dir=tmp_path / "tfds", download=False)
        plain = {(e["image"].tobytes(), int(e["label"])) for e in examples}
        x, label = arrays["train-images-idx3-ubyte.gz"], arrays["train-labels-idx1-ubyte.gz"]
        assert plain == {(image.tobytes(), int(k)) for image, k in zip(x, label, strict=True)}

        data = sources.load(f"tfds:{name}", tmp_path / "tfds")
        np.testing.assert_array_equal(np.concatenate([data.train.x, data.valid.x])[..., 0], x)
        np.testing.assert_array_equal(np.concatenate([data.train.label, data.valid.label]), label)
        np.testing.assert_array_equal(data.test.x[..., 0], arrays["t10k-images-idx3-ubyte.gz"])
        assert data.num_classes == 10
    prepare.prepare("mnist", source=tmp_path)
    assert "already prepared, nothing to do" in capsys.readouterr().out


def test_binarized_mnist_from_packed_bits(tmp_path, register, monkeypatch):
    bits = {
        s: np.random.default_rng(i).integers(2, size=(6, 784), dtype=np.uint8) for i, s in enumerate(sources.SPLITS)
    }
    np.savez(tmp_path / "binarized_mnist.npz", **{split: np.packbits(x, axis=1) for split, x in bits.items()})
    (text := tmp_path / "text").mkdir()
    for split, x in bits.items():
        np.savetxt(text / f"binarized_mnist_{split}.amat", x, fmt="%d")  # an independent way to the same bytes
    register("binarized_mnist", text)
    prepare.prepare("binarized_mnist", source=tmp_path)
    monkeypatch.setattr(images, "BINARIZED_MNIST", {s: hashlib.sha256(x).hexdigest() for s, x in bits.items()})
    monkeypatch.delenv("VAE_JAX_DATA", raising=False)
    data = sources.load("binarized_mnist")
    assert data.max_value == 1
    for split, x in bits.items():
        np.testing.assert_array_equal(getattr(data, split).x.reshape(-1, 784), x)


def test_files_that_are_not_the_official_ones(tmp_path):
    write_mnist_like(tmp_path / "mnist", 0)
    with pytest.raises(ValueError, match=r"not mnist's official file: expected sha256 [0-9a-f]{64}, got"):
        prepare.prepare("mnist", source=tmp_path)
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks t10k-labels-idx1-ubyte.gz$"):
        prepare.prepare("mnist", source=tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no folder"):
        prepare.prepare("mnist", source=tmp_path / "nowhere")
    assert not (tmp_path / "tfds" / "mnist").exists()


def test_the_command_says_what_is_wrong(tmp_path):
    with pytest.raises(SystemExit, match=r"error: no data set 'mnits'"):
        prepare.main(["mnits"])
    with pytest.raises(SystemExit, match=r"error: digits is no set of TFDS and needs no preparing"):
        prepare.main(["digits"])
    with pytest.raises(SystemExit, match=r"error: mnist: no folder"):
        prepare.main(["mnist", "--from", str(tmp_path / "nowhere"), "--data_dir", str(tmp_path)])


@pytest.mark.skipif(importlib.util.find_spec("tensorflow") is not None, reason="TensorFlow is installed")
def test_other_sets_need_tensorflow():
    with pytest.raises(ImportError, match=r"pip install tensorflow.*mnist, fashion_mnist"):
        prepare.prepare("cifar10")


@pytest.mark.skipif(not (REAL / "mnist").is_dir(), reason="no mnist/ in $VAE_JAX_DATA to prepare for real")
def test_the_real_mnist(tmp_path):
    prepare.prepare("mnist", source=REAL)
    examples = tfds.data_source("mnist", split="test", data_dir=tmp_path / "tfds", download=False)
    x = idx.read(next(iter(sorted((REAL / "mnist").glob("t10k-images*")))))
    for key, example in zip(prepared.published_order("test", len(x)), examples, strict=True):
        np.testing.assert_array_equal(example["image"][..., 0], x[key])
