"""Restorations of a run: scores, files, baselines, and what is refused."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from vae_jax.configs import gaussian_mixture_digits, vae_digits
from vae_jax.runs import restoring, train


@pytest.fixture(scope="module")
def mixture(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "mixture"
    train.complete(gaussian_mixture_digits.get_config("smoke").to_dict(), folder, figures=False)
    return folder


@pytest.fixture(scope="module")
def conditional(tmp_path_factory):
    """A VAE of digits given their upper half."""
    config = vae_digits.get_config("smoke").to_dict()
    config["data"] |= {"transform": "levels", "context": {"name": "degraded", "degradation": {"name": "half"}}}
    config["model"]["likelihood"] = {"name": "discretized_logistic_mixture", "num_components": 2, "num_levels": 17}
    folder = tmp_path_factory.mktemp("runs") / "conditional"
    train.complete(config, folder, figures=False)
    return folder


def test_a_mixture_beats_bicubic_interpolation(mixture, tmp_path):
    low = {"name": "downsample", "size": (4, 4)}
    results = restoring.measure(mixture, low, "exact", out=tmp_path / "out", num_images=30, num_draws=9)
    ours, plain = results["scores"]["exact"], results["scores"]["bicubic"]
    for name in ("psnr", "ssim", "log_prob"):
        assert ours[name][0] > plain[name][0], name
    assert ours["residual"][0] < 0.01 and ours["spread"][0] > 0.01  # draws fit y, and differ
    assert json.loads((tmp_path / "out" / "restored.json").read_text())["method"] == "exact"
    stored = np.load(tmp_path / "out" / "restored.npz")
    assert stored["draws"].shape == (30, 9, 8, 8, 1) and stored["y"].shape == (30, 4, 4, 1)
    assert Image.open(tmp_path / "out" / "restored.png").width > 300
    assert "| exact | " in restoring.table(results) and "bicubic" in restoring.table(results)


def test_a_conditional_run_restores_its_own_degradation(conditional):
    results = restoring.measure(conditional, num_images=6, num_draws=5)
    assert results["method"] == "conditional" and results["degradation"] == "half"
    assert set(results["scores"]) == {"conditional", "mean of the shown pixels", "mean of the training images"}
    assert np.isfinite(results["scores"]["conditional"]["log_prob"][0]) and "IW-50" in results["note"]
    assert "hidden pixels" in results["note"]
    stored = np.load(conditional / "restored" / "restored.npz")
    np.testing.assert_array_equal(stored["draws"][:, :, :4], np.repeat(stored["x"][:, None, :4], 5, axis=1))
    assert (conditional / "restored" / "restored.png").exists()


@pytest.mark.parametrize(
    ("degradation", "method", "message"),
    [
        (None, None, "--degradation is missing: this run is not conditional on a degraded image"),
        ({"name": "fog"}, None, "--degradation: unknown value 'fog'"),
        ({"name": "downsample", "size": (3, 3)}, None, "--degradation.size must be .*where h divides 8"),
        ({"name": "half"}, "guided", r"`guided` requires a diffusion model \(`denoiser`\)"),
        ({"name": "half"}, "conditional", "--method=conditional requires a run whose context is y"),
        ({"name": "half"}, "magic", "method: unknown value 'magic'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(mixture, tmp_path, degradation, method, message):
    with pytest.raises(ValueError, match=message) as error:
        restoring.measure(mixture, degradation, method, out=tmp_path / "out", num_images=2, num_draws=2)
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_an_option_that_a_method_does_not_have_is_named(mixture):
    with pytest.raises(ValueError, match=r"--method_options: unknown key 'num_draw'"):
        restoring.measure(mixture, {"name": "half"}, "exact", options={"num_draw": 5})


def test_without_scikit_image_nothing_is_restored(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "skimage.metrics", None)
    with pytest.raises(ImportError, match=r"pip install 'vae_jax\[restoring\]'"):
        restoring.measure(tmp_path / "no run", {"name": "half"})
    assert not list(tmp_path.iterdir())
