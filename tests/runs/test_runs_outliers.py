"""Outlier detection on runs that were trained for a moment, where what it should find is known."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from vae_jax.configs import multivariate_normal_digits, naive_bayes_digits, vae_digits
from vae_jax.data import idx, sources, transforms
from vae_jax.runs import build, outliers
from vae_jax.tasks.outliers import code_lengths
from vae_jax.training import loop
from vae_jax.training.checkpoint import Checkpoints

ALONE = os.environ | {"XLA_FLAGS": os.environ["VAE_JAX_TESTS_XLA_FLAGS"]}  # a process with one device
NEVER = 3  # the class that is left out


def counted(workdir, module):
    """A run of a family that counts, in one batch of all training images but those of a class, and its parameters."""
    config = module.get_config("smoke").to_dict()
    label = sources.load("digits").train.label
    config["data"] |= {"context": False, "leave_out": (NEVER,), "batch_size": int(np.sum(label != NEVER))}
    (workdir / "config.json").write_text(json.dumps(config))
    experiment, checkpoints = build.build(config), Checkpoints(workdir / "checkpoints")
    options = {"key": experiment.key, "num_steps": 1, "checkpoints": checkpoints, "progress": False}
    fitted = loop.fit(experiment.learner, experiment.stream, **options)
    checkpoints.close()
    return experiment, fitted.params


def begun(workdir, config):
    """A run that has learned nothing yet."""
    (workdir / "config.json").write_text(json.dumps(config))
    experiment, checkpoints = build.build(config), Checkpoints(workdir / "checkpoints")
    state, best, _ = loop.start(experiment.learner, experiment.stream, experiment.key)
    checkpoints.save(0, (state, best), {})
    checkpoints.close()


def measure(workdir, *of, **options):
    defaults = {"num_images": 1000, "num_samples": 30, "num_steps": 40, "learning_rate": 0.05, "coder": "bz2"}
    results = outliers.measure(workdir, *of, **{**defaults, **options})
    assert json.loads((workdir / "outliers.json").read_text()) == results
    return results


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """Images 8x8 of coin flips, as a folder of IDX files."""
    folder, rng = tmp_path_factory.mktemp("noise"), np.random.default_rng(0)
    for prefix in ("train", "t10k"):
        idx.write(folder / f"{prefix}-images-idx3-ubyte", (255 * rng.integers(2, size=(30, 8, 8))).astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def vae(tmp_path_factory):
    """A run whose config has only the keys that runs of 0.1.0 had."""
    workdir, config = tmp_path_factory.mktemp("vae"), vae_digits.get_config("smoke").to_dict()
    for key in ("mesh", "learner", "start_from"):
        del config[key]
    del config["data"]["num_workers"], config["data"]["leave_out"], config["optimizer"]["skip_above"]
    begun(workdir, config)
    return workdir


def auroc(inside, outside):
    return np.mean((outside[:, None] > inside) + 0.5 * (outside[:, None] == inside))


def test_what_independent_pixels_find_of_a_class_left_out(tmp_path):
    """p(x) = Π_d p_d^x_d (1 - p_d)^(1-x_d): every number by NumPy, from the images of the whole set."""
    experiment, params = counted(tmp_path, naive_bayes_digits)
    command = [sys.executable, "-m", "experiments.outliers", f"--workdir={tmp_path}", "--outliers=left_out"]
    done = subprocess.run([*command, "--coder=bz2"], capture_output=True, text=True, env=ALONE)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads((tmp_path / "outliers.json").read_text())
    bias, digits = np.asarray(experiment.model.density(params).mean(), np.float64), sources.load("digits")

    def drawn(split, never):
        images = getattr(digits, split)
        return transforms.fixed_draw(images.x[(images.label == NEVER) == never], 16, split)

    def surprise(x):
        return -np.sum(np.where(x == 1, np.log(bias), np.log1p(-bias)), axis=(1, 2, 3))

    images = drawn("test", False), np.concatenate([drawn(split, True) for split in sources.SPLITS])
    inside, outside = map(surprise, images)
    entropy = surprise(drawn("valid", False)).mean()
    lengths = [code_lengths(x, coder="bz2", levels=2) for x in images]
    expected = {
        "surprise": (inside, outside),
        "typicality": (abs(inside - entropy), abs(outside - entropy)),
        "complexity_corrected": (inside - lengths[0], outside - lengths[1]),
    }
    assert found["scores"].keys() == expected.keys()
    assert found["refused"].keys() == {"negative_elbo", "likelihood_regret", "distortion"}
    assert found["outliers"] == {"name": f"digits, left out: {NEVER}", "num_images": len(images[1])}
    for name, (own, others) in expected.items():
        assert found["scores"][name]["auroc"] == pytest.approx(auroc(own, others), abs=1e-3), name  # ties of float32
        assert found["scores"][name]["outliers"] == pytest.approx(others.mean(), rel=1e-5), name
    assert found["log_prob"] == "exact" and len({row["auroc"] for row in found["scores"].values()}) == 3
    assert f"| −log p(x) (exact) | {inside.mean():.2f} | {outside.mean():.2f} |" in done.stdout
    assert "No distortion: the distortion requires codes" in done.stdout
    assert (tmp_path / "figures" / "outliers.png").exists()


def test_a_vae_has_every_score(vae, noise):
    found = measure(vae, "idx", noise, num_images=20)
    assert found["scores"].keys() == outliers.TITLES.keys() and found["refused"] == {}
    assert found["inliers"] == {"name": "digits", "num_images": 20} and found["outliers"]["num_images"] == 20
    assert found["log_prob"] == "importance-weighted, K = 30"
    for role in ("inliers", "outliers"):
        mean = {name: row[role] for name, row in found["scores"].items()}
        assert mean["surprise"] < mean["negative_elbo"] and mean["likelihood_regret"] > 0
        assert mean["distortion"] < mean["negative_elbo"]


def test_a_density_is_not_corrected_by_the_complexity_of_levels(tmp_path, noise):
    counted(tmp_path, multivariate_normal_digits)
    found = measure(tmp_path, "left_out", num_images=20)
    assert found["scores"].keys() == {"surprise", "typicality"}
    assert "this model has a density" in found["refused"]["complexity_corrected"]
    with pytest.raises(ValueError, match=r"its levels are 0\.\.255, those of digits 0\.\.16"):
        measure(tmp_path, "idx", noise)


@pytest.mark.parametrize(
    ("of", "message"),
    [
        (["four_by_four"], r"its images are \(4, 4, 1\), those of digits are \(8, 8, 1\)"),
        (["digitz"], "no data set 'digitz'"),
        (["mnist", "no/such/folder"], "no folder no/such/folder"),
        (["left_out"], r"this run leaves no class out; train one with --config\.data\.leave_out"),
    ],
)
def test_outliers_that_are_not_there_are_named(vae, of, message):
    with pytest.raises((ValueError, OSError), match=message):
        measure(vae, *of)


def test_runs_that_cannot_be_asked_are_refused(tmp_path):
    config = vae_digits.get_config("smoke").to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="holds no checkpoint yet"):
        measure(tmp_path, "digits")
    config["data"]["context"] = {"name": "label"}
    begun(tmp_path, config)
    with pytest.raises(ValueError, match="no score of x: this model is conditional on 10 classes"):
        measure(tmp_path, "digits")


def test_a_class_left_out_is_never_shown():
    config = vae_digits.get_config("smoke").to_dict()
    config["data"] |= {"leave_out": [0, 8], "context": True}
    experiment = build.build(config)
    shown = [experiment.split(split)["context"] for split in sources.SPLITS]
    assert all(set(labels) == {1, 2, 3, 4, 5, 6, 7, 9} for labels in shown)
    feed = experiment.stream.feed(0, 1)
    assert len(feed["stored"]["x"]) == len(shown[0]) == np.sum(~np.isin(sources.load("digits").train.label, [0, 8]))


def test_a_figure_that_fails_costs_no_number(vae, monkeypatch, noise):
    monkeypatch.setattr("vae_jax.plotting.scores.histograms", lambda *_, **__: 1 / 0)
    (vae / "figures" / "outliers.png").unlink(missing_ok=True)
    results = measure(vae, "idx", noise, num_images=4, num_samples=2, num_steps=1)
    assert "−log p(x)" in outliers.table(results) and not (vae / "figures" / "outliers.png").exists()
