"""The range of stored values: what is found, what is refused because it can mean two things, what a transform takes."""

import jax
import numpy as np
import pytest

from vae_jax.data import idx, pipeline, ranges, reading, sources, transforms
from vae_jax.data.sources import load
from vae_jax.data.values import Dataset, Split


def write(folder, train, test=None, labels=False):
    folder.mkdir(exist_ok=True)
    for prefix, x in (("train", train), ("t10k", train if test is None else test)):
        idx.write(folder / f"{prefix}-images-idx{x.ndim}-x", x)
    return str(folder)


def integers(high, n=30, dtype=np.uint8, seed=0):
    """Images that reach from 0 to `high`."""
    x = np.random.default_rng(seed).integers(0, high + 1, size=(n, 4, 4))
    x[:, 0, 0], x[:, 0, 1] = 0, high
    return x.astype(dtype)


# --------------------------------------------------------------------------------------------------- what is found


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float32, np.uint16])
def test_look_finds_what_numpy_finds(dtype, monkeypatch, tmp_path):
    monkeypatch.setattr(ranges, "CHUNK_BYTES", 100)
    x = np.random.default_rng(0).integers(0, 200, size=(57, 3, 2)).astype(dtype)
    np.save(tmp_path / "x.npy", x)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    levels = len(np.unique(x)) if dtype == np.uint8 else None
    for array in (x, mapped, mapped[..., None], mapped[3:]):
        part = np.asarray(array)
        assert ranges.look(array) == (part.min(), part.max(), len(np.unique(part)) if levels else None)
    np.testing.assert_array_equal(mapped, x)  # still readable where its pages were given back
    private = np.load(tmp_path / "x.npy", mmap_mode="c")
    private[0] = 7  # a change that is in no file
    ranges.look(private)
    assert np.all(private[0] == 7)


@pytest.mark.parametrize("high", [0, 1, 2, 3, 7, 15, 16, 17, 63, 100, 127, 128, 200, 239])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int32])
def test_integers_that_can_be_read_in_two_ways(tmp_path, high, dtype):
    folder = write(tmp_path, integers(high, dtype=dtype))
    levels = max(1, high)
    with pytest.raises(ValueError) as error:
        load("idx", folder)
    assert str(error.value) == (
        f"max_value must be given for idx in {folder}, whose values are integers from 0 to {high}: set it to the "
        f"largest value that a pixel can have, {levels} for levels 0..{levels} or 255 for dark images of 0..255"
    )
    for max_value in (levels, 255):
        data = load("idx", folder, max_value=max_value)
        assert data.max_value == max_value and data.train.x.dtype == np.uint8


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_a_name_does_not_make_binary_images_dark(tmp_path, name):
    folder = write(tmp_path, np.random.default_rng(0).integers(2, size=(30, 28, 28)).astype(np.uint8))
    with pytest.raises(ValueError, match=r"1 for levels 0\.\.1 or 255 for dark images of 0\.\.255"):
        load(name, folder)
    assert load(name, folder, max_value=1).max_value == 1


@pytest.mark.parametrize("high", [240, 254, 255])
def test_integers_that_can_be_read_in_one_way_and_are_said(tmp_path, high, caplog):
    folder = write(tmp_path, integers(high))
    with caplog.at_level("INFO", logger="absl"):
        assert load("idx", folder).max_value == 255
    x = np.unique(integers(high))
    assert f"train images are integers from 0 to {high} with {len(x)} distinct values, read on the scale 0..255" in (
        caplog.text
    )


def test_floats(tmp_path, caplog):
    x = np.random.default_rng(0).random((30, 4, 4), np.float32)
    with caplog.at_level("INFO", logger="absl"):
        assert load("idx", write(tmp_path / "unit", x)).max_value == 1
    assert "train images are floats from " in caplog.text and "read on the scale 0..1" in caplog.text
    with pytest.raises(ValueError, match=r"^max_value must be 0 or 1 for idx .* floats in \[0, 1\]; store levels"):
        load("idx", str(tmp_path / "unit"), max_value=255)
    dark = write(tmp_path / "dark", x / 255)
    with pytest.raises(
        ValueError,
        match=r"^max_value must be given for idx.* set it to 1 if .* dark; if .* divided twice",
    ):
        load("idx", dark)
    assert load("idx", dark, max_value=1).max_value == 1
    for name, wrong in (("signed", 2 * x - 1), ("bytes", 255 * x)):
        with pytest.raises(ValueError, match=r"floats must lie in \[0, 1\], and these reach from .*; shift and scale"):
            load("idx", write(tmp_path / name, wrong))
    with pytest.raises(ValueError, match=r"integers must lie in 0\.\.255, and these reach from -1 to 1; shift"):
        load("idx", write(tmp_path / "ternary", np.sign(2 * x - 1).astype(np.int8)))


def test_splits_on_two_scales(tmp_path, caplog):
    for n, (train, test) in enumerate([(255, 1), (255, 100)]):
        folder = write(tmp_path / str(n), integers(train), integers(test))
        with pytest.raises(ValueError, match=rf"whose test images reach only {test} and others 255: set it to 255 if"):
            load("idx", folder)
        assert load("idx", folder, max_value=255).max_value == 255
        assert f"whose test images reach only {test} and others 255; all are read on the scale 0..255" in caplog.text
    with pytest.raises(ValueError, match="whose train images reach only 16 and others 255"):
        load("idx", write(tmp_path / "train", integers(16), integers(255)))
    unit = np.random.default_rng(0).random((30, 4, 4), np.float32)
    with pytest.raises(ValueError, match=r"whose test images reach only 0\.39"):
        load("idx", write(tmp_path / "floats", unit, unit * np.float32(0.4)))


@pytest.mark.parametrize("max_value", [-1, 256, 2.5, 1.0, True, 10**12, "1", float("nan"), (1,)])
def test_max_values_that_there_are_not(tmp_path, max_value):
    with pytest.raises(ValueError, match=r"^max_value must be 0 .* from 1 to 255, got"):
        load("idx", write(tmp_path, integers(255)), max_value=max_value)


def test_max_values_that_the_values_contradict(tmp_path):
    with pytest.raises(ValueError, match=r"^max_value must be at least 255, the largest value in idx .* got 254"):
        load("idx", write(tmp_path, integers(255)), max_value=254)
    for name, own in (("digits", 16), ("four_by_four", 1), ("audio", 255)):
        with pytest.raises(ValueError, match=rf"^max_value must be 0 for .* known to lie in 0\.\.{own}; got 254"):
            load(name, max_value=254)
        assert load(name, max_value=own).max_value == load(name, max_value=0).max_value == own


def test_bits_per_dimension_are_those_of_the_same_images_on_their_scale(tmp_path):
    """Images of 0 and 1 with their range, and as 0 and 255, are the same data to every transform but `levels`."""
    x = integers(1, n=40)
    bits, whole = load("idx", write(tmp_path / "a", x), max_value=1), load("idx", write(tmp_path / "b", 255 * x))
    assert (bits.max_value, whole.max_value) == (1, 255)
    for transform in (transforms.binarize, transforms.unit):
        one, two = (pipeline.fixed_split(data, "test", transform=transform)["x"] for data in (bits, whole))
        np.testing.assert_array_equal(one, two)


# ------------------------------------------------------------------------------------------- what a transform takes


def feed(x, transform, max_value):
    """Both ways to a model."""
    yield lambda: pipeline.stream(Split(x, None), seed=0, batch_size=2, transform=transform, max_value=max_value)
    dataset = Dataset("x", *[Split(x, None)] * 3, max_value, None)
    yield lambda: pipeline.fixed_split(dataset, "test", transform=transform)


def uniform(*shape):
    return np.random.default_rng(0).random((6, 4, 4, 1), np.float32)


GRIDS = [(1, 1), (2, 2), (15, 15), (16, 16), (255, 255)]


@pytest.mark.parametrize(("levels", "grid"), GRIDS)
def test_floats_on_a_grid_are_not_dequantised(levels, grid):
    x = (integers(levels)[..., None] / levels).astype(np.float32)
    for make in feed(x, transforms.dequantize, 1):
        with pytest.raises(
            ValueError, match=rf"'dequantize' takes integer levels.* on the grid k/{grid}: store np.round"
        ):
            make()


@pytest.mark.parametrize(
    ("x", "name", "max_value", "words"),
    [
        (uniform(), "dequantize", 1, r"'dequantize' takes integer levels, .*; they lie on no grid of up to 256 levels"),
        (255 * uniform(), "dequantize", 255, r"'dequantize' takes integer levels, and these images are floats"),
        (uniform(), "levels", 1, r"'levels' takes integers, and these images hold fractions; they lie on no grid"),
        (uniform(), "tokens", 1, r"'tokens' takes integers"),
        (2 * uniform() - 1, "binarize", 1, r"'binarize' takes values from 0 to 1, and these reach from -0\.9"),
        (2 * uniform(), "unit", 1, r"'unit' takes values from 0 to 1"),
        (uniform() * np.float32("nan"), "unit", 1, r"'unit' takes values from 0 to 1, and these reach from nan"),
        (integers(255), "binarize", 16, r"'binarize' takes values from 0 to 16, and these reach from 0 to 255"),
        (integers(255), "dequantize", 16, r"'dequantize' takes values from 0 to 16"),
        (integers(17), "levels", 16, r"'levels' takes values from 0 to 16, and these reach from 0 to 17"),
        (integers(300, dtype=np.int32), "tokens", 299, r"'tokens' takes values from 0 to 299"),
        (integers(1, dtype=np.int8) - np.int8(1), "levels", 16, r"'levels' takes .* these reach from -1 to 0"),
    ],
)
def test_values_that_a_transform_does_not_take(x, name, max_value, words):
    for make in feed(x, getattr(transforms, name), max_value):
        with pytest.raises(ValueError, match=r"^transform: " + words) as error:
            make()
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", transforms.__all__)
@pytest.mark.parametrize(
    "x",
    [integers(16), integers(16, dtype=np.int32), integers(16, dtype=np.float32)],
    ids=lambda x: str(getattr(x, "dtype", x)),
)
def test_whole_numbers_are_taken(name, x):
    if name == "dequantize" and x.dtype == np.float32:
        pytest.skip("refused above")
    stream, split = (make() for make in feed(x[:4], getattr(transforms, name), 16))
    assert stream.steps_per_epoch == 2 and len(split["x"]) == 4


def test_functions_of_the_users_are_not_checked():
    _, split = (make() for make in feed(uniform() - 5, lambda key, x, max_value: x + 5, 1))
    np.testing.assert_allclose(split["x"], uniform(), atol=1e-6)


def test_floats_are_drawn_with_the_probability_of_their_scale():
    x = np.full((2000, 1), 51.0, np.float32)
    assert abs(sources.fixed_draw(x, 255, "test").mean() - 0.2) < 5 * 0.4 / np.sqrt(2000)


def test_rows_of_a_map_are_checked(tmp_path):
    np.save(tmp_path / "x.npy", integers(17)[..., None])
    rows = reading.Rows(np.load(tmp_path / "x.npy", mmap_mode="r"), np.arange(9))
    with pytest.raises(ValueError, match="'levels' takes values from 0 to 16"):
        ranges.check(rows, transforms.levels, 16)
    x = pipeline.fixed_split(Dataset("x", *[Split(rows, None)] * 3, 17, None), "test", transform=transforms.levels)["x"]
    np.testing.assert_array_equal(x, np.asarray(rows))
    assert not isinstance(x, jax.Array)
