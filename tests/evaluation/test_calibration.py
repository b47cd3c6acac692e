"""Ranks, coverage, CRPS and the energy score against closed forms; densities of point estimates."""

import numpy as np
import pytest
import scipy.stats

from vae_jax.evaluation import calibration, residuals


@pytest.mark.parametrize("size", [9, 19, 20, 100])
@pytest.mark.parametrize("level", [0.5, 0.9])
def test_uniform_ranks_are_covered_as_often_as_the_level_says(size, level):
    np.testing.assert_allclose(np.mean(calibration.covered(np.arange(size + 1), size, level)), level, rtol=1e-12)


def test_ranks_break_ties_at_random():
    rng = np.random.default_rng(0)
    draws, truth = np.repeat([0.0, 1.0, 1.0, 1.0], 4000).reshape(4, 4000), np.ones(4000)
    counts = np.bincount(calibration.ranks(draws, truth, rng), minlength=5)
    assert counts[0] == 0 and scipy.stats.chisquare(counts[1:]).pvalue > 1e-3


def test_crps_of_a_normal():
    """σ [z (2Φ(z) - 1) + 2φ(z) - 1/√π], doi:10.1198/016214506000001437 eq. (20)."""
    draws = np.random.default_rng(0).normal(1.0, 2.0, size=(40_000, 1))
    truth, z = np.array([2.5]), 0.75
    exact = 2.0 * (z * (2 * scipy.stats.norm.cdf(z) - 1) + 2 * scipy.stats.norm.pdf(z) - 1 / np.sqrt(np.pi))
    np.testing.assert_allclose(calibration.crps(draws, truth), exact, rtol=0.02)
    np.testing.assert_allclose(
        calibration.energy(draws[:2000], truth), calibration.crps(draws[:2000], truth)[0], rtol=1e-6
    )
    pairs = np.random.default_rng(1).normal(size=(5, 3))
    by_hand = np.abs(pairs[:, None] - pairs[None]).sum((0, 1)) / 20
    expected = np.abs(pairs - truth[None]).mean(0) - 0.5 * by_hand
    np.testing.assert_allclose(calibration.crps(pairs, np.repeat(truth, 3)), expected, rtol=1e-10)


def test_exact_draws_are_calibrated_and_narrow_ones_are_not():
    rng = np.random.default_rng(0)
    rows = {"exact": [], "narrow": []}
    for _ in range(300):
        mean = rng.normal(size=(3, 3, 1))
        for name, scale in (("exact", 1.0), ("narrow", 0.5)):
            draws = mean[None] + scale * rng.normal(size=(39, 3, 3, 1))
            rows[name].append(calibration.of_draws(draws, mean + rng.normal(size=(3, 3, 1)), rng=rng))
    exact, narrow = (calibration.summary(rows[name]) for name in rows)
    for name, level in (("coverage_50", 0.5), ("coverage_90", 0.9), ("projected_50", 0.5), ("projected_90", 0.9)):
        assert abs(exact[name][0] - level) < 4 * exact[name][1]
        assert narrow[name][0] < level - 4 * narrow[name][1]
    assert exact["crps"][0] < narrow["crps"][0] and exact["energy"][0] < narrow["energy"][0]


def test_only_hidden_entries_count():
    draws, truth = np.zeros((19, 2, 2, 1)), np.zeros((2, 2, 1))
    truth[0] = 5.0
    hidden = np.zeros((2, 2, 1), bool)
    hidden[0] = True
    scores = calibration.of_draws(draws, truth, hidden=hidden)
    assert scores["crps"] == 5.0 and scores["coverage_90"] == 0.0


def test_psnr_and_ssim():
    truth = np.random.default_rng(0).uniform(0, 255, size=(16, 16, 3))
    np.testing.assert_allclose(calibration.psnr(truth + 25.5, truth, peak=255.0), 20.0)
    assert calibration.ssim(truth, truth, peak=255.0) == 1.0
    pytest.importorskip("skimage")
    assert calibration.ssim(truth[::-1], truth, peak=255.0) < 0.2
    assert calibration.ssim(truth[:4, :4], truth[:4, :4], peak=255.0) == 1.0  # smaller than a window


def test_the_density_of_an_estimate_sums_to_one_and_finds_its_kind():
    rng = np.random.default_rng(0)
    estimates = rng.uniform(60, 200, size=(4000, 2))
    for kind in ("normal", "laplace"):
        noise = getattr(rng, kind)(scale=[3.0, 9.0], size=(4000, 2))
        fitted = residuals.fit(estimates, np.round(estimates + noise), num_levels=256)
        assert fitted.kind == kind
        np.testing.assert_allclose(fitted.scale, [3.0, 9.0], rtol=0.05)
        levels = np.repeat(np.arange(256.0)[:, None], 2, axis=1)
        total = np.exp(fitted.log_probs(np.broadcast_to(estimates[:1], (256, 2)), levels)).sum(0)
        np.testing.assert_allclose(total, 1.0, rtol=1e-9)
    far = fitted.log_probs(np.array([0.0, 0.0]), np.array([255.0, 255.0]))
    assert np.all(np.isfinite(far))
    real = residuals.fit(estimates, estimates + rng.normal(size=(4000, 2)), num_levels=None)
    np.testing.assert_allclose(real.log_probs(np.zeros(2), np.zeros(2)), -0.5 * np.log(2 * np.pi), atol=0.05)
