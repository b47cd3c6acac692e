"""Scores of disentanglement: does one latent dimension stand for one factor? NumPy arrays in, numbers out.

There are N examples, D latent dimensions z_j, and K factors v_k, which take finitely many values. Scores are 1 if every
dimension is a copy of one factor. Codes [N, D] are means of q(z|x), as in the published scores: samples give others.
Published scores also depend on the factors that are counted. Some leave out the shape of dSprites, and the orientation
of a square cannot be known. Between seeds a score varies more than between methods (arXiv:1811.12359): report several.

    q      diagonal Gaussians q(z|x_n), arrays [N, D]    `mutual_information`, exact
    codes  [N, D], any numbers                           `histogram_information`, 20 bins, and all other scores
"""

import math

import numpy as np
from scipy import special
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from vae_jax.distributions import Normal

REACH = 8.5  # standard deviations; a Gaussian has 2e-17 of its mass beyond
SPACINGS = 2.0  # spacings of the grid in the smallest standard deviation
MARGIN = 20  # points of the grid beyond the reach, for the noise that a coarse grid adds
NARROWEST = 1e-9  # width of a grid, relative to its place: codes that are closer are the same
DCI = ("disentanglement", "completeness", "informativeness")
VALUES_AT_ONCE = 2**20  # densities in memory at once


def scores(q, factors, *, seed=0, num_trees=100) -> dict:
    """Return all scores of this module {name: number}, and the MIG both exactly and with the published 20 bins.

    The classifiers of DCI and SAP learn from the first half of the examples and are tested on the second.

    Args:
      q: q(z|x) of every example, a `Normal` with arrays [N, D] (`latents.posteriors`).
      factors: the values of the factors [N, K], in random order.
      seed: of the trees and votes.
      num_trees: for each value of a factor in DCI, by far the most expensive score; 0 leaves DCI out.
    """
    information, entropy = mutual_information(q, factors), entropies(factors)
    factors, codes = np.asarray(factors), np.asarray(q.mean(), np.float64).reshape(len(factors), -1)
    active, half = active_dimensions(codes), len(codes) // 2
    halves = codes[:half], factors[:half], codes[half:], factors[half:]
    trees = dci(*halves, seed=seed, num_trees=num_trees) if num_trees else {}
    return {
        "mig": mig(information, entropy),
        "mig_20_bins": mig(histogram_information(codes, factors), entropy),
        "sap": sap(*halves, seed=seed),
        "factor_vae": factor_vae_score(codes, factors, seed=seed),
        **{f"dci_{name}": trees[name] for name in DCI if name in trees},
        "info_m": info_modularity(information, entropy, active),
        "info_c": info_compactness(information, entropy, active),
        "info_e": info_explicitness(codes, factors),
    }


# ----------------------------------------------------------------------------------------------- mutual information


def entropies(factors):
    """Return H(v_k) [K] of the factors [N, K] over these examples, in nats."""
    return np.array([special.entr(np.bincount(column) / len(column)).sum() for column in _numbered(factors).T])


def mutual_information(q, factors, *, num_points=4097):
    """Return I(z_j; v_k) [D, K] in nats, z ~ q(z|x), by quadrature over z_j and enumeration of the values v.

    I(z_j; v_k) = Σ_v p(v) ∫ q(z_j|v) log q(z_j|v) / q(z_j) dz_j, where q(z_j|v) is the mean of q(z_j|x_n) over the
    examples with v_k = v: arXiv:1802.04942 sec. 4, without its sampling. The trapezoid rule has `num_points`.
    If its spacing h exceeds half the smallest standard deviation s, z_j gets noise of variance 4h² - s². The result is
    then a lower bound, because noise cannot add information.

    The N examples stand for all x. If the posteriors of the examples of one value hardly overlap, then chance adds
    information, up to H(v_k). The result of shuffled factors shows how much.

    Args:
      q: a `Normal` whose arrays have a leading axis N; else raises `TypeError`.
      factors: [N, K].
      num_points: of the grid.
    """
    if not isinstance(q, Normal):
        raise TypeError(f"z_j must be Gaussian given x, and this is a {type(q).__name__}: use `histogram_information`")
    numbered = _numbered(factors)
    loc, log_scale = (np.asarray(a, np.float64).reshape(len(numbered), -1) for a in (q.loc, q.log_scale))
    joints = (_joint(*column, numbered, num_points) for column in zip(loc.T, np.exp(log_scale).T, strict=True))
    return np.array([[_information(joint) for joint in of_dimension] for of_dimension in joints])


def histogram_information(codes, factors, *, num_bins=20):
    """Return I(bin of z_j; v_k) [D, K] in nats, from counts in even bins between the smallest and the largest z_j.

    This is the estimate behind most published values of MIG, with 20 bins of posterior means (arXiv:1811.12359).
    """
    numbered, codes = _numbered(factors), _codes(codes, factors)
    information = np.zeros((codes.shape[1], numbered.shape[1]))
    for j, z in enumerate(codes.T):
        place = np.digitize(z, np.linspace(z.min(), z.max(), num_bins + 1)[1:-1])
        for k, v in enumerate(numbered.T):
            joint = np.zeros((v.max() + 1, num_bins))
            np.add.at(joint, (v, place), 1.0 / len(z))
            information[j, k] = _information(joint)
    return information


def _joint(loc, scale, numbered, num_points):
    """Return for each factor p(v, z) h [V, G] on a grid of spacing h, p(v) q(z|v) of one latent dimension."""
    low, high = np.min(loc - REACH * scale), np.max(loc + REACH * scale)
    step = max(high - low, NARROWEST * (1.0 + abs(low))) / (num_points - 1 - 2 * MARGIN)
    grid = low + step * (np.arange(num_points) - MARGIN)
    scale = np.sqrt(scale**2 + max(0.0, (SPACINGS * step) ** 2 - scale.min() ** 2))
    members = [np.eye(v.max() + 1)[:, v] for v in numbered.T]  # [V, N]
    joint = np.zeros((sum(map(len, members)), num_points))
    stacked, rows = np.concatenate(members), max(1, VALUES_AT_ONCE // num_points)
    for start in range(0, len(loc), rows):
        part = slice(start, start + rows)
        epsilon = (grid[None] - loc[part, None]) / scale[part, None]
        joint += stacked[:, part] @ (np.exp(-0.5 * epsilon**2) / scale[part, None])
    joint *= step / (math.sqrt(2.0 * math.pi) * len(loc))
    joint[joint < 1e-290] = 0.0
    return np.split(joint, np.cumsum([len(one) for one in members])[:-1])


def _information(joint):
    """Return Σ_vz p(v, z) log p(v, z) / (p(v) p(z)) of a table [V, G]."""
    independent = joint.sum(axis=1, keepdims=True) * joint.sum(axis=0, keepdims=True)
    return max(0.0, special.rel_entr(joint, independent).sum())


# --------------------------------------------------------------------------------------------- scores of information


def mig(information, entropy) -> float:
    """Return the mutual information gap: the mean over k of (I(z_j*; v_k) - max_{j≠j*} I(z_j; v_k)) / H(v_k).

    arXiv:1802.04942 sec. 4; j* is the most informative dimension, `information` is [D, K], `entropy` [K].
    """
    first, second = _best_two(information)
    return float(np.mean((first - second) / entropy))


def info_modularity(information, entropy, active=None) -> float:
    """Return InfoM, which is 1 if every active dimension tells about one factor only, and 0 if about all alike.

    With N_jk = I(z_j; v_k) / H(v_k) it is (mean_j max_k N_jk / Σ_k N_jk - 1/K) / (1 - 1/K).  arXiv:2305.18378.

    Args:
      information: [D, K].
      entropy: [K].
      active: which dimensions count [D], such as `active_dimensions`; None for all that have any information.
    """
    return _largest_share(_normalised(information, entropy, active))


def info_compactness(information, entropy, active=None) -> float:
    """Return InfoC, which is 1 if every factor is in one dimension only, and 0 if in all active dimensions alike.

    It is (mean_k max_j N_jk / Σ_j N_jk - 1/D) / (1 - 1/D), D the number of active dimensions, of the N_jk and the
    arguments of `info_modularity`.  arXiv:2305.18378.
    """
    return _largest_share(_normalised(information, entropy, active).T)


def info_explicitness(codes, factors) -> float:
    """Return InfoE: the share of H(v_k) that multinomial logistic regression on the codes predicts, mean over k.

    It is 1 - (mean of -log p(v_k|z)) / H(v_k), without a penalty, on the examples of the fit.  arXiv:2305.18378.
    The authors' code weights classes evenly; values of equal frequency make no difference. With a few hundred examples
    it is far above 0 for any codes: take thousands.
    """
    numbered, codes = _numbered(factors), StandardScaler().fit_transform(_codes(codes, factors))
    regression = LogisticRegression(C=np.inf, max_iter=1000)
    left = [log_loss(v, regression.fit(codes, v).predict_proba(codes)) for v in numbered.T]
    return float(np.mean(1.0 - np.array(left) / entropies(factors)))


def active_dimensions(codes, fraction=0.05):
    """Return which dimensions [D] have more than `fraction` of the widest range, as in the code of InfoMEC."""
    widths = np.ptp(np.asarray(codes, np.float64), axis=0)
    return widths > fraction * widths.max()


def _normalised(information, entropy, active):
    normalised = np.asarray(information) / entropy
    return normalised[normalised.sum(axis=1) > 0 if active is None else active]


def _largest_share(table):
    """Return the mean over rows of the largest share of a row [M], on the scale where equal shares are 0.

    An empty table has 0, and one with a single column 1.
    """
    if not table.any() or table.shape[1] == 1:
        return float(table.any())
    total, even = table.sum(axis=1), 1.0 / table.shape[1]
    shares = np.where(total > 0, table.max(axis=1) / np.where(total > 0, total, 1.0), even)
    return float((shares.mean() - even) / (1.0 - even))


# ---------------------------------------------------------------------------------------------------- classifiers


def dci(train_codes, train_factors, test_codes, test_factors, *, seed=0, num_trees=100) -> dict:
    """Return disentanglement, completeness and informativeness from the importances R [D, K] of gradient boosting.

    The keys are those of `dci_of`, "informativeness", the mean test accuracy, "train_accuracy" and "importance", R.
    openreview:By-7dz-AZ sec. 2; the classifier is that of arXiv:1811.12359, with scikit-learn's defaults, which differ
    between its versions.

    Args:
      train_codes: [N, D].
      train_factors: [N, K].
      test_codes: [M, D].
      test_factors: [M, K].
      seed: of the trees.
      num_trees: for each value of a factor.
    """
    train, test = _together(train_factors, test_factors)
    train_codes, test_codes = _codes(train_codes, train), _codes(test_codes, test)
    importance, accuracies = [], []
    for v, held_out in zip(train.T, test.T, strict=True):
        trees = GradientBoostingClassifier(n_estimators=num_trees, random_state=seed).fit(train_codes, v)
        importance.append(np.abs(trees.feature_importances_))
        accuracies.append((trees.score(train_codes, v), trees.score(test_codes, held_out)))
    importance, (on_train, on_test) = np.stack(importance, axis=1), np.mean(accuracies, axis=0)
    found = {"informativeness": float(on_test), "train_accuracy": float(on_train), "importance": importance}
    return {**dci_of(importance), **found}


def dci_of(importance) -> dict:
    """Return {"disentanglement", "completeness"} of importances R [D, K], which are not negative.

    Disentanglement is Σ_j ρ_j (1 - H(R_j: / Σ_k R_jk) / log K), ρ_j the share of row j in all of R. Completeness is the
    same of the columns, with log D.  openreview:By-7dz-AZ sec. 2.
    """
    importance = np.asarray(importance, np.float64)
    return {"disentanglement": _concentration(importance), "completeness": _concentration(importance.T)}


def _concentration(table):
    total = table.sum(axis=1)
    if not table.any() or table.shape[1] == 1:
        return float(table.any())
    shares = table / np.where(total > 0, total, 1.0)[:, None]
    return float(total @ (1.0 - special.entr(shares).sum(axis=1) / math.log(table.shape[1])) / total.sum())


def sap(train_codes, train_factors, test_codes, test_factors, *, continuous=False, seed=0) -> float:
    """Return the SAP: the mean over factors of the gap between the best two dimensions' scores S_jk.

    S_jk is the test accuracy of a linear SVM (C = 0.01, balanced classes) that predicts v_k from z_j. For `continuous`
    factors it is the squared correlation of z_j and v_k over the training codes.  arXiv:1711.00848 sec. 3; the SVM is
    that of arXiv:1811.12359.

    Args:
      train_codes: [N, D], in their own units, on which a penalised SVM depends.
      train_factors: [N, K].
      test_codes: [M, D].
      test_factors: [M, K].
      continuous: True if the values are numbers with an order.
      seed: of the SVM.
    """
    train, test = _together(train_factors, test_factors)
    train_codes, test_codes = _codes(train_codes, train), _codes(test_codes, test)
    if continuous:
        varies, num_dims = np.ptp(train_codes, axis=0) > 0, train_codes.shape[1]
        table = np.zeros((num_dims, train.shape[1]))
        numbers = np.asarray(train_factors, np.float64)
        table[varies] = np.corrcoef(train_codes[:, varies].T, numbers.T)[: varies.sum(), varies.sum() :] ** 2
    else:
        svm = LinearSVC(C=0.01, class_weight="balanced", random_state=seed)
        pairs = [(a[:, None], b[:, None]) for a, b in zip(train_codes.T, test_codes.T, strict=True)]
        of_pair = lambda a, b: [svm.fit(a, v).score(b, w) for v, w in zip(train.T, test.T, strict=True)]  # noqa: E731
        table = np.array([of_pair(a, b) for a, b in pairs])
    first, second = _best_two(table)
    return float(np.mean(first - second))


def factor_vae_score(codes, factors, *, num_votes=800, num_together=64, least_scale=0.05, seed=0) -> float:
    """Return the accuracy in [0, 1] with which the dimension of least variance tells which factor was held fixed.

    A vote: choose a factor and one of its values, take `num_together` examples with this value, and name the dimension
    whose variance, divided by that over all data, is smallest. A table of `num_votes` votes gives each dimension its
    most frequent factor, and as many new votes test the table.  arXiv:1802.05983 sec. 4.

    Args:
      codes: [N, D], in units of the prior.
      factors: [N, K].
      num_votes: in the table, and again in the test.
      num_together: examples a vote, drawn with replacement from those of the value.
      least_scale: dimensions with a smaller standard deviation have collapsed and are left out.
      seed: of the votes.
    """
    numbered, codes = _numbered(factors), _codes(codes, factors)
    scale = codes.std(axis=0, ddof=1)
    active = scale >= least_scale
    if not active.any():
        return 0.0
    z, rng = codes[:, active] / scale[active], np.random.default_rng(seed)
    members = [[np.flatnonzero(v == value) for value in range(v.max() + 1)] for v in numbered.T]

    def votes():
        table = np.zeros((len(members), z.shape[1]))
        for k, n in zip(rng.integers(len(members), size=num_votes), rng.integers(len(z), size=num_votes), strict=True):
            chosen = rng.choice(members[k][numbered[n, k]], num_together)
            table[k, np.argmin(np.var(z[chosen], axis=0))] += 1
        return table

    named = np.argmax(votes(), axis=0)
    return float(votes()[named, np.arange(z.shape[1])].sum() / num_votes)


# ---------------------------------------------------------------------------------------------------------- arrays


def _best_two(table):
    """Return the largest and the second largest entry of every column of [D, K]; 0 is the second if D = 1."""
    ordered = np.sort(np.asarray(table), axis=0)
    return ordered[-1], ordered[-2] if len(ordered) > 1 else np.zeros_like(ordered[-1])


def _numbered(factors):
    """Return the factors [N, K] with their values numbered 0, 1, 2, ... Raise `ValueError` for a constant factor."""
    factors = np.asarray(factors)
    if factors.ndim != 2:
        raise ValueError(f"factors must be [N, K], got the shape {list(factors.shape)}")
    numbered = np.stack([np.unique(column, return_inverse=True)[1] for column in factors.T], axis=1)
    if constant := np.flatnonzero(numbered.max(axis=0) == 0).tolist():
        raise ValueError(f"factor {constant[0]} has the same value in all {len(factors)} examples: leave it out")
    return numbered


def _together(train, test):
    """Return the factors of two sets, numbered alike."""
    numbered = _numbered(np.concatenate([train, test]))
    return numbered[: len(train)], numbered[len(train) :]


def _codes(codes, factors):
    """Return codes as float64 [N, D]. Raise `ValueError` if they are not finite, or not as many as the factors."""
    codes = np.asarray(codes, np.float64)
    if codes.ndim != 2 or len(codes) != len(factors) or not np.isfinite(codes).all():
        raise ValueError(f"codes must be finite numbers [{len(factors)}, D], got the shape {list(codes.shape)}")
    return codes
