"""The quality of samples against closed forms, double loops, and toys whose answers are known."""

import itertools

import numpy as np
import pytest
import scipy.linalg

from vae_jax.evaluation import quality

RNG = np.random.default_rng(0)


def covariance(dim, seed):
    a = np.random.default_rng(seed).normal(size=(dim, dim))
    return a @ a.T + 0.1 * np.eye(dim)


def test_the_frechet_distance_of_gaussians_is_that_of_scipy():
    mean_a, mean_b, a, b = RNG.normal(size=5), RNG.normal(size=5), covariance(5, 1), covariance(5, 2)
    assert np.abs(a @ b - b @ a).max() > 0.1
    root = scipy.linalg.sqrtm(a @ b).real
    expected = np.sum((mean_a - mean_b) ** 2) + np.trace(a + b - 2 * root)
    np.testing.assert_allclose(quality.frechet_of_moments(mean_a, a, mean_b, b), expected, rtol=1e-9)
    np.testing.assert_allclose(quality.frechet_of_moments(mean_b, b, mean_a, a), expected, rtol=1e-9)


def test_the_frechet_distance_of_commuting_and_of_singular_covariances():
    a, b = np.array([4.0, 1.0, 0.0]), np.array([1.0, 9.0, 0.0])
    given = quality.frechet_of_moments(np.zeros(3), np.diag(a), np.ones(3), np.diag(b))
    np.testing.assert_allclose(given, 3 + np.sum((np.sqrt(a) - np.sqrt(b)) ** 2), rtol=1e-12)
    assert abs(quality.frechet_of_moments(np.ones(3), np.diag(a), np.ones(3), np.diag(a))) < 1e-12


def test_the_frechet_distance_has_an_error_and_a_limit():
    """The distance of two samples falls with N to that of their distributions, here 8 · 0.5² = 2."""
    a, b = RNG.normal(size=(2000, 8)), RNG.normal(size=(2000, 8)) + 0.5
    biased, limit, error = quality.frechet(a, b), quality.frechet_at_infinity(a, b), quality.frechet_error(a, b)
    assert abs(limit - 2.0) < 5 * error < 1.0
    assert abs(biased - 2.0) < 5 * error
    assert quality.frechet(a[:100], b[:100]) > quality.frechet(a, b)


def test_mmd_is_the_double_loop():
    a, b = RNG.normal(size=(7, 3)), RNG.normal(size=(5, 3)) + 0.3
    kernel = lambda x, y: (x @ y / 3 + 1) ** 3  # noqa: E731
    within = [np.mean([kernel(x[i], x[j]) for i, j in itertools.permutations(range(len(x)), 2)]) for x in (a, b)]
    across = np.mean([kernel(x, y) for x in a for y in b])
    np.testing.assert_allclose(quality.squared_mmd(a, b), sum(within) - 2 * across, rtol=1e-12)


def test_mmd_is_unbiased_and_has_an_honest_error():
    same = [quality.kernel_distance(RNG.normal(size=(60, 3)), RNG.normal(size=(60, 3))) for _ in range(300)]
    values, errors = np.array(same).T
    assert abs(values.mean()) < 4 * values.std() / np.sqrt(300)
    assert 0.7 < np.sqrt(np.mean(errors**2)) / values.std() < 1.4
    far = quality.kernel_distance(RNG.normal(size=(2000, 3)), RNG.normal(size=(2000, 3)) + 1)
    assert far[0] > 10 * far[1] > 0


def test_neighbours_of_equal_and_of_disjoint_sets():
    x = RNG.normal(size=(1500, 4))
    equal, apart = quality.neighbours(x, x), quality.neighbours(x, x + 100)
    assert equal["precision"] == equal["recall"] == equal["coverage"] == 1.0
    np.testing.assert_allclose(equal["density"], 6 / 5)  # every draw is in its own ball, and in those of five others
    assert set(apart.values()) == {0.0}


def test_a_mode_that_is_dropped_costs_recall_and_coverage():
    centres = np.array([[0.0, 0.0], [50.0, 0.0]])
    data = np.concatenate([RNG.normal(size=(400, 2)) + c for c in centres])
    draws = RNG.normal(size=(800, 2)) + centres[0]
    measured = quality.neighbours(data, draws)
    assert measured["precision"] > 0.9
    assert measured["recall"] < 0.55 and measured["coverage"] < 0.55
    mirrored = quality.neighbours(draws, data)
    assert mirrored["precision"] < 0.55 and mirrored["recall"] > 0.9


def test_neighbours_are_those_of_a_loop():
    data, draws = RNG.normal(size=(30, 2)), RNG.normal(size=(20, 2)) + 0.5
    distance = lambda a, b: np.linalg.norm(a[:, None] - b[None], axis=-1)  # noqa: E731
    of_data, of_draws = (np.sort(distance(x, x), axis=1)[:, 3] for x in (data, draws))
    d = distance(draws, data)
    inside = d <= of_data[None]
    measured = quality.neighbours(data, draws, num_neighbors=3)
    assert measured == {
        "precision": inside.any(axis=1).mean(),
        "recall": (d <= of_draws[:, None]).any(axis=0).mean(),
        "density": pytest.approx(inside.sum() / (3 * 20)),
        "coverage": inside.any(axis=0).mean(),
    }


def test_modes_are_counted_and_their_divergence_is_known():
    found, divergence = quality.modes(np.repeat([1, 5, 7], [2, 1, 1]), 8)
    assert found == 3
    np.testing.assert_allclose(divergence, 0.5 * np.log(0.5 * 8) + 2 * 0.25 * np.log(0.25 * 8))
    assert quality.modes(np.arange(1000), 1000) == (1000, pytest.approx(0.0, abs=1e-12))


def test_principal_components_keep_the_largest_variances():
    x = RNG.normal(size=(500, 2, 2, 1)) * np.array([1.0, 5.0, 0.1, 3.0]).reshape(2, 2, 1)
    components = quality.principal_components(x, 2)(x)
    np.testing.assert_allclose(np.abs(np.corrcoef(components[:, 0], x[:, 0, 1, 0])[0, 1]), 1.0, atol=0.01)
    np.testing.assert_allclose(components.mean(axis=0), 0.0, atol=1e-9)
    assert quality.principal_components(x)(x).shape == (500, 4)


def test_too_few_examples_are_refused():
    few = RNG.normal(size=(5, 2))
    with pytest.raises(ValueError, match="5 neighbours need more examples than that"):
        quality.neighbours(few, few)
    with pytest.raises(ValueError, match="at least 20 examples of each set, got 5"):
        quality.kernel_distance(few, few)
