"""The table of codes as a user meets it, from a sweep of two small auto-encoders."""

import csv
import glob
import json
import os
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.core import Latent, Model
from vae_jax.data.values import Dataset, Split
from vae_jax.distributions import Deterministic, Normal
from vae_jax.evaluation import latents
from vae_jax.runs import codes

ALONE = os.environ | {"XLA_FLAGS": os.environ["VAE_JAX_TESTS_XLA_FLAGS"]}  # a process with one device
CONFIG = "--config=experiments/configs/autoencoder_digits.py:bottleneck,smoke"


def launch(module, *arguments):
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ALONE)


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("sweep")
    done = launch(
        "experiments.sweep", CONFIG, "--sweep=seed=0:2,optimizer.learning_rate=1e-3|1e-4", f"--workdir={workdir}"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return workdir, done.stdout


@pytest.mark.slow
def test_a_sweep_of_models_without_a_bound_is_judged_by_their_loss(swept):
    workdir, printed = swept
    rows = json.loads((workdir / "results.json").read_text())
    assert "valid loss" in printed and "log p(x)" not in printed and (workdir / "figures" / "sweep.png").exists()
    assert [row["best"] for row in rows] == [
        row["valid/best_loss"] == min(r["valid/best_loss"] for r in rows) for row in rows
    ]


def test_integer_codes_are_refused(monkeypatch):
    monkeypatch.setattr(latents, "posterior_means", lambda *_: np.zeros((5, 4, 4), np.int32))
    with pytest.raises(ValueError, match=r"codes are integers, places in a codebook.*use vae-jax evaluate"):
        codes.of_data(None, None, None)


def test_known_factors_have_columns_and_other_data_have_none():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(2, size=120), rng.integers(3, size=120)], axis=1)
    split = Split(factors.astype(np.float32), context=factors)
    dataset = Dataset("factors", split, split, split, 1)
    np.testing.assert_array_equal(codes.known_factors(dataset), factors)
    for context in (None, split.x, factors[:, :, None], np.arange(240).reshape(120, 2)):
        assert codes.known_factors(dataset._replace(test=split._replace(context=context))) is None
    gaussian = lambda params, x, context: Normal(x, jnp.full(x.shape, -3.0))  # noqa: E731
    point = lambda params, x, context: Deterministic(x)  # noqa: E731
    model, other = (Model(None, None, None, latent=Latent(None, q, None)) for q in (gaussian, point))
    data = {"x": split.x[:100]}
    columns = codes.factor_scores(model, {}, data, factors)
    assert set(columns) == set(codes.FACTOR_COLUMNS) and columns["MIG"] > 0.95
    without = codes.factor_scores(model, {}, data, factors, num_trees=0)
    assert set(columns) - set(without) == {"DCI D", "DCI C", "DCI I"} and without["MIG"] == columns["MIG"]
    assert codes.factor_scores(other, {}, data, factors) == codes.factor_scores(model, {}, data, None) == {}
    plain = {"linear probe": 0.5}
    rows = [codes.summary("a", 2, [columns | plain, columns | plain]), codes.summary("b", 2, [plain])]
    first, _, a, b = codes._markdown(rows).splitlines()
    assert "MIG" in first and "± 0.000" in a and b.endswith("- |")
    assert "MIG" not in codes._markdown(rows[1:]) and "MIG" in codes._comma_separated(rows[::-1]).splitlines()[0]


@pytest.mark.slow
def test_rows_are_means_over_seeds(swept, tmp_path):
    workdir, _ = swept
    options = "--num_train=200", "--num_test=32", "--draw=2"  # as many test images as the smoke config evaluates
    done = launch("experiments.codes", f"--workdirs={workdir}/members/*", *options, f"--out={tmp_path}")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (tmp_path / "codes.md").read_text() in done.stdout
    with open(tmp_path / "codes.csv") as file:
        rows = {row["model"].rpartition(",")[2]: row for row in csv.DictReader(file)}
    assert set(rows) == {"optimizer.learning_rate=0.001", "optimizer.learning_rate=0.0001"}
    for name, row in rows.items():
        members = [json.loads((workdir / "members" / f"seed={n},{name}" / "results.json").read_text()) for n in (0, 1)]
        assert (row["D"], row["seeds"]) == ("8", "2")
        for column, kept in (("MSE", "test/mse"), ("distortion", "test/distortion")):
            values = np.array([member[kept] for member in members])
            assert float(row[column]) == pytest.approx(values.mean(), rel=1e-4)
            assert float(row[f"{column} s.e."]) == pytest.approx(np.ptp(values) / 2, rel=1e-2)  # of two
        assert 0 < float(row["linear probe"]) <= 1 and float(row["KL to N(0, I)"]) > 0
        assert (tmp_path / "samples" / f"{row['model']}.png").exists()
    assert (tmp_path / "planes.png").exists()


def test_a_pattern_without_folders_is_named(tmp_path):
    done = launch("experiments.codes", f"--workdirs={tmp_path}/none*", f"--out={tmp_path}")
    assert done.returncode == 1 and "none* matches no folder" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.slow
def test_names_of_rows_are_no_paths_and_a_figure_that_fails_costs_no_table(swept, tmp_path):
    """A folder whose name holds what a table, a formula and a file name cannot; and planes.png cannot be written."""
    workdir, _ = swept
    folders = sorted((workdir / "members").iterdir())
    odd = tmp_path / "a|b $x_{ ..;c"
    odd.symlink_to(folders[0], target_is_directory=True)
    (tmp_path / "out" / "planes.png").mkdir(parents=True)
    patterns = [f"--workdirs={glob.escape(str(odd))}", f"--workdirs={folders[-1]}"]
    done = launch(
        "experiments.codes", *patterns, "--num_train=100", "--num_test=20", "--draw=2", f"--out={tmp_path}/out"
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "figure planes was not drawn" in done.stderr and "Traceback" not in done.stderr
    table = (tmp_path / "out" / "codes.md").read_text(encoding="utf-8")
    assert table in done.stdout and len({line.replace(r"\|", "").count("|") for line in table.splitlines()[:4]}) == 1
    assert len(list((tmp_path / "out" / "samples").iterdir())) == 2
