"""Probes of codes against known answers."""

import numpy as np
import pytest
import scipy.stats

from vae_jax.evaluation import probes

CENTRES = 20.0 * np.eye(4)


def clusters(size, seed=0):
    """Four Gaussians far apart, and their labels."""
    rng = np.random.default_rng(seed)
    labels = np.arange(size) % 4
    return CENTRES[labels] + rng.normal(size=(size, 4)), labels


@pytest.mark.parametrize("probe", [probes.linear_probe, probes.knn_probe])
def test_classes_that_are_apart_are_read_off(probe):
    (train, train_labels), (test, test_labels) = clusters(200), clusters(100, seed=1)
    assert probe(train, train_labels, test, test_labels) == {"train_accuracy": 1.0, "test_accuracy": 1.0}
    scaled = [codes * [1e3, 1e-3, 1, 1] for codes in (train, test)]  # standardised: the scale is nothing
    assert probe(scaled[0], train_labels, scaled[1], test_labels)["test_accuracy"] == 1.0


@pytest.mark.parametrize("probe", [probes.linear_probe, probes.knn_probe])
def test_labels_that_have_nothing_to_do_with_the_codes_are_guessed(probe):
    rng = np.random.default_rng(2)
    train, test = rng.normal(size=(1000, 3)), rng.normal(size=(2000, 3))
    accuracy = probe(train, rng.integers(4, size=1000), test, rng.integers(4, size=2000))["test_accuracy"]
    assert abs(accuracy - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2000)


def test_the_linear_probe_is_linear():
    """Inside and outside of a circle: a line gives the larger class, neighbours nearly all."""
    codes = np.random.default_rng(3).normal(size=(1000, 2))
    inside = (np.sum(codes**2, axis=1) < 2 * np.log(2)).astype(int)  # half of them
    linear = probes.linear_probe(codes[:500], inside[:500], codes[500:], inside[500:])["test_accuracy"]
    nearest = probes.knn_probe(codes[:500], inside[:500], codes[500:], inside[500:])["test_accuracy"]
    assert linear < 0.62 < 0.93 < nearest


@pytest.mark.parametrize("method", ["kmeans", "gaussian_mixture"])
def test_clusters_that_are_apart_are_found(method):
    codes, labels = clusters(200)
    found = probes.clustering(codes, labels, num_clusters=4, method=method)
    np.testing.assert_allclose(list(found.values()), 1.0)
    shuffled = np.random.default_rng(4).permutation(labels)
    chance = probes.clustering(codes, shuffled, num_clusters=4, method=method)
    assert chance["accuracy"] < 0.4 and chance["nmi"] < 0.08 and abs(chance["ari"]) < 0.05
    with pytest.raises(ValueError, match="unknown value 'k_means'"):
        probes.clustering(codes, labels, num_clusters=4, method="k_means")


def test_the_best_assignment():
    labels, found = np.array([0, 0, 0, 1, 1, 2, 2, 2]), np.array([2, 2, 1, 1, 1, 0, 0, 1])
    assert probes.assignment_accuracy(labels, found) == 6 / 8
    assert probes.assignment_accuracy(labels, np.zeros(8, int)) == 3 / 8  # one cluster gets one class
    assert probes.assignment_accuracy(labels, np.arange(8)) == 3 / 8  # a class gets one cluster


# -------------------------------------------------------------------------------------------------------- normality

MIX = np.array([[2.0, 0.3, 0.0], [0.0, 1.5, -1.0], [0.4, 0.0, 0.2]])


def test_normal_codes_pass_as_often_as_they_should():
    """Under the null the p-value is about uniform, and the statistic 1 at the mean."""
    rng = np.random.default_rng(5)
    told = [probes.normality(rng.normal(size=(150, 3)) @ MIX + 3.0) for _ in range(300)]
    p = np.array([t["p_value"] for t in told])
    for level in (0.05, 0.5):
        assert abs(np.mean(p < level) - level) < 5 * np.sqrt(level * (1 - level) / len(p))
    statistic = np.array([t["henze_zirkler"] for t in told])
    # The mean is that of large N; at 150 it is within a few per cent.
    assert abs(statistic.mean() - 1) < 0.03


@pytest.mark.parametrize("kind", ["ring", "heavy tails", "two clusters", "skewed"])
def test_what_is_not_normal_fails(kind):
    rng = np.random.default_rng(6)
    angle = rng.uniform(0, 2 * np.pi, size=400)
    codes = {
        "ring": np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * rng.normal(size=(400, 2)),
        "heavy tails": rng.standard_t(3, size=(400, 2)),
        "two clusters": rng.normal(size=(400, 2)) + 4.0 * rng.integers(2, size=(400, 1)),
        "skewed": rng.gamma(2.0, size=(400, 2)),
    }[kind]
    assert probes.normality(codes)["p_value"] < 1e-4


def test_affine_maps_do_not_change_it():
    codes = np.random.default_rng(7).gamma(4.0, size=(120, 3))
    given, other = probes.normality(codes), probes.normality(codes @ MIX - 7.0)
    for name in ("henze_zirkler", "p_value"):
        np.testing.assert_allclose(given[name], other[name], rtol=1e-8)


def test_the_statistic_is_the_distance_of_characteristic_functions():
    """In one dimension, N ∫ |φ_N(t) - e^{-t²/2}|² N(t; 0, β²) dt by quadrature."""
    codes = np.random.default_rng(8).gamma(2.0, size=(60, 1))
    white = (codes - codes.mean()) / codes.std()
    t = np.linspace(-12, 12, 20001)
    gap = np.exp(1j * t[:, None] * white[:, 0]).mean(1) - np.exp(-(t**2) / 2)
    weight = scipy.stats.norm.pdf(t, scale=np.sqrt(probes._width(60, 1)))
    expected = 60 * np.sum(np.abs(gap) ** 2 * weight) * (t[1] - t[0])
    np.testing.assert_allclose(probes._henze_zirkler(white), expected, rtol=1e-6)


def test_the_best_gaussian_against_the_standard_one():
    """½ (tr S + |m|² - D - log |S|) of the sample's moments; blocks of rows are one sum."""
    codes = np.random.default_rng(9).normal(size=(2500, 2)) * [2.0, 0.5] + [1.0, 0.0]
    m, s = codes.mean(0), np.cov(codes.T, bias=True)
    expected = 0.5 * (np.trace(s) + m @ m - 2 - np.log(np.linalg.det(s)))
    given = probes.normality(codes)
    np.testing.assert_allclose(given["kl_to_standard"], expected, rtol=1e-9)
    assert given["p_value"] > 1e-3
    with pytest.raises(ValueError, match="covariance has rank 1"):
        probes.normality(codes[:, :1] * [1.0, 2.0])


# --------------------------------------------------------------------------------------------------------- outliers


def test_two_gaussians_have_the_area_that_is_known():
    """Inliers N(0, 1), outliers N(d, 1): AUROC = Φ(d/√2), FPR at TPR 95 % = Φ(1.645 - d), by 20,000 quantiles each."""
    quantiles = scipy.stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    given = probes.outlier_detection(quantiles, quantiles + 1.5)
    np.testing.assert_allclose(given["auroc"], scipy.stats.norm.cdf(1.5 / np.sqrt(2)), atol=1e-4)
    np.testing.assert_allclose(given["fpr_at_95"], scipy.stats.norm.cdf(1.6449 - 1.5), atol=1e-3)
    t = np.linspace(-9, 11, 200_001)  # precision at every threshold, over the recall
    hits, alarms = scipy.stats.norm.sf(t - 1.5), scipy.stats.norm.sf(t)
    area = np.sum(hits / (hits + alarms) * scipy.stats.norm.pdf(t - 1.5)) * (t[1] - t[0])
    np.testing.assert_allclose(given["aupr"], area, atol=1e-3)


def test_scores_that_separate_and_scores_that_say_nothing():
    assert probes.outlier_detection([1, 2, 3], [4, 5]) == {"auroc": 1.0, "aupr": 1.0, "fpr_at_95": 0.0}
    same = probes.outlier_detection(np.zeros(30), np.zeros(10))
    assert same == {"auroc": 0.5, "aupr": 0.25, "fpr_at_95": 1.0}
    assert probes.outlier_detection([4, 5], [1, 2])["auroc"] == 0.0
    line = np.arange(100)  # of 100 thresholds in a line, the 95th is the first that is low enough
    assert probes.outlier_detection(line, line)["fpr_at_95"] == pytest.approx(0.95)
