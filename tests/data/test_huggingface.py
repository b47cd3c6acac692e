"""Sets in the format of the Hugging Face hub: columns found or named, images, splits, and no network."""

import io
import json
import socket

import numpy as np
import pytest
from PIL import Image

from vae_jax.data import from_arrays, huggingface
from vae_jax.data.fingerprint import fingerprint
from vae_jax.data.sources import load

datasets = pytest.importorskip("datasets")
N = 24


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    def refuse(*_):
        raise AssertionError("a reader opened a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path / "cache"))


def pixels(n=N, seed=0):
    return np.random.default_rng(seed).integers(256, size=(n, 5, 6, 3), dtype=np.uint8)


def of_images(n=N, seed=0, **columns):
    data = {"image": [Image.fromarray(x) for x in pixels(n, seed)], "label": [i % 3 for i in range(n)], **columns}
    kinds = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog", "eel"])}
    kinds |= {name: datasets.Value("string") for name in columns}
    return datasets.Dataset.from_dict(data, features=datasets.Features(kinds))


def saved(tables, tmp_path):
    tables.save_to_disk(tmp_path / "set")
    return str(tmp_path / "set")


def test_images_and_classes_are_found(tmp_path):
    path = saved(of_images(caption=["a text"] * N), tmp_path)
    data = load("huggingface", path)
    assert data.name == "set" and data.class_names == ("cat", "dog", "eel") and data.max_value == 255
    given = from_arrays(pixels(), np.arange(N) % 3, class_names=("cat", "dog", "eel"))
    assert fingerprint(data) == fingerprint(given)
    assert fingerprint(load("huggingface", path)) == fingerprint(data)  # from the cache
    small = load("huggingface", path, files={"size": (3, 4), "channels": 1, "label": ""}, max_value=255)
    assert small.train.x.shape[1:] == (3, 4, 1) and small.num_classes is None


def test_the_splits_of_the_set(tmp_path):
    tables = {
        "train": of_images(seed=1),
        "validation": of_images(9, 2),
        "test": of_images(9, 3),
        "unlabelled": of_images(9),
    }
    data = load("huggingface", saved(datasets.DatasetDict(tables), tmp_path))
    for split, (n, seed) in {"train": (N, 1), "valid": (9, 2), "test": (9, 3)}.items():
        np.testing.assert_array_equal(getattr(data, split).x, pixels(n, seed))
        np.testing.assert_array_equal(getattr(data, split).label, np.arange(n) % 3)


def test_a_selection_and_an_order_are_followed(tmp_path):
    table = of_images(2 * N).shuffle(seed=1).select(range(N))
    numbers = np.asarray(table._indices["indices"])[:N] if table._indices is not None else np.arange(N)
    data = load("huggingface", saved(datasets.DatasetDict({"train": table, "test": of_images(8)}), tmp_path))
    seen = sorted(x.tobytes() for x in np.concatenate([np.asarray(data.train.x), np.asarray(data.valid.x)]))
    assert seen == sorted(x.tobytes() for x in pixels(2 * N)[numbers])


@pytest.mark.parametrize("kind", ["lists", "array"])
def test_vectors_and_arrays(kind, tmp_path):
    x = np.random.default_rng(0).normal(size=(N, 4, 3) if kind == "array" else (N, 5)).astype(np.float32)
    feature = datasets.Array2D((4, 3), "float32") if kind == "array" else datasets.List(datasets.Value("float32"))
    kinds = datasets.Features({"v": feature, "kind": datasets.Value("string")})
    table = datasets.Dataset.from_dict({"v": x.tolist(), "kind": ["b", "a"] * 12}, features=kinds)
    path = saved(table, tmp_path)
    data = load("huggingface", path, files={"x": "v", "label": "kind"})
    assert fingerprint(data) == fingerprint(from_arrays(x, ["b", "a"] * 12)) and data.class_names == ("a", "b")
    with pytest.raises(ValueError, match=r"^files\.x must name the column .* its columns are v, kind"):
        load("huggingface", path)
    with pytest.raises(ValueError, match=r"^files\.x: .* has no column 'w'"):
        load("huggingface", path, files={"x": "w"})
    with pytest.raises(ValueError, match=r"^files\.label: .* has no column 'kid'; did you mean 'kind'\?"):
        load("huggingface", path, files={"x": "v", "label": "kid"})
    with pytest.raises(ValueError, match=r"size, channels, fit and bits are for images"):
        load("huggingface", path, files={"x": "v", "size": 4})


def test_a_set_is_fetched_only_if_that_is_asked_for(tmp_path, monkeypatch):
    asked = []

    def fetch(name, subset):
        asked.append((name, subset))
        return datasets.DatasetDict({"train": of_images(), "test": of_images(8)})

    monkeypatch.setattr(datasets, "load_dataset", fetch)
    with pytest.raises(FileNotFoundError, match=r"no folder .*mnist; set download to True to fetch"):
        load("huggingface", "ylecun/mnist")
    assert asked == []
    data = load("huggingface", "ylecun/mnist", files={"download": True, "subset": "small"})
    assert asked == [("ylecun/mnist", "small")] and data.name == "mnist" and len(data.test.x) == 8


def test_images_on_the_network_are_refused():
    images = [{"bytes": None, "path": "https://nowhere.invalid/x.png"}] * 8
    table = datasets.Dataset.from_dict({"x": images}, features=datasets.Features({"x": datasets.Image(decode=False)}))
    with pytest.raises(ValueError, match=r"set, train 3: the image is not stored but on the network"):
        huggingface._sources(table, "x", "set", "train")[3]()


@pytest.mark.parametrize("damage", ["truncated", "json", "image", "no arrow"])
def test_a_damaged_set_is_one_line(tmp_path, damage):
    table = of_images()
    if damage == "image":
        file = io.BytesIO()
        Image.fromarray(pixels()[0]).save(file, "PNG")
        table = table.cast_column("image", datasets.Image(decode=False))
        table = table.map(
            lambda row, i: {"image": {"bytes": file.getvalue()[:60], "path": None}} if i == 3 else row, True
        )
    folder = tmp_path / "set"
    saved(table, tmp_path)
    (arrow,) = folder.glob("*.arrow")
    match damage:
        case "truncated":
            arrow.write_bytes(arrow.read_bytes()[:-3000])
        case "json":
            (folder / "dataset_info.json").write_text("{")
        case "no arrow":
            arrow.unlink()
    with pytest.raises((ValueError, OSError), match=str(folder)) as error:
        load("huggingface", str(folder))
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def test_what_is_no_saved_set(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="huggingface needs a path"):
        load("huggingface")
    (tmp_path / "x.json").write_text(json.dumps({}))
    with pytest.raises(ValueError, match=r"not written by save_to_disk .* dataset_dict\.json or state\.json"):
        load("huggingface", str(tmp_path))
    tables = datasets.DatasetDict({"dogs": of_images(8)})
    with pytest.raises(ValueError, match=r"a split called train is required; it has dogs"):
        load("huggingface", saved(tables, tmp_path))
    monkeypatch.setitem(__import__("sys").modules, "datasets", None)
    with pytest.raises(ValueError, match=r"datasets, which is not installed: pip install 'vae_jax\[huggingface\]'"):
        load("huggingface", str(tmp_path / "set"))
