"""Arrays of one's own, from files and in Python: types, splits, labels, what is refused, and sources on demand."""

import json
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.data import array_files, contexts, from_arrays, from_source, idx, on_demand, pipeline, transforms
from vae_jax.data.description import describe, stand_in
from vae_jax.data.fingerprint import fingerprint
from vae_jax.data.reading import Rows
from vae_jax.data.sources import load
from vae_jax.data.values import event_of
from vae_jax.distributions import Normal, check_continuous
from vae_jax.runs import build, configs
from vae_jax.support import Levels, Real

N = 40


def images(n=N, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(256, size=(n, 4, 3)).astype(dtype)


def vectors(n=N, seed=0):
    return np.random.default_rng(seed).normal(size=(n, 5)).astype(np.float32)


def rows(*splits):
    return sorted(np.asarray(row).tobytes() for split in splits for row in np.asarray(split.x))


def everything(data):
    return rows(*data[1:4])


# ---------------------------------------------------------------------------------------------------------- every file


def npz(folder, arrays):
    np.savez(folder / "x.npz", **arrays)
    return folder / "x.npz"


def npy_folder(folder, arrays):
    (folder / "set").mkdir()
    for name, array in arrays.items():
        np.save(folder / "set" / f"{name}.npy", array)
    return folder / "set"


def hdf5(folder, arrays):
    h5py = pytest.importorskip("h5py")
    with h5py.File(folder / "x.h5", "w") as file:
        for name, array in arrays.items():
            file[name] = array.astype(object) if array.dtype.kind == "U" else array
    return folder / "x.h5"


def zarr_store(folder, arrays):
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(folder / "x.zarr", mode="w")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the type of strings is not final
        for name, array in arrays.items():
            group.create_array(name, data=array)
    return folder / "x.zarr"


def parquet(folder, arrays):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    table = pa.table({name: array.tolist() for name, array in arrays.items()})
    pyarrow.parquet.write_table(table, folder / "x.parquet")
    return folder / "x.parquet"


FILES = {"npz": npz, "npy": npy_folder, "hdf5": hdf5, "zarr": zarr_store, "parquet": parquet}


@pytest.mark.parametrize("kind", FILES)
def test_every_file_gives_what_the_arrays_give(kind, tmp_path):
    of = {"x": images(), "label": np.array(["b", "a"])[np.arange(N) % 2]}
    given = from_arrays(of["x"], of["label"])
    data = load("arrays", str(FILES[kind](tmp_path, of)))
    assert data.class_names == ("a", "b") and data.train.x.shape == given.train.x.shape == (29, 4, 3, 1)
    assert fingerprint(data) == fingerprint(given)
    assert (data.name, given.name) == ("set" if kind == "npy" else "x", "arrays")
    assert data.max_value == 255 and data.train.x.dtype == np.uint8


@pytest.mark.parametrize("kind", FILES)
def test_every_file_keeps_real_numbers(kind, tmp_path):
    data = load("arrays", str(FILES[kind](tmp_path, {"y": vectors().astype(np.float64)})))  # the only array
    assert everything(data) == sorted(row.tobytes() for row in vectors())
    assert (data.max_value, data.num_classes, data.train.x.dtype) == (1, None, np.float32)
    assert event_of(data, "real") == ((5,), Real(), False)


@pytest.mark.parametrize("kind", FILES)
def test_every_file_cut_short_is_one_line(kind, tmp_path):
    path = FILES[kind](tmp_path, {"x": np.random.default_rng(0).integers(256, size=(300, 9, 9), dtype=np.uint8)})
    stored = max((file for file in [path, *path.rglob("*")] if file.is_file()), key=lambda file: file.stat().st_size)
    stored.write_bytes(stored.read_bytes()[:-700])
    with pytest.raises(ValueError, match=str(path)) as error:
        load("arrays", str(path))
    assert "\n" not in str(error.value) and len(str(error.value)) < 500


def test_an_npy_is_mapped(tmp_path):
    np.save(tmp_path / "x.npy", images())
    data = load("arrays", str(tmp_path / "x.npy"))
    assert isinstance(data.train.x, Rows) and isinstance(data.train.x.array, np.memmap)
    assert data.train.x.shape == (29, 4, 3, 1) and everything(data) == everything(from_arrays(images()))
    np.save(tmp_path / "x.npy", np.asfortranarray(images().astype(">u2")))
    assert load("arrays", str(tmp_path / "x.npy"), max_value=255).train.x.dtype == np.uint16


# --------------------------------------------------------------------------------------------------------------- splits

PATTERNS = ["{part}_{split}", "{split}_{part}", "{split}/{part}", "{part}/{split}"]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("valid", ["val", "validation", None])
def test_splits_by_the_names_of_arrays(pattern, valid, tmp_path):
    of, arrays = {}, {}
    for seed, split in enumerate(filter(None, ("train", "test", valid))):
        of[split] = images(12, seed=seed), np.arange(12) % 3
        for part, array in zip(("x", "y"), of[split], strict=True):
            arrays[pattern.format(part=part, split=split)] = array
    write = hdf5 if "/" in pattern else npz
    data = load("arrays", str(write(tmp_path, arrays)), files={"label": "y"})
    np.testing.assert_array_equal(data.test.x[..., 0], of["test"][0])
    np.testing.assert_array_equal(data.test.label, of["test"][1])
    if valid:
        np.testing.assert_array_equal(data.valid.x[..., 0], of[valid][0])
        np.testing.assert_array_equal(data.train.x[..., 0], of["train"][0])
    else:
        assert rows(data.train, data.valid) == sorted(row.tobytes() for row in of["train"][0])
        assert len(data.valid.x) == 2


def test_splits_by_an_array_of_their_names(tmp_path):
    words = np.array(["train", "train", "test", "dev"])[np.arange(N) % 4]
    arrays = {"x": images(), "label": np.arange(N) % 7, "part": words, "context": vectors()}
    for write in (npz, npy_folder):
        data = load("arrays", str(write(tmp_path, arrays)), files={"split": "part"})
        for split, word in (("train", "train"), ("valid", "dev"), ("test", "test")):
            part = getattr(data, split)
            np.testing.assert_array_equal(np.asarray(part.x)[..., 0], images()[words == word])
            np.testing.assert_array_equal(part.label, (np.arange(N) % 7)[words == word])
            np.testing.assert_array_equal(np.asarray(part.context), vectors()[words == word])
    given = contexts.vector(data, event_of(data, "levels"))
    assert pipeline.fixed_split(data, "test", transform=transforms.levels, conditioning=given)["context"].shape == (
        10,
        5,
    )
    np.savez(tmp_path / "flag.npz", x=images(), is_test=words == "test")
    data = load("arrays", str(tmp_path / "flag.npz"), files={"split": "is_test"})
    np.testing.assert_array_equal(np.asarray(data.test.x)[..., 0], images()[words == "test"])
    assert len(data.train.x) + len(data.valid.x) == (words != "test").sum()
    np.savez(tmp_path / "bad.npz", x=images(), part=np.where(words == "dev", "trian", words))
    with pytest.raises(ValueError, match=r"'part' holds 'trian', which is no split; did you mean 'train'\?"):
        load("arrays", str(tmp_path / "bad.npz"), files={"split": "part"})


def test_held_out_examples_are_a_sixth_each_and_of_all_classes(caplog):
    label = np.repeat(np.arange(4), 90)
    with caplog.at_level("INFO", logger="absl"):
        data = from_arrays(np.arange(360.0)[:, None] / 360, label)
    assert [len(split.x) for split in data[1:4]] == [250, 50, 60]
    assert sorted(np.concatenate([split.x[:, 0] for split in data[1:4]]).tolist()) == pytest.approx(
        np.arange(360) / 360
    )
    for split in data[1:4]:
        np.testing.assert_array_equal(split.label, np.round(split.x[:, 0] * 360).astype(int) // 90)
    assert set(data.test.label[:12]) == set(data.valid.label[:12]) == set(range(4))  # not in the order of the file
    assert "the training labels are sorted; every epoch has a random order, and a permutation chose" in caplog.text


# ------------------------------------------------------------------------------------------------------ types in Python


def test_the_number_of_held_out_examples_can_be_chosen(tmp_path):
    path = npz(tmp_path, {"x": images(100)})
    data = load("arrays", str(path), files={"held_out": 20})
    assert [len(getattr(data, split).x) for split in ("train", "valid", "test")] == [60, 20, 20]
    given = npz(tmp_path, {"x_train": images(100), "x_test": images(7)})
    data = load("arrays", str(given), files={"held_out": 20})
    assert [len(getattr(data, split).x) for split in ("train", "valid", "test")] == [80, 20, 7]
    with pytest.raises(ValueError, match="of 100 training examples 100 cannot be held out"):
        load("arrays", str(given), files={"held_out": 100})
    with pytest.raises(ValueError, match="held_out must be"):
        load("arrays", str(given), files={"held_out": 0})


@pytest.mark.parametrize(
    ("x", "dtype", "max_value"),
    [
        (images(), np.uint8, 255),
        (images() > 127, np.uint8, 1),
        (images(dtype=np.int64), np.uint8, 255),
        (images(dtype=np.int32) * 257, np.uint16, 65535),
        (images().astype(np.uint16) * 257, np.uint16, 65535),
        (images() / 255, np.float32, 1),
        ((images() / 255).astype(np.float16), np.float32, 1),
        (jnp.asarray(images() / 255, jnp.bfloat16), np.float32, 1),
        (jnp.asarray(images()), np.uint8, 255),
        (images().tolist(), np.uint8, 255),
        ((images() / 255).tolist(), np.float32, 1),
        (images()[:, 0].astype(int) % 7, np.uint8, 6),  # vectors: the largest value
        (images()[:, 0].astype(int) - 3, np.float32, 1),
        (np.ma.masked_array(vectors(), False), np.float32, 1),
    ],
)
def test_arrays_of_every_type(x, dtype, max_value):
    data = from_arrays(x)
    assert (data.train.x.dtype, data.max_value) == (dtype, max_value)
    assert everything(data) == sorted(np.asarray(row, dtype).tobytes() for row in np.asarray(x))
    assert data.train.x.ndim == (4 if np.ndim(x) == 3 else 2)


def test_nothing_is_copied_that_has_a_stored_type():
    x = images(200)
    data = from_arrays(x, test=images(9), valid=(images(9),))
    assert np.shares_memory(data.train.x, x)


def test_splits_have_one_type():
    """Integers of 64 bits take the type that holds all of them."""
    train, test = images(dtype=np.int64), images(dtype=np.int64) * 200
    data = from_arrays(train, test=test, max_value=65535)
    assert data.train.x.dtype == data.test.x.dtype == np.uint16
    np.testing.assert_array_equal(data.test.x[..., 0], test)
    assert from_arrays(train, test=-test).train.x.dtype == np.float32


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (dict(x=[[1, 2], [3]]), r"arrays, train: no array can be made of it .*all examples must be alike"),
        (dict(x=np.zeros((9, 0))), r"arrays, train: x has the shape \[9, 0\], which holds no value"),
        (dict(x=np.zeros(9)), r"arrays, train: x has the shape \[9\]; .* give x\[:, None\]"),
        (dict(x=np.zeros((9, 2, 2, 2, 2))), r"images are \[N, H, W\] .* reshape it"),
        (dict(x=[["a"]] * 9), r"numbers are required, and x is <U1"),
        (dict(x=np.zeros((9, 2), complex)), r"numbers are required, and x is complex128"),
        (dict(x=np.full((9, 3), np.nan)), r"missing must be True if NaN means .* 27 times, first at index \(0, 0\)"),
        (dict(x=np.full((9, 3), np.nan), missing=True), r"arrays, train: every value is NaN"),
        (dict(x=np.eye(9) * np.inf, missing=True), r"x is infinite, or beyond float32 .*\(0, 0\)"),
        (dict(x=np.eye(9) * 1e39), r"x is infinite, or beyond float32 9 times, .* scale it"),
        (dict(x=np.ma.masked_array(vectors(), vectors() > 0)), r"missing must be True, because .* masked"),
        (dict(x=np.arange(9)[:, None] * 10**8), r"integers from 0 to 8e\+08 do not fit into float32"),
        (dict(x=vectors(), test=vectors()[:, :3]), r"training examples have the shape \[5\], .* test split \[3\]"),
        (dict(x=images(), test=images() / 255), r"training examples are uint8, .* test split float64: .* one scale"),
        (dict(x=vectors(6)), r"6 training examples are too few; give at least 7"),
        (dict(x=images() // 9), r"max_value must be given for arrays, .* 28 for levels 0\.\.28 or 255 for dark"),
        (dict(x=images(), max_value=65536), r"max_value must be between 0 and 65535"),
        (dict(x=vectors(), missing="no"), r"missing must be True or False"),
        (dict(x=vectors(), label=np.arange(39) % 2), r"its train split has 40 examples and 39 labels"),
        (dict(x=vectors(), context=np.zeros(N)), r"contexts must be numbers, \[N, D\] or .* these are float64 \[40\]"),
        (dict(x=vectors(), context=np.full((N, 2), np.nan)), r"arrays, train: a context is not finite"),
        (dict(x=vectors(), context=np.zeros((3, 2))), r"its train split has 40 examples and 3 contexts"),
        (dict(x=vectors(), test=(vectors(), None, None, None)), r"valid and test must be x, \(x, label\) or"),
        (dict(x=vectors(), label=np.arange(N) % 2, test=vectors()), r"its test split has no labels, others have"),
        (dict(x=vectors(), label=np.arange(N)), r"40 distinct labels for 40 training examples are no classes"),
        (dict(x=vectors(), label=vectors()[:, 0]), r"train labels are float32, .* give other numbers as a context"),
        (dict(x=vectors(), label=np.eye(N)), r"labels are \[40, 40\], .* label.argmax\(1\)"),
        (dict(x=vectors(), class_names=("a", "b")), r"class_names must be None for arrays, which has no labels"),
        (dict(x=vectors(), label=np.arange(N) % 3, class_names=("a", "b")), r"class_names has 2 names, .* 3 labels"),
        (dict(x=vectors(), label=["a", "c"] * 20, class_names=("a", "b")), r"class_names lacks 'c', a label"),
        (dict(x=vectors(), label=["a", "c"] * 20, class_names=("a", "a")), r"class_names must be distinct"),
    ],
)
def test_what_cannot_be_data_is_refused_with_the_remedy(given, words):
    with pytest.raises(ValueError, match=words) as error:
        from_arrays(**given)
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("label", "names", "encoded"),
    [
        ([0, 1, 2], None, [0, 1, 2]),
        ([3, 4, 9], ("3", "4", "9"), [0, 1, 2]),
        ([-1, 0, 1], ("-1", "0", "1"), [0, 1, 2]),
        ([2.0, 1.0, 3.0], ("1", "2", "3"), [1, 0, 2]),
        (["dog", "cat", "eel"], ("cat", "dog", "eel"), [1, 0, 2]),
        ([b"dog", b"cat", b"eel"], ("cat", "dog", "eel"), [1, 0, 2]),
        ([True, False, True], ("False", "True"), [1, 0, 1]),
        ([[0], [1], [2]], None, [0, 1, 2]),
    ],
)
def test_labels_of_every_kind(label, names, encoded, caplog):
    with caplog.at_level("INFO", logger="absl"):
        data = from_arrays(np.arange(60.0)[:, None] / 60, np.array(label * 20))
    assert data.class_names == names and data.num_classes == 1 + max(encoded)
    for split in data[1:4]:
        assert split.label.dtype == np.int32
        np.testing.assert_array_equal(split.label, np.array(encoded)[np.round(split.x[:, 0] * 60).astype(int) % 3])
    assert ("are numbered 0 .. 2; class_names keeps the old ones" in caplog.text) == (
        names in [("3", "4", "9"), *_ints()]
    )


def _ints():
    return ("-1", "0", "1"), ("1", "2", "3")


def test_unsigned_and_signed_labels_are_of_one_kind():
    label = 1 + np.arange(N) % 3
    data = from_arrays(vectors(), label.astype(np.uint64), test=(vectors(), label))
    assert data.class_names == ("1", "2", "3")


def test_class_names_give_the_order():
    label = np.array(["b", "a"])[np.arange(N) % 2]
    data = from_arrays(vectors(), label, class_names=("b", "c", "a"))
    assert data.class_names == ("b", "c", "a") and data.num_classes == 3 and set(data.train.label) == {0, 2}
    assert from_arrays(vectors(), np.arange(N) % 2, class_names=("no", "yes")).class_names == ("no", "yes")


# ----------------------------------------------------------------------------------------------------------- suspicions


def test_what_looks_wrong_is_said(caplog):
    x = vectors(200)
    x[:, 1], x[:, 4] = 3, x[:, 0]
    test = x[:7]
    from_arrays(x, np.full(200, 5), test=(test, np.full(7, 5)))
    for words in (
        "1 of 5 columns are constant and say nothing; leave them out: 1",
        "1 of 5 columns repeat another one, so a density has no limit; leave them out: 4 (= 0)",
        "all examples have the label 5: it is dropped",
    ):
        assert words in caplog.text
    said = [record.message for record in caplog.records if "are copies of" in record.message]
    counts = {split: int(m.split()[1]) for m in said for split in ("train", "valid") if m.endswith(f"{split} examples")}
    assert sum(counts.values()) == 7  # each of them is still in one of the two
    caplog.clear()
    from_arrays(vectors(200), np.arange(200) % 3)
    assert caplog.text == ""
    from_arrays(vectors(200) * [1, 1, 1, 1, 1000])
    assert "columns reach over " in caplog.text and "standardise them, or read them as a table" in caplog.text
    from_arrays(vectors(50), np.arange(50) % 3)
    assert "35 training examples are few" in caplog.text


def test_classes_that_a_split_lacks_are_said(caplog):
    from_arrays(vectors(), np.arange(N) % 3, test=(vectors(9), np.zeros(9)))
    assert "the test split has no example of 2 of 3 classes: 1, 2" in caplog.text


# ------------------------------------------------------------------------------------------------------- missing values


@pytest.mark.parametrize("transform", ["real", "unit", "binarize", "levels"])
def test_missing_values_stay_nan_in_every_batch(transform):
    x = (np.random.default_rng(0).random((N, 4)) < 0.5).astype(np.float32)
    x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    data = from_arrays(x, missing=True)
    assert (
        data.missing and event_of(data, transform).missing and stand_in(json.loads(json.dumps(describe(data)))).missing
    )
    function = getattr(transforms, transform)
    test = pipeline.fixed_split(data, "test", transform=function)["x"]
    np.testing.assert_array_equal(test, data.test.x)
    for limit in (2**30, 0):
        stream = pipeline.stream(
            data.train, seed=0, batch_size=7, transform=function, max_value=1, missing=True, memory_limit=limit
        )
        batch = np.asarray(jax.jit(stream.batch)(stream.feed(0, 1), jnp.int32(0), 0)["x"])
        assert np.isnan(batch).any() and set(np.unique(batch[~np.isnan(batch)])) == {0, 1}
        with pytest.raises(ValueError, match=r"transform: .* reach from nan to nan"):
            pipeline.stream(data.train, seed=0, batch_size=7, transform=function, max_value=1)


def test_masked_entries_are_missing():
    x = np.ma.masked_array(vectors(), vectors() > 1)
    data = from_arrays(x, missing=True)
    assert sum(int(np.isnan(split.x).sum()) for split in data[1:4]) == int((vectors() > 1).sum()) > 0


# ------------------------------------------------------------------------------------------------- files: what is wrong


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"x": "z"}, r"files\.x: .*x\.npz has no array 'z' and no z_train .*allowed: images, kind"),
        ({}, r"files\.x: .*x\.npz has no array 'x' and no x_train \(allowed: images, kind"),
        ({"x": "images", "label": "knd"}, r"files\.label: .* no array 'knd'; did you mean 'kind'\?"),
        ({"x": "images", "context": "c"}, r"files\.context: .* no array 'c'"),
        ({"x": "images", "split": "c"}, r"files\.split: .* no array 'c'"),
        ({"x": 3}, r"files\.x must be the name of an array, got 3"),
        ({"x": "images", "missing": 1}, r"files\.missing must be True or False"),
        ({"y": "images"}, r"files: unknown key 'y'"),
    ],
)
def test_names_that_are_not_there(tmp_path, files, words):
    path = npz(tmp_path, {"images": images(), "kind": np.arange(N) % 3})
    with pytest.raises(ValueError, match=f"^{words}"):
        load("arrays", str(path), files=files)
    assert load("arrays", str(path), files={"x": "images", "label": "kind"}).num_classes == 3
    assert load("arrays", str(path), files={"x": "images", "label": ""}).num_classes is None


def test_max_value_stands_beside_the_options_of_the_reader(tmp_path):
    path = str(npz(tmp_path, {"x": images() // 9}))
    with pytest.raises(ValueError, match=r"^max_value must be given for .*x\.npz"):
        load("arrays", path)
    assert load("arrays", path, max_value=28).max_value == 28
    with pytest.raises(ValueError, match=r"^max_value must be 0 \(find it out\) or an integer from 1 to 65535"):
        load("arrays", path, max_value=2**16)


def test_what_is_no_file_of_arrays(tmp_path):
    with pytest.raises(ValueError, match=r"arrays needs a path: one of \.npy, "):
        load("arrays")
    with pytest.raises(FileNotFoundError, match="no such file"):
        load("arrays", str(tmp_path / "x.npy"))
    (tmp_path / "x.mat").write_bytes(b"MATLAB")
    with pytest.raises(ValueError, match=r"x\.mat: arrays are read from \.npy"):
        load("arrays", str(tmp_path / "x.mat"))
    with pytest.raises(FileNotFoundError, match=r"no .npy file and no Zarr store in this folder; name 'images'"):
        load("arrays", str(tmp_path))
    np.save(tmp_path / "x.npy", np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match=r"x\.npy: an array of Python objects, which could run code"):
        load("arrays", str(tmp_path / "x.npy"))
    np.savez(tmp_path / "x.npz", x_test=images())
    with pytest.raises(ValueError, match="has x_test and no training examples; name them x_train"):
        load("arrays", str(tmp_path / "x.npz"))
    np.savez(tmp_path / "x.npz", x_train=images(), x=images())
    with pytest.raises(ValueError, match="both 'x' and 'x_train' are there"):
        load("arrays", str(tmp_path / "x.npz"))


def test_a_library_that_is_not_installed_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "x.h5").write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, "h5py", None)
    with pytest.raises(ValueError, match=r"read by h5py, which is not installed: pip install 'vae_jax\[files\]'"):
        load("arrays", str(tmp_path / "x.h5"))


def test_lists_of_different_lengths_and_gaps(tmp_path):
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet

    def written(values):
        pyarrow.parquet.write_table(pa.table({"x": values}), tmp_path / "x.parquet")
        return str(tmp_path / "x.parquet")

    with pytest.raises(ValueError, match=r"lists of one length are required, these have \[1, 2\]"):
        load("arrays", written([[1.0, 2.0]] * 8 + [[1.0]]))
    with pytest.raises(ValueError, match=r"1 values are missing; leave these rows out, or store floats"):
        load("arrays", written([[1, 2]] * 8 + [[1, None]]))
    with pytest.raises(ValueError, match=r"missing must be True"):
        load("arrays", written([[1.0, 2.0]] * 8 + [[1.0, None]]))
    nested = load("arrays", written(images().tolist()))
    assert nested.train.x.shape[1:] == (4, 3, 1)
    fixed = pa.FixedShapeTensorArray.from_numpy_ndarray(vectors())
    np.testing.assert_array_equal(array_files.of_column(pa.chunked_array([fixed]), "x"), vectors())


def test_chunks_that_zarr_does_not_store_are_said(tmp_path, caplog):
    zarr = pytest.importorskip("zarr")
    x = zarr.create_array(tmp_path / "x.zarr", shape=(40, 6), chunks=(10, 6), dtype="f4")
    x[:30] = 0.5 + np.arange(180).reshape(30, 6) / 400
    assert everything(load("arrays", str(tmp_path / "x.zarr"))) == sorted(row.tobytes() for row in x[:])
    assert "1 of the 4 chunks of 'x' are not stored and are read as 0.0" in caplog.text


def test_idx_holds_vectors(tmp_path):
    for prefix, n in (("train", 30), ("t10k", 8)):
        idx.write(tmp_path / f"{prefix}-images-idx2-float", vectors(n))
        idx.write(tmp_path / f"{prefix}-labels-idx1-ubyte", np.arange(n, dtype=np.uint8) % 3)
    data = load("idx", str(tmp_path))
    assert data.train.x.shape == (25, 5) and data.num_classes == 3
    np.testing.assert_array_equal(data.test.x, vectors(8))
    idx.write(tmp_path / "t10k-images-idx2-float", np.full((8, 5), np.nan, np.float32))
    with pytest.raises(ValueError, match=r"test: x is not finite 40 times, first at index \(0, 0\); leave"):
        load("idx", str(tmp_path))


def test_values_that_a_transform_does_not_take():
    data = from_arrays(vectors())
    with pytest.raises(
        ValueError, match=r"transform: 'unit' takes values from 0 to 1, and these .* use 'real' for real"
    ):
        pipeline.fixed_split(data, "test", transform=transforms.unit)
    with pytest.raises(ValueError, match=r"transform: 'dequantize' takes integer levels, and these vectors are floats"):
        pipeline.fixed_split(data, "test", transform=transforms.dequantize)


def test_measured_numbers_are_rounded_and_pixels_are_not(caplog):
    """A density over the reals is refused for levels, and takes rounded real numbers with a warning."""
    density = Normal(np.zeros(5, np.float32), np.zeros(5, np.float32))
    rounded = np.round(vectors(200), 1)
    with pytest.raises(ValueError, match=r"9\d% of the values occur more than once"):
        check_continuous(density, rounded)
    check_continuous(density, rounded, refuse=False)
    assert "of the values occur more than once (rounded numbers, or columns of few values)" in caplog.text
    config = configs.find("vae_digits:smoke").to_dict()
    config["data"]["transform"], config["model"]["likelihood"] = "real", {"name": "normal"}
    assert build.build(config, from_arrays(rounded)).event == ((5,), Real(), False)
    with pytest.raises(ValueError, match=r"occur more than once .*dequantize"):
        build.build(config, from_arrays(np.abs(10 * rounded).astype(np.uint8)))


def test_sixteen_bits_pass_the_pipeline():
    x = images(60, np.int32) * 257
    data = from_arrays(x)
    assert event_of(data, "levels").support == Levels(65536)
    levels = pipeline.fixed_split(data, "test", transform=transforms.levels)["x"]
    np.testing.assert_array_equal(levels, data.test.x)
    bits = pipeline.fixed_split(data, "test", transform=transforms.binarize)["x"]
    unit = pipeline.fixed_split(data, "test", transform=transforms.unit)["x"]
    assert set(np.unique(bits)) == {0, 1} and abs(bits.mean() - unit.mean()) < 5 * 0.5 / np.sqrt(bits.size)
    draws = transforms.fixed_draw(np.full(4000, 39321, np.uint16), 65535, "test")
    assert abs(draws.mean() - 0.6) < 5 * 0.5 / np.sqrt(4000)
    with pytest.raises(ValueError, match=r"at most 256 levels, got 65536: .* use 'levels' or 'unit', or read 8 bits"):
        pipeline.fixed_split(data, "test", transform=transforms.dequantize)


# -------------------------------------------------------------------------------------------------------------- sources


class Source:
    """A random-access source, as Grain has them; it counts what is read."""

    def __init__(self, x, label=None):
        self.x, self.label, self.reads = x, label, []

    def __len__(self):
        return len(self.x)

    def __getitem__(self, i):
        self.reads.append(i)
        return self.x[i] if self.label is None else {"x": self.x[i], "label": self.label[i]}


def stream(data, limit):
    given = contexts.label(data, event_of(data, "binarize"))
    options = {"seed": 3, "batch_size": 8, "transform": transforms.binarize, "max_value": 255}
    return pipeline.stream(data.train, memory_limit=limit, conditioning=given, **options)


def test_a_source_gives_the_batches_of_the_array():
    x, label = images(90), np.arange(90) % 4
    source = Source(x, label)
    array, made = from_arrays(x, label), from_source(source)
    assert sorted(source.reads[1:]) == list(range(90)) and made.class_names is array.class_names
    assert (made.train.x.shape, made.train.x.dtype) == (array.train.x.shape, array.train.x.dtype)
    streams = [stream(array, 2**30), stream(array, 0), stream(made, 0), stream(made, 2**30)]
    assert [s.streamed for s in streams] == [False, True, True, False]
    makes = [jax.jit(s.batch) for s in streams]
    for start, length in ((0, 10), (25, 3)):  # from one epoch into the next
        feeds = [s.feed(start, length) for s in streams]
        for i in range(length):
            batches = [make(feed, jnp.int32(start + i), i) for make, feed in zip(makes, feeds, strict=True)]
            for batch in batches[1:]:
                jax.tree.map(np.testing.assert_array_equal, batches[0], batch)
    for split in ("valid", "test"):
        parts = [pipeline.fixed_split(data, split, transform=transforms.binarize)["x"] for data in (array, made)]
        np.testing.assert_array_equal(*parts)
    assert fingerprint(made) == fingerprint(from_source(Source(x, label))) != fingerprint(from_source(Source(x[::-1])))


def test_a_source_of_grain():
    grain = pytest.importorskip("grain")
    x = vectors(50)
    made = from_source(grain.MapDataset.source(x).map(lambda row: row * 2), test=Source(2 * x[:9]))
    assert rows(made.train, made.valid) == sorted((2 * row).tobytes() for row in x)
    np.testing.assert_array_equal(np.asarray(made.test.x), 2 * x[:9])
    with pytest.raises(TypeError, match=r"a source must have len\(source\) and source\[i\]"):
        from_source(iter(x))


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (Source([]), "source, train: the source has no example"),
        (Source([np.zeros(3), np.zeros(3), np.zeros(4)]), r"example 0 is float64 \(3,\), and example 2 is .* \(4,\)"),
        (Source([{"y": 1}] * 9), "an example of the source has no key 'x'; it has 'y'"),
        (Source(["a"] * 9), "examples must be arrays of numbers, and example 0 is <U1"),
        (Source(list(vectors()), [0, None] * 20), "20 of 40 examples have no 'label'; give it to all, or to none"),
        (Source(np.full((9, 2), np.nan)), "missing must be True if NaN means 'not observed': source, train"),
    ],
)
def test_sources_that_cannot_be_streamed(source, words):
    with pytest.raises(ValueError, match=words):
        from_source(source)


def test_a_source_that_changes_is_noticed():
    source = Source(images())
    data = from_source(source)
    with pytest.raises(ValueError, match=r"^num_workers must be 0, got 2: these examples are in memory or of a source"):
        pipeline.stream(
            data.train, seed=0, batch_size=4, transform=transforms.levels, max_value=255, memory_limit=0, num_workers=2
        )
    source.x = images()[:, :2]
    with pytest.raises(ValueError, match="a source must return the same example at every call"):
        np.asarray(data.test.x)


@pytest.mark.parametrize(
    ("dtype", "stored"), [(bool, "u1"), ("u1", "u1"), ("u2", "u2"), ("i8", "u1"), ("f2", "f4"), ("f8", "f4")]
)
def test_the_types_of_a_source_are_those_of_an_array(dtype, stored):
    x = (images() % 2).astype(dtype)
    given = {"max_value": 1 if dtype in ("u1", "u2", "i8") else None}
    made, array = from_source(Source(x), **given), from_arrays(x, **given)
    assert made.train.x.dtype == array.train.x.dtype == np.dtype(stored) and made.max_value == array.max_value == 1
    np.testing.assert_array_equal(np.asarray(made.train.x), array.train.x)


def test_a_source_has_the_indexing_of_an_array():
    made, x = on_demand.OnDemand(Source(vectors()), "x", (N, 5), np.float32, None), vectors()
    made.survey = on_demand.survey(made.source, "x", x="x", label="label")
    for key in (0, -1, slice(3, 9), [4, 2], np.arange(N) % 3 == 0, (slice(None), 1), ..., (2, 3)):
        np.testing.assert_array_equal(made[key], x[key])
    np.testing.assert_array_equal(np.take(made, [[1, 2], [3, 4]], axis=0), x[[[1, 2], [3, 4]]])
