"""Uses of codes: classes, clusters, normality, outliers. NumPy arrays in, numbers out."""

import math

import numpy as np
import scipy.optimize
import scipy.stats
from sklearn import metrics
from sklearn.cluster import KMeans
from sklearn.linear_model import LogisticRegression
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

ROWS = 1000  # rows of the matrix of distances in memory at once


def linear_probe(train_codes, train_labels, test_codes, test_labels, *, penalty=1.0) -> dict:
    """Return the accuracies of logistic regression on codes [N, D]: the linear information about the class.

    The codes are scaled to mean 0 and variance 1 by the training codes. Returns {"train_accuracy", "test_accuracy"} in
    [0, 1].

    Args:
      train_codes: [N, D].
      train_labels: [N].
      test_codes: [M, D].
      test_labels: [M].
      penalty: the weight of ½ |w|² against the summed log loss.
    """
    classifier = LogisticRegression(C=1.0 / penalty, max_iter=2000)
    return _accuracies(classifier, train_codes, train_labels, test_codes, test_labels)


def knn_probe(train_codes, train_labels, test_codes, test_labels, *, num_neighbors=5) -> dict:
    """Return the accuracies of the majority among the nearest standardised training codes.

    In {"train_accuracy", "test_accuracy"}, each training code counts as its own neighbour.

    Args:
      train_codes: [N, D].
      train_labels: [N].
      test_codes: [M, D].
      test_labels: [M].
      num_neighbors: how many vote.
    """
    classifier = KNeighborsClassifier(n_neighbors=num_neighbors)
    return _accuracies(classifier, train_codes, train_labels, test_codes, test_labels)


def clustering(codes, labels, *, num_clusters, method="kmeans", seed=0) -> dict:
    """Return the agreement between classes and clusters of the codes; the best of ten starts.

    {"accuracy"} is under the best one-to-one assignment of clusters to classes. "nmi" is the normalised mutual
    information with the arithmetic mean. "ari" is the adjusted Rand index, 0 at chance.

    Args:
      codes: [N, D], used without scaling.
      labels: [N], which the clustering does not see.
      num_clusters: the number of clusters.
      method: "kmeans", or "gaussian_mixture" with full covariances; else raises `ValueError`.
      seed: of the starts.
    """
    if method == "kmeans":
        clusters = KMeans(num_clusters, n_init=10, random_state=seed).fit_predict(codes)
    elif method == "gaussian_mixture":
        mixture = GaussianMixture(num_clusters, n_init=10, reg_covar=1e-4, random_state=seed)
        clusters = mixture.fit_predict(np.asarray(codes, np.float64))
    else:
        raise ValueError(f"method: unknown value {method!r} (allowed: gaussian_mixture, kmeans)")
    return {
        "accuracy": assignment_accuracy(labels, clusters),
        "nmi": float(metrics.normalized_mutual_info_score(labels, clusters)),
        "ari": float(metrics.adjusted_rand_score(labels, clusters)),
    }


def assignment_accuracy(labels, clusters) -> float:
    """Return max_π (1/N) Σ_n 1[label_n = π(cluster_n)] over one-to-one maps π, by the Hungarian method."""
    counts = metrics.cluster.contingency_matrix(labels, clusters)
    rows, columns = scipy.optimize.linear_sum_assignment(counts, maximize=True)
    return float(counts[rows, columns].sum() / len(labels))


def normality(codes) -> dict:
    """Measure how far the codes [N, D] are from a Gaussian, and how far that Gaussian is from N(0, I).

    `henze_zirkler` is the statistic of Henze and Zirkler (1990). It is N times the squared distance between the
    characteristic functions of the whitened codes and of N(0, I), weighted by a Gaussian of width β. Affine maps of the
    codes do not change it. For normal codes it is about log-normal with the moments of the paper, scaled here to mean
    1; `p_value` is the upper tail. For other codes it grows with N. Compare only at equal N and D, and only at D ≪ N:
    in many dimensions kernels around points hardly overlap.

    `kl_to_standard` is KL(N(m, S) || N(0, I)) = ½ (tr S + |m|² - D - log |S|) in nats, m and S the moments of the
    codes. A prior N(0, I) pays it even if the codes are normal. For any density q(z) of theirs, KL(q || N(0, I)) = KL(q
    || N(m, S)) + KL(N(m, S) || N(0, I)).

    Raises `ValueError` if S is singular: the codes then have no density, and dimensions must be dropped first.
    """
    codes = np.asarray(codes, np.float64)
    size, dim = codes.shape
    mean, covariance = codes.mean(0), np.atleast_2d(np.cov(codes.T, bias=True))
    rank = np.linalg.matrix_rank(covariance, hermitian=True)
    if rank < dim:
        raise ValueError(
            f"codes of {dim} dimensions whose covariance has rank {rank}: drop dimensions without variance"
        )
    white = np.linalg.solve(np.linalg.cholesky(covariance), (codes - mean).T).T
    statistic = _henze_zirkler(white)
    centre, variance = _null_moments(size, dim)
    log_variance = math.log1p(variance / centre**2)
    null = scipy.stats.lognorm(s=math.sqrt(log_variance), scale=centre * math.exp(-0.5 * log_variance))
    log_det = np.linalg.slogdet(covariance)[1]
    return {
        "henze_zirkler": float(statistic / centre),
        "p_value": float(null.sf(statistic)),
        "kl_to_standard": 0.5 * float(np.trace(covariance) + mean @ mean - dim - log_det),
    }


def _henze_zirkler(white):
    """Return (1/N) Σ_ij e^{-β²|y_i-y_j|²/2} - 2 (1+β²)^{-D/2} Σ_i e^{-β²|y_i|²/(2+2β²)} + N (1+2β²)^{-D/2}."""
    size, dim = white.shape
    square, norms = _width(size, dim), np.sum(white**2, axis=1)
    pairs = 0.0
    for start in range(0, size, ROWS):
        part = slice(start, start + ROWS)
        distances = norms[part, None] + norms[None] - 2.0 * white[part] @ white.T
        pairs += np.exp(-0.5 * square * distances).sum()
    single = np.exp(-0.5 * square / (1 + square) * norms).sum()
    return pairs / size - 2 * (1 + square) ** (-dim / 2) * single + size * (1 + 2 * square) ** (-dim / 2)


def _width(size, dim):
    """Return β² = ½ (N (2D + 1) / 4)^{2/(D+4)}."""
    return 0.5 * (size * (2 * dim + 1) / 4) ** (2 / (dim + 4))


def _null_moments(size, dim):
    """Return mean and variance of the statistic of N(m, S) for large N (Henze and Zirkler 1990, theorem 3.2)."""
    b = _width(size, dim)
    a, w, d = 1 + 2 * b, (1 + b) * (1 + 3 * b), dim
    mean = 1 - a ** (-d / 2) * (1 + d * b / a + d * (d + 2) * b**2 / (2 * a**2))
    variance = 2 * (1 + 4 * b) ** (-d / 2)
    variance += 2 * a**-d * (1 + 2 * d * b**2 / a**2 + 3 * d * (d + 2) * b**4 / (4 * a**4))
    variance -= 4 * w ** (-d / 2) * (1 + 3 * d * b**2 / (2 * w) + d * (d + 2) * b**4 / (2 * w**2))
    return mean, variance


def outlier_detection(inlier_scores, outlier_scores) -> dict:
    """Return how well a score separates inliers [N] from outliers [M], whose scores should be larger.

    `auroc` is P(outlier's > inlier's) + ½ P(equal), ½ at chance. `aupr` is the mean precision over recall with outliers
    as the positives, M / (N + M) at chance. `fpr_at_95` is the share of inliers above a threshold that at least 95 % of
    the outliers reach. Published figures often take inliers as the positives; aupr and fpr_at_95 then differ.
    """
    scores = np.concatenate([inlier_scores, outlier_scores])
    is_outlier = np.arange(len(scores)) >= len(inlier_scores)
    false, true, _ = metrics.roc_curve(is_outlier, scores, drop_intermediate=False)
    return {
        "auroc": float(metrics.roc_auc_score(is_outlier, scores)),
        "aupr": float(metrics.average_precision_score(is_outlier, scores)),
        "fpr_at_95": float(false[np.argmax(true >= 0.95)]),
    }


def _accuracies(classifier, train_codes, train_labels, test_codes, test_labels):
    fitted = make_pipeline(StandardScaler(), classifier).fit(train_codes, train_labels)
    return {
        "train_accuracy": float(fitted.score(train_codes, train_labels)),
        "test_accuracy": float(fitted.score(test_codes, test_labels)),
    }
