"""Scores of disentanglement against closed forms, quadrature, and the published formulas written once more."""

import itertools
import math

import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from sklearn.metrics import mutual_info_score
from sklearn.svm import LinearSVC

from vae_jax.distributions import LowRankNormal, Normal
from vae_jax.evaluation import disentanglement as scores

LOG_2 = math.log(2.0)


def gaussians(loc, scale=1e-2):
    loc = np.asarray(loc, np.float64)
    return Normal(loc, np.broadcast_to(np.log(scale), loc.shape))


def factors_of(*sizes, repeat=1):
    """Return every combination of values, in random order."""
    table = np.array(list(itertools.product(*map(range, sizes))) * repeat)
    return np.random.default_rng(0).permutation(table)


def entangled(size=400, seed=0):
    """Return factors [N, 3] and codes [N, 4] that mix them."""
    rng = np.random.default_rng(seed)
    factors = np.stack([rng.integers(n, size=size) for n in (2, 3, 4)], axis=1)
    mixing = np.array([[1.0, 0.2, 0.0], [0.0, 1.0, 0.5], [0.1, 0.0, 1.0], [0.3, 0.3, 0.3]])
    return factors, factors @ mixing.T + 0.3 * rng.normal(size=(size, 4))


# ------------------------------------------------------------------------------------------------ mutual information


def test_information_of_two_distant_gaussians_is_log_2():
    factors = np.array([[0], [1]] * 5)
    assert scores.mutual_information(gaussians(20.0 * factors, 1.0), factors) == pytest.approx(LOG_2, abs=1e-12)
    assert scores.entropies(factors) == pytest.approx(LOG_2, abs=1e-12)


@pytest.mark.parametrize("scale", [0.3, 0.7, 2.0])
def test_information_of_a_gaussian_channel_is_that_of_quadrature(scale):
    values, p = np.array([-2.0, -0.5, 0.0, 3.0]), np.array([0.1, 0.2, 0.4, 0.3])
    factors = np.repeat(np.arange(4), (10 * p).astype(int))[:, None]

    def negative_log(z):
        density = p @ scipy.stats.norm.pdf(z, values, scale)
        return -density * np.log(density) if density > 0 else 0.0

    entropy, _ = scipy.integrate.quad(negative_log, -25, 25, points=list(values), limit=500, epsabs=1e-11)
    expected = entropy - 0.5 * math.log(2 * math.pi * math.e * scale**2)
    found = scores.mutual_information(gaussians(values[factors], scale), factors)
    np.testing.assert_allclose(found, [[expected]], atol=1e-8)


def test_each_example_has_a_gaussian_of_its_own():
    rng, factors = np.random.default_rng(1), np.repeat([0, 1, 2], 3)[:, None]
    loc, scale = rng.normal(size=(9, 1)), rng.uniform(0.1, 1.0, size=(9, 1))

    def integrand(z):
        each = scipy.stats.norm.pdf(z, loc[:, 0], scale[:, 0])
        given = each.reshape(3, 3).mean(axis=1)
        return np.mean(given * np.log(given / each.mean())) if given.min() > 0 else 0.0

    expected, _ = scipy.integrate.quad(integrand, -8, 8, limit=500, epsabs=1e-10)
    np.testing.assert_allclose(scores.mutual_information(gaussians(loc, scale), factors), [[expected]], atol=1e-7)


def test_a_coarse_grid_gives_a_lower_bound():
    factors = factors_of(8)
    q = gaussians(0.05 * factors, 0.02)
    exact, *coarse = (scores.mutual_information(q, factors, num_points=n)[0, 0] for n in (4097, 129, 65, 49))
    assert math.log(8) > exact > coarse[0] > coarse[1] > coarse[2] > 0
    # With a standard deviation of 0 the noise of the grid is all there is.
    assert scores.mutual_information(gaussians(factors, 1e-300), factors) == pytest.approx(math.log(8), abs=1e-9)
    assert scores.mutual_information(gaussians(0.0 * factors, 1e-300), factors) == pytest.approx(0.0, abs=1e-9)


def test_only_gaussians_have_exact_information():
    q = LowRankNormal(np.zeros((4, 2)), np.zeros((4, 2)), np.zeros((4, 2, 1)))
    with pytest.raises(TypeError, match="LowRankNormal"):
        scores.mutual_information(q, factors_of(4))


def test_the_histogram_is_the_published_plug_in():
    factors, codes = entangled()
    expected = np.zeros((4, 3))
    for j, k in itertools.product(range(4), range(3)):
        edges = np.histogram(codes[:, j], 20)[1]
        expected[j, k] = mutual_info_score(factors[:, k], np.digitize(codes[:, j], edges[:-1]))
    np.testing.assert_allclose(scores.histogram_information(codes, factors), expected, atol=1e-10)


# ------------------------------------------------------------------------------------------------------ both extremes


def test_factors_as_codes_have_every_score_1():
    factors = factors_of(2, 3, 4, repeat=8)
    codes = np.concatenate([3.0 * factors[:, ::-1], np.zeros((len(factors), 1))], axis=1)
    found = scores.scores(gaussians(codes, [0.01, 0.01, 0.01, 1.0]), factors, num_trees=20)
    sap = found.pop("sap")
    assert min(found.values()) > 0.97 and max(found.values()) <= 1 + 1e-9, found
    assert found["factor_vae"] == 1.0 and found["mig"] == pytest.approx(1.0, abs=1e-9)
    assert 0.2 < sap < 1  # S_jk of a useless dimension is the accuracy of chance, and a linear SVM misses inner values


def test_independent_codes_have_score_0():
    factors = factors_of(2, 3, 4, repeat=20)
    loc = np.random.default_rng(2).normal(size=(len(factors), 3))
    q, entropy = gaussians(loc, 1.0), scores.entropies(factors)
    assert scores.mig(scores.mutual_information(q, factors), entropy) < 0.01
    assert scores.mig(scores.histogram_information(loc, factors), entropy) < 0.05
    assert abs(scores.sap(loc[:240], factors[:240], loc[240:], factors[240:])) < 0.1
    assert scores.info_explicitness(loc, factors) < 0.02
    assert scores.factor_vae_score(loc, factors) < 0.45  # chance is 1/3
    same = np.zeros_like(loc)
    assert scores.mig(scores.mutual_information(gaussians(same, 1.0), factors), entropy) == pytest.approx(0, abs=1e-9)
    assert scores.factor_vae_score(same, factors) == 0.0


def test_a_collapsed_code_has_score_0():
    factors = factors_of(2, 3, repeat=10)
    found = scores.scores(gaussians(np.zeros((60, 2)), 1.0), factors, num_trees=2)
    by_chance = found.pop("dci_informativeness")
    assert by_chance < 0.7 and np.abs(list(found.values())).max() < 1e-6, found
    one = np.array([[0.5, 0.0]])
    assert scores.info_compactness(one, [LOG_2, LOG_2]) == scores.info_modularity(one, [LOG_2, LOG_2]) == 1.0


def test_mixing_two_factors_lowers_mig_as_computed_by_hand():
    factors, half = factors_of(2, 2), math.sqrt(0.5)
    signs = 2.0 * factors - 1.0
    gap = lambda codes: scores.mig(scores.mutual_information(gaussians(codes), factors), [LOG_2, LOG_2])  # noqa: E731
    assert gap(signs) == pytest.approx(1.0, abs=1e-9)
    # By 45 degrees both dimensions are -√2, 0, 0, √2 and tell ½ log 2 about either factor.
    assert gap(signs @ np.array([[half, -half], [half, half]])) == pytest.approx(0.0, abs=1e-9)
    # z = (v_1 + v_2, v_2): the information is ½ log 2, ½ log 2 and 0, log 2, the gaps ½ and ½.
    assert gap(signs @ np.array([[1.0, 0.0], [1.0, 1.0]])) == pytest.approx(0.5, abs=1e-9)


def test_scores_do_not_depend_on_the_order_of_dimensions_and_factors():
    factors, codes = entangled()
    q, entropy = gaussians(codes, 0.3), scores.entropies(factors)
    dims, names = [2, 0, 3, 1], [1, 2, 0]
    information = scores.mutual_information(q, factors)
    shuffled = scores.mutual_information(gaussians(codes[:, dims], 0.3), factors[:, names])
    np.testing.assert_allclose(shuffled, information[dims][:, names], atol=1e-12)
    for score in (scores.mig, scores.info_modularity, scores.info_compactness):
        assert score(shuffled, entropy[names]) == pytest.approx(score(information, entropy), abs=1e-12)
    halves = codes[:200], factors[:200], codes[200:], factors[200:]
    moved = codes[:200, dims], factors[:200, names], codes[200:, dims], factors[200:, names]
    assert scores.sap(*moved) == pytest.approx(scores.sap(*halves), abs=1e-9)
    trees = [scores.dci(*case, num_trees=10) for case in (halves, moved)]
    for name in ("disentanglement", "completeness"):
        assert trees[1][name] == pytest.approx(trees[0][name], abs=0.02)  # equal splits are chosen by chance
    votes = [scores.factor_vae_score(codes[:, d], factors[:, n]) for d, n in (([0, 1, 2, 3], [0, 1, 2]), (dims, names))]
    assert votes[1] == pytest.approx(votes[0], abs=0.06)  # other votes are drawn
    assert scores.factor_vae_score(codes[:, dims], factors) == votes[0]


# -------------------------------------------------------------------------------------------------- published formulas


def test_dci_is_the_published_formula():
    table = np.random.default_rng(3).dirichlet(np.full(4, 0.4), size=3).T  # [4, 3]
    by_rows = 1 - scipy.stats.entropy(table.T + 1e-11, base=3)
    by_columns = 1 - scipy.stats.entropy(table + 1e-11, base=4)
    expected = {"disentanglement": by_rows @ table.sum(1) / table.sum(), "completeness": by_columns.mean()}
    assert scores.dci_of(table) == pytest.approx(expected, abs=1e-3)
    assert scores.dci_of(np.eye(3)) == {"disentanglement": 1.0, "completeness": 1.0}
    assert scores.dci_of(np.ones((3, 2))) == pytest.approx({"disentanglement": 0.0, "completeness": 0.0})
    assert scores.dci_of(np.zeros((3, 2))) == {"disentanglement": 0.0, "completeness": 0.0}


def test_infomec_is_the_published_formula():
    factors, codes = entangled()
    information, entropy = scores.histogram_information(codes, factors), scores.entropies(factors)
    relative = (information / entropy).T  # sources by latents
    modular = ((relative.max(0) / relative.sum(0)).mean() - 1 / 3) / (1 - 1 / 3)
    compact = ((relative.max(1) / relative.sum(1)).mean() - 1 / 4) / (1 - 1 / 4)
    assert scores.info_modularity(information, entropy) == pytest.approx(modular, abs=1e-3)
    assert scores.info_compactness(information, entropy) == pytest.approx(compact, abs=1e-3)
    silent = np.concatenate([codes, 1e-3 * codes[:, :1]], axis=1)
    assert scores.active_dimensions(silent).tolist() == [True] * 4 + [False]


def test_sap_of_classes_is_the_gap_of_accuracies():
    factors, codes = entangled()
    train, test = slice(0, 200), slice(200, 400)
    table = np.zeros((4, 3))
    for j, k in itertools.product(range(4), range(3)):
        svm = LinearSVC(C=0.01, class_weight="balanced", random_state=0).fit(codes[train, j : j + 1], factors[train, k])
        table[j, k] = np.mean(svm.predict(codes[test, j : j + 1]) == factors[test, k])
    expected = np.mean([np.sort(column)[-1] - np.sort(column)[-2] for column in table.T])
    assert scores.sap(codes[train], factors[train], codes[test], factors[test]) == pytest.approx(expected, abs=1e-9)


def test_sap_of_numbers_is_the_gap_of_squared_correlations():
    factors, codes = entangled()
    squares = np.array([[scipy.stats.pearsonr(z, v)[0] ** 2 for v in factors.T] for z in codes.T])
    expected = np.mean(np.diff(np.sort(squares, axis=0)[-2:], axis=0))
    silent = np.concatenate([codes, np.zeros((len(codes), 1))], axis=1)
    assert scores.sap(silent, factors, silent, factors, continuous=True) == pytest.approx(expected, abs=1e-9)


def test_factor_vae_votes_as_published():
    factors, codes = entangled(2000)
    rng = np.random.default_rng(5)

    def votes(number):
        table = np.zeros((3, 4))
        for _ in range(number):
            k = rng.integers(3)
            same = codes[factors[:, k] == factors[rng.integers(len(factors)), k]]
            local = np.var(same[rng.integers(len(same), size=64)], axis=0, ddof=1)
            table[k, np.argmin(local / np.var(codes, axis=0, ddof=1))] += 1
        return table

    first, second = votes(1500), votes(1500)
    expected = second[first.argmax(0), np.arange(4)].sum() / second.sum()
    assert scores.factor_vae_score(codes, factors, num_votes=1500) == pytest.approx(expected, abs=0.05)


def test_what_scikit_learn_computes_is_pinned():
    """Other numbers here mean that another scikit-learn fits another classifier: published scores then move, too."""
    factors, codes = entangled()
    halves = codes[:200], factors[:200], codes[200:], factors[200:]
    found = scores.dci(*halves, num_trees=10)
    np.testing.assert_allclose(found["importance"].sum(axis=0), 1.0)
    names = ("disentanglement", "completeness", "informativeness")
    numbers = [found[name] for name in names] + [scores.sap(*halves), scores.info_explicitness(codes, factors)]
    assert numbers == pytest.approx([0.6546, 0.6637, 0.86, 0.1683, 0.8462], abs=5e-3)


# --------------------------------------------------------------------------------------------------------------- errors


def test_what_has_no_score_is_refused():
    with pytest.raises(ValueError, match="factor 1 has the same value"):
        scores.entropies([[0, 1], [1, 1]])
    with pytest.raises(ValueError, match="must be"):
        scores.entropies([0, 1])
    with pytest.raises(ValueError, match="finite"):
        scores.histogram_information([[np.nan], [1.0]], [[0], [1]])
