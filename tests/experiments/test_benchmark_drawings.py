"""The benchmark of pen drawings: masses of counts, drawings on a grid, their pixels, and the table."""

import itertools
import json
import math

import numpy as np
import pytest

from experiments.benchmarks import drawings as benchmark
from vae_jax.data import synthetic
from vae_jax.evaluation import likelihood
from vae_jax.runs import build, configs, workdir
from vae_jax.runs import train as training
from vae_jax.support import END

R = 2
SMOOTHINGS = ((0.0, 1.0), (0.7, 0.2))


def random_drawings(number, seed):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 7, size=number)
    points = np.column_stack([rng.integers(-1, 2, (lengths.sum(), 2)), rng.integers(2, size=lengths.sum())])
    points[np.cumsum(lengths) - 1, 2] = END
    return points, lengths


@pytest.mark.parametrize("order", [1, 2, 3])
def test_the_masses_of_all_next_points_sum_to_one(order):
    """After every kind of history: none, one that was counted, and one that was not."""
    train = random_drawings(40, 0)
    offsets = range(-R, R + 1)
    lattice = np.array(list(itertools.product(offsets, offsets, range(3))))
    unseen = np.array([[R, R, 1], [-R, R, 1]])  # training has no offset of 2
    for history in (lattice[:0], train[0][: train[1][0] - 1], unseen):
        rows = np.stack([np.concatenate([history, point[None]]) for point in lattice])
        query = rows.reshape(-1, 3), np.full(len(rows), len(history) + 1)
        found = benchmark.log_probs(train, query, order=order, limit=R, smoothings=SMOOTHINGS)
        last = found.sum(axis=1).reshape(len(SMOOTHINGS), len(rows), -1)[:, :, -1]
        np.testing.assert_allclose(np.exp(last).sum(axis=1), 1.0, atol=1e-12)


def test_a_point_is_the_count_smoothed_by_hand():
    """Two drawings of two points; the pen after Δ = (1, 0), n = 1, by the equation."""
    train = np.array([[0, 0, 0], [1, 0, END], [0, 0, 0], [1, 0, 1]]), np.array([2, 2])
    query = np.array([[1, 0, END]]), np.array([1])
    d, a = 0.5, 2.0
    found = benchmark.log_probs(train, query, order=1, limit=1, smoothings=((d, a),))[0, 2, 0]
    p = (1 - d + (d * 3 + a) / 3) / (4 + a)  # all four points: three symbols
    p = (1 - d + (d * 2 + a) * p) / (2 + a)  # after Δx = 1: END and 1
    p = (1 - d + (d * 2 + a) * p) / (2 + a)  # and after Δy = 0
    assert found == pytest.approx(math.log(p))


def test_a_drawing_on_the_grid_has_its_pixels():
    points = np.array([[7, 7, 0], [60, 0, 0], [1, 0, 0], [0, 61, 1], [-61, 0, 0], [0, 0, END]])
    grid, lengths = benchmark.on_grid(points, np.array([6]), side=4)
    # The third point repeats the second, and the last one the point before it.
    np.testing.assert_array_equal(grid, [[0, 0, 0], [3, 0, 0], [0, 3, 1], [-3, 0, END]])
    (image,) = benchmark.raster(grid, lengths, side=4)
    np.testing.assert_array_equal(image, [[1, 1, 1, 1], [0, 0, 0, 1], [0, 0, 0, 1], [1, 0, 0, 1]])
    dot = benchmark.on_grid(np.array([[3, 3, 0], [0, 0, END]]), np.array([2]), side=4)
    assert benchmark.raster(*dot, side=4).sum() == 1
    whole = random_drawings(30, 1)
    images = benchmark.raster(*benchmark.on_grid(*whole))
    assert images.shape == (30, 28, 28) and (images.sum(axis=(1, 2)) > 0).all()


def polygons():
    splits = {}
    for name in ("train", "valid", "test"):
        points, lengths, _ = synthetic.polygons(name)
        points[np.cumsum(lengths) - 1, 2] = END
        splits[name] = points, lengths
    return splits


def test_the_table_has_every_row(tmp_path):
    splits, run = polygons(), tmp_path / "run"
    run.mkdir()
    (run / "config.json").write_text(json.dumps({"family": "pixel_cnn", "data": {"path": "pixels.npz"}}))
    (run / "results.json").write_text(json.dumps({"test/kind": "≥", "test/log_prob": -12.0}))
    found = benchmark.rows(splits, [run], orders=(1, 2))
    nats = {(what, model): value for what, model, value in found}
    assert len(nats) == len(found) == 3 + 2 + 3 + 2 + 3 + 1 + 1 and nats["pixels", "`run`, pixel_cnn, ≥"] == 12.0
    assert nats["strokes", "2-gram of moves"] < nats["strokes", "xz"]
    lines = benchmark.table(found, points=6.0).splitlines()
    assert len(lines) == 2 + len(found) and all(line.count("|") == 5 for line in lines)
    benchmark.write(splits, tmp_path)
    read = benchmark.read(tmp_path / "grid.npz")
    grid = benchmark.on_grid(*splits["test"])
    np.testing.assert_array_equal(read["test"][0], grid[0])
    with np.load(tmp_path / "pixels.npz") as arrays:
        np.testing.assert_array_equal(arrays["x_test"], benchmark.raster(*grid))


def test_a_mixture_at_every_point_has_the_best_weight():
    p, q = np.log([0.5, 0.1, 0.2]), np.log([0.1, 0.4, 0.2])
    log_prob, weight = benchmark.mixed({"valid": p[:1], "test": p}, {"valid": q[:1], "test": q})
    assert weight == pytest.approx(0.02)
    np.testing.assert_allclose(np.exp(log_prob), 0.98 * np.exp(p) + 0.02 * np.exp(q))
    assert benchmark.mixed({"valid": p, "test": p}, {"valid": q, "test": q})[1] == pytest.approx(0.5, abs=0.2)


@pytest.mark.slow
def test_a_run_is_mixed_with_counts(tmp_path):
    splits, config = polygons(), configs.get("strokes_omniglot:smoke").to_dict()  # of polygons
    experiment, run = build.build(config), workdir.open_workdir(tmp_path / "run", config)
    training.train(experiment, run, progress=False)
    exact = likelihood.exact(experiment.model, build.restore(run, experiment).params, experiment.split("test"))
    (run / "results.json").write_text(json.dumps({"test/kind": "=", "test/log_prob": float(exact.mean())}))
    nats = {model: value for what, model, value in benchmark.rows(splits, [run], orders=(2,)) if what == "strokes"}
    (both,) = (value for model, value in nats.items() if "mixed at every point" in model)
    assert both < min(nats["2-gram of moves"], nats["`run`, strokes"]) + 0.2
    points, each = benchmark.of_points(run)["test"]
    np.testing.assert_array_equal(points, splits["test"][0])
    assert -each.sum() / len(splits["test"][1]) == pytest.approx(nats["`run`, strokes"], rel=1e-4)
    with pytest.raises(ValueError, match="run is a run on other drawings than --drawings"):
        benchmark.rows(splits | {"test": splits["valid"]}, [run], orders=(1,))
