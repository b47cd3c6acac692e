"""Judges of faces on drawn faces, and the latent directions that follow a judge."""

import numpy as np
import pytest
import scipy.stats

from vae_jax.evaluation import judges


def faces(curvature=(0.0,), shift=(0.0,)):
    """Draw faces: two eyes, a nose, and a mouth whose corners rise by curvature u². `shift` moves nose and mouth."""
    curvature, shift = np.broadcast_arrays(np.asarray(curvature, float), np.asarray(shift, float))
    rows, columns = np.mgrid[:28, :20].astype(float)
    images = np.full((len(curvature), 28, 20), 0.7)
    for image, bend, right in zip(images, curvature, shift, strict=True):
        for row, column in ((7, 5.5), (7, 13.5), (14, 9.5 + right)):
            image -= 0.4 * np.exp(-0.5 * ((rows - row) ** 2 + (columns - column) ** 2))
        u = columns - 9.5 - right
        image -= 0.4 * np.exp(-0.5 * ((rows - 20.5 + bend * u**2) / 0.7) ** 2) * (np.abs(u) < 5.2)
    return images


def test_smile_rises_with_the_curvature_of_the_mouth():
    curvature = np.linspace(-0.12, 0.2, 17)
    found = judges.smile(faces(curvature))
    assert np.all(np.diff(found) > 0)
    np.testing.assert_allclose(judges.smile(faces(curvature)[:, :, ::-1]), found, atol=1e-9)


def test_yaw_follows_nose_and_mouth_and_not_the_smile():
    shift = np.linspace(-2, 2, 17)
    found = judges.yaw(faces(shift=shift))
    assert np.all(np.diff(found) > 0)
    np.testing.assert_allclose(found, shift, atol=0.5)
    np.testing.assert_allclose(judges.yaw(faces(shift=shift)[:, :, ::-1]), -found, atol=1e-9)
    np.testing.assert_allclose(judges.yaw(faces(np.linspace(-0.1, 0.1, 5))), 0.0, atol=1e-9)
    assert np.ptp(judges.smile(faces(0.1, np.array([-1.0, 0.0, 1.0])))) < 0.3 * np.ptp(judges.smile(faces([0.0, 0.1])))


@pytest.mark.parametrize("judge", [judges.smile, judges.yaw])
def test_a_judge_does_not_see_brightness_and_contrast(judge):
    images = faces(np.linspace(-0.1, 0.1, 5), np.linspace(-2, 2, 5))
    np.testing.assert_allclose(judge(30 + 100 * images[..., None]), judge(images), atol=1e-9)
    assert np.isfinite(judge(np.zeros((2, 28, 20)))).all()


def test_only_frames_of_one_size_are_judged():
    with pytest.raises(ValueError, match=r"28, 20.*\[3, 64, 64\]"):
        judges.smile(np.zeros((3, 64, 64)))


def test_rank_correlation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    codes, judgements = rng.normal(size=(60, 3)), rng.integers(5, size=(60, 2))
    codes[:, 0] += judgements[:, 0]
    rho, p = judges.rank_correlation(codes, judgements, num_permutations=199)
    expected = [[scipy.stats.spearmanr(z, y).statistic for y in judgements.T] for z in codes.T]
    np.testing.assert_allclose(rho, expected, atol=1e-12)
    assert p[0, 0] == 1 / 200 and p[1:].min() > 0.005
    np.testing.assert_allclose(judges.rank_correlation(np.exp(codes), judgements, num_permutations=1)[0], rho)


def test_p_values_of_unrelated_codes_are_even():
    rng = np.random.default_rng(1)
    p = judges.rank_correlation(rng.normal(size=(40, 40)), rng.normal(size=(40, 5)), num_permutations=99)[1]
    assert 0.03 < np.mean(p <= 0.1) < 0.18


def test_blocks_protect_from_neighbours_that_are_alike():
    rng = np.random.default_rng(2)
    walk = lambda columns: np.repeat(rng.normal(size=(20, columns)), 30, axis=0)  # noqa: E731
    z, y = walk(30), walk(2)
    single = judges.rank_correlation(z, y, num_permutations=99)[1]
    blocks = judges.rank_correlation(z, y, num_permutations=99, block=30)[1]
    assert np.mean(single <= 0.05) > 0.4 and np.mean(blocks <= 0.05) < 0.15
    with pytest.raises(ValueError, match="block must be"):
        judges.rank_correlation(z, y, block=301)
    with pytest.raises(ValueError, match="600 and 599"):
        judges.rank_correlation(z, y[1:])


@pytest.mark.parametrize("dim", [2, 5])
def test_turned_axes_follow_the_judges(dim):
    rng = np.random.default_rng(3)
    judgements = rng.normal(size=(4000, 2))
    rotation = np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    codes = np.concatenate([judgements[:, ::-1], rng.normal(size=(4000, dim - 2))], axis=1) @ rotation
    axes = judges.directions(codes, np.exp(judgements))
    np.testing.assert_allclose(axes, rotation[[1, 0]].T, atol=0.1)  # the codes have the covariance I
    np.testing.assert_allclose(axes.T @ np.cov(codes.T, bias=True) @ axes, np.eye(2), atol=1e-9)
    rho = judges.rank_correlation(codes @ axes, judgements, num_permutations=1)[0]
    assert np.diag(rho).min() > 0.99 and np.abs(rho - np.diag(np.diag(rho))).max() < 0.1
    # Any linear map of the codes gives the same turned codes.
    other = codes @ np.diag(np.arange(1.0, dim + 1)) @ rotation
    found = other @ judges.directions(other, judgements)
    np.testing.assert_allclose(found, codes @ judges.directions(codes, judgements), atol=1e-9)


def test_turned_axes_have_the_largest_sum_of_correlations():
    rng = np.random.default_rng(4)
    codes, judgements = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    judgements[:, 0] += codes @ [1.0, 0.5]
    judgements[:, 1] += codes @ [0.8, 0.9]  # nearly the same direction
    ranks = scipy.stats.rankdata(judgements, axis=0)
    axes = judges.directions(codes, judgements)

    def total(turn):
        turned = codes @ axes @ turn
        return sum(np.corrcoef(turned[:, j], ranks[:, j])[0, 1] for j in range(2))

    angles = np.linspace(0.1, 6.2, 60)
    turns = [np.array([[np.cos(a), -s * np.sin(a)], [np.sin(a), s * np.cos(a)]]) for a in angles for s in (1, -1)]
    assert max(map(total, turns)) < total(np.eye(2))


def test_one_dimension_cannot_follow_two_judges():
    with pytest.raises(ValueError, match="1 dimensions that vary cannot follow 2 judges"):
        judges.directions(np.array([[0.0, 1.0], [0.0, 2.0], [0.0, 5.0]]), np.eye(3)[:, :2])
