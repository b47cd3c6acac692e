"""Cartoon faces: exact factors, mirror images, and judges that order them."""

import numpy as np
import pytest
import scipy.stats

from vae_jax.data import faces, sources
from vae_jax.evaluation import judges

SIZES = tuple(faces.FACTORS.values())


@pytest.fixture(scope="module")
def everything():
    """Return all factors [3025, 4] and their images."""
    factors = faces.factors_of(np.arange(3025))
    return factors, faces.draw(factors)


def test_every_combination_of_factors_is_drawn_once_and_looks_different(everything):
    factors, x = everything
    assert list(faces.FACTORS) == ["smile", "turn", "eyes", "light"] and SIZES == (11, 11, 5, 5)
    np.testing.assert_array_equal(np.ravel_multi_index(tuple(factors.T), SIZES), np.arange(3025))
    assert x.shape == (3025, 28, 20, 1) and x.dtype == np.uint8
    assert len(np.unique(x.reshape(3025, -1), axis=0)) == 3025
    assert x.min() < 40 and x.max() > 230  # dark pupils and white teeth


def test_a_mirrored_turn_in_mirrored_light_is_the_mirrored_image(everything):
    factors, x = everything
    mirrored = factors * [1, -1, 1, -1] + [0, 10, 0, 4]
    np.testing.assert_array_equal(faces.draw(mirrored), x[:, :, ::-1])


def test_a_factor_changes_only_its_part_of_the_face():
    face = np.array([5, 5, 3, 2])
    rows = {}
    for k, name in enumerate(faces.FACTORS):
        values = np.repeat(face[None], SIZES[k], axis=0)
        values[:, k] = np.arange(SIZES[k])
        rows[name] = np.flatnonzero(np.ptp(faces.draw(values), axis=(0, 3)).any(axis=1))
    assert rows["smile"].min() >= 14 and rows["eyes"].max() <= 11
    assert set(rows["light"]) == set(range(28)) and len(rows["turn"]) > 20


def test_judges_follow_their_factors_and_no_other(everything):
    factors, x = everything
    judgements = np.stack([judges.smile(x), judges.yaw(x)], axis=1)
    rho = np.array([[scipy.stats.spearmanr(j, v).statistic for v in factors.T] for j in judgements.T])
    assert rho[0, 0] > 0.94 and rho[1, 1] > 0.97  # measured: 0.96 and 0.99
    rho[[0, 1], [0, 1]] = 0.0
    assert np.abs(rho).max() < 0.1
    ahead = (factors[:, 1:] == [5, 3, 2]).all(axis=1)
    assert scipy.stats.spearmanr(judgements[ahead, 0], factors[ahead, 0]).statistic > 0.95
    level = (factors[:, [0, 2, 3]] == [5, 3, 2]).all(axis=1)
    assert (np.diff(judgements[level, 1]) > 0).all() and abs(judgements[level, 1][5]) < 1e-9


def test_faces_as_a_data_set():
    data = sources.load("faces_by_rule")
    for split, size in faces.SIZES.items():
        x, label, factors = getattr(data, split)
        assert x.shape == (size, 28, 20, 1) and x.dtype == np.uint8
        assert factors.shape == (size, 4) and factors.dtype.kind == "i"
        np.testing.assert_array_equal(label, factors[:, 0])
        np.testing.assert_array_equal(x[-3:], faces.draw(factors[-3:]))
    rows = np.concatenate([getattr(data, split).context for split in faces.SIZES])
    assert len(np.unique(rows, axis=0)) == 3025  # no test image is trained on
    assert data.max_value == 255 and data.num_classes == 11
    np.testing.assert_array_equal(faces.load("valid")[0], data.valid.x)
    with pytest.raises(ValueError, match="faces_by_rule is drawn, not read, and takes no path, got elsewhere"):
        sources.load("faces_by_rule", "elsewhere")
