"""Denoisers as baselines: they reduce the error of a noisy image, and stay inside the range."""

import numpy as np
import pytest

from vae_jax.evaluation import denoisers


def test_tuned_denoisers_halve_the_error_of_noisy_squares():
    rng = np.random.default_rng(0)
    x = np.zeros((20, 16, 16, 1), np.float32)
    for image, (top, left) in zip(x, rng.integers(0, 8, (20, 2)), strict=True):
        image[top : top + 8, left : left + 8] = 255.0
    y = x + 40.0 * rng.normal(size=x.shape).astype(np.float32)
    tuned = denoisers.tuned(y, x, peak=255.0)
    assert set(tuned) == set(denoisers.STRENGTHS)
    for name, denoise in tuned.items():
        result = denoise(y)
        assert result.shape == x.shape and result.min() >= 0.0 and result.max() <= 255.0
        assert np.mean((result - x) ** 2) < 0.5 * np.mean((np.clip(y, 0, 255) - x) ** 2), name


def test_the_strength_is_that_of_the_least_error():
    x = np.tile(np.linspace(0.0, 1.0, 12), (3, 12, 1))[..., None]
    y = x + 0.1 * np.random.default_rng(0).normal(size=x.shape)
    tuned = denoisers.tuned(y, x, peak=1.0)
    for name, strengths in denoisers.STRENGTHS.items():
        errors = [np.mean((denoisers.denoised(y, name=name, strength=s, peak=1.0) - x) ** 2) for s in strengths]
        assert np.mean((tuned[name](y) - x) ** 2) == pytest.approx(min(errors))
