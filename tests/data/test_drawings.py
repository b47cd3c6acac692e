"""Pen drawings from an .npz and from SVG files."""

import numpy as np
import pytest

from vae_jax.data import drawings, pipeline, sources, svg, transforms
from vae_jax.data.description import describe, stand_in
from vae_jax.data.values import SPLITS, event_of
from vae_jax.spec import BadOption
from vae_jax.support import Strokes


def arrays(counts, seed=0):
    """The points of drawings of so many points, and their lengths."""
    rng = np.random.default_rng(seed)
    points = np.column_stack([rng.integers(-9, 10, (sum(counts), 2)), rng.integers(0, 2, sum(counts))])
    points[np.cumsum(counts) - 1, 2] = 1
    return points.astype(np.int16), np.array(counts, np.int32)


@pytest.fixture
def path(tmp_path):
    stored = {}
    for split, counts in {"train": [4, 2, 6, 3], "valid": [5, 2], "test": [3, 3]}.items():
        stored[f"{split}_points"], stored[f"{split}_lengths"] = arrays(counts)
        stored[f"{split}_label"] = np.arange(len(counts)) % 2
    stored["train_points"][0, :2] = [-40, 7]
    np.savez(tmp_path / "some.npz", **stored)
    return tmp_path / "some.npz"


def changed(path, **changes):
    with np.load(path) as stored:
        np.savez(path, **{**stored, **changes})
    return str(path)


def test_rows_are_the_drawings_with_an_end_and_zeros(path):
    dataset = sources.load("strokes", str(path))
    assert (dataset.name, dataset.max_value, dataset.num_classes) == ("some", 40, 2)
    assert [s.x.shape for s in (dataset.train, dataset.valid, dataset.test)] == [(4, 6, 3), (2, 6, 3), (2, 6, 3)]
    assert dataset.train.x.dtype == np.int16
    points, lengths = np.load(path)["train_points"], np.load(path)["train_lengths"]
    np.testing.assert_array_equal(drawings.lengths_of(dataset.train.x), lengths)
    for row, n, end in zip(dataset.train.x, lengths, np.cumsum(lengths), strict=True):
        np.testing.assert_array_equal(row[: n - 1], points[end - n : end - 1])
        np.testing.assert_array_equal(row[n - 1], [*points[end - 1, :2], drawings.END])
        assert not row[n:].any()
    event = event_of(dataset, "strokes")
    assert event.shape == (6, 3) and event.support == Strokes(40)
    assert event_of(stand_in(describe(dataset)), "strokes") == event


def test_longer_drawings_are_left_out_with_their_labels(path):
    dataset = sources.load("strokes", str(path), files={"max_points": 4}, max_value=50)
    assert dataset.max_value == 50
    np.testing.assert_array_equal(drawings.lengths_of(dataset.train.x), [4, 2, 3])
    np.testing.assert_array_equal(dataset.train.label, [0, 1, 1])


def test_buckets_are_of_like_length(path):
    dataset = sources.load("strokes", str(path))
    stream = pipeline.stream(dataset.train, seed=0, batch_size=2, transform=transforms.strokes, max_value=40, buckets=2)
    assert stream.lengths == (3, 6)


@pytest.mark.parametrize(
    ("changes", "options", "message"),
    [
        ({"test_points": np.array([[1, 2, 1]] * 5), "test_lengths": np.array([1, 4])}, {}, "drawing 0 has 1 point;"),
        ({"train_points": np.ones((15, 2), int)}, {}, r"got \[15, 2\]: there is no pen column"),
        ({}, {"max_value": 39}, "max_value must be at least 40, the largest offset"),
        ({"train_points": np.ones((15, 3))}, {}, "must be integers, got float64"),
        ({"train_points": np.full((15, 3), 3)}, {}, r"must hold 0 \(draw\) and 1 \(lift\)"),
        ({"train_lengths": np.array([4, 2])}, {}, "must sum to the 15 points, got 6"),
        ({}, {"files": {"max_points": 2}}, None),
        ({"valid_points": np.ones((4, 3), int), "valid_lengths": np.array([4]), "valid_label": np.array([0])},
         {"files": {"max_points": 3}}, "max_points must be larger: no valid drawing"),
    ],
)  # fmt: skip
def test_bad_files_are_one_clear_error(path, changes, options, message):
    if message is None:
        message = "no test drawing"
    with pytest.raises((ValueError, BadOption), match=message) as error:
        sources.load("strokes", changed(path, **changes), **options)
    assert "\n" not in str(error.value)


def test_drawings_need_their_own_transform(path):
    with pytest.raises(BadOption, match="transform: pen drawings need 'strokes'"):
        event_of(sources.load("strokes", str(path)), "levels")


# ---------------------------------------------------------------------------------------------------------------- SVG


def of(d, segments=4):
    return [line.round(6).tolist() for line in svg.flattened(d, segments)]


def test_lines_are_read_absolute_and_relative():
    square = [[1, 1], [3, 1], [3, 4], [1, 4], [1, 1]]
    assert of("M1,1 L3,1 3,4 L1 4Z") == [square]
    assert of("m1 1h2v3h-2z") == [square]
    assert of("M1 1H3V4H1Z") == [square]
    assert of("M1 1 l2,0 M-5-6l.5.5") == [[[1, 1], [3, 1]], [[-5, -6], [-4.5, -5.5]]]
    assert of("M1 1L2 2ZL0 0") == [[[1, 1], [2, 2], [1, 1]], [[1, 1], [0, 0]]]


def test_curves_are_points_of_their_polynomials():
    t = np.arange(5)[:, None] / 4
    a, b, c, d = np.array([[0.0, 0], [1, 2], [3, 2], [4, 0]])
    cubic = (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
    np.testing.assert_allclose(of("M0 0C1 2 3 2 4 0")[0], cubic, atol=1e-6)
    np.testing.assert_allclose(of("M0 0 c1,2,3,2,4,0")[0], cubic, atol=1e-6)
    quadratic = (1 - t) ** 2 * a + 2 * (1 - t) * t * b + t**2 * d
    np.testing.assert_allclose(of("M0 0Q1 2 4 0")[0], quadratic, atol=1e-6)
    assert of("M0 0C1 2 3 2 4 0S7-2 8 0") == of("M0 0C1 2 3 2 4 0C5-2 7-2 8 0")
    assert of("M0 0Q1 2 4 0T8 0") == of("M0 0Q1 2 4 0Q7-2 8 0")


@pytest.mark.parametrize(
    ("d", "message"),
    [("M0 0A1 1 0 0 1 2 2", "'A' is not read"), ("L1 1", "begins with M"), ("M0 0L1", "'L' takes 2 numbers")],
)
def test_other_paths_are_refused(d, message):
    with pytest.raises(ValueError, match=message):
        svg.flattened(d, 4)


def test_a_folder_of_svg_files_is_a_data_set(tmp_path):
    for k in range(12):
        folder = tmp_path / ("crosses" if k % 2 else "lines")
        folder.mkdir(exist_ok=True)
        d = "M0 0L100 50" + ("M0 50L100 0" if k % 2 else "")
        (folder / f"{k}.svg").write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><g><path d="{d}"/></g></svg>')
    dataset = sources.load("strokes", str(tmp_path), files={"size": 20})
    assert dataset.class_names == ("crosses", "lines") and dataset.max_value == 20
    assert [len(getattr(dataset, s).x) for s in SPLITS] == [9, 1, 2] and dataset.train.x.shape[1:] == (4, 3)
    crosses = dataset.train.x[dataset.train.label == 0]
    assert np.all(crosses == [[0, 0, 0], [20, 10, 1], [-20, 0, 0], [20, -10, 2]])
    (tmp_path / "lines" / "0.svg").write_text('<svg><g transform="scale(2)"><path d="M0 0L1 1"/></g></svg>')
    with pytest.raises(ValueError, match="'transform' of a path is not read"):
        sources.load("strokes", str(tmp_path))
    (tmp_path / "lines" / "0.svg").write_text('<svg><path d="M5 5"/></svg>')
    with pytest.raises(ValueError, match="a drawing needs at least 2 points"):
        sources.load("strokes", str(tmp_path))
