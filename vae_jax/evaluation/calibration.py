"""How well draws of p(x|y) describe the true x: ranks, coverage of intervals, CRPS, and the scores of point estimates.

The functions take S draws [S, ...] of one y and the truth [...], in NumPy. If truth and draws come from the same
distribution, the rank of the truth among the draws is uniform on 0, ..., S (arXiv:1804.06788).
"""

import math

import numpy as np


def ranks(draws, truth, rng):
    """Return the rank of each entry of `truth` among the draws, 0 .. S; ties are broken at random by `rng`."""
    below = np.sum(draws < truth[None], axis=0)
    return below + rng.integers(0, np.sum(draws == truth[None], axis=0) + 1)


def covered(rank, num_draws, level):
    """Return how much of each rank lies in the central interval of probability `level`: 1 inside, 0 outside.

    A rank r stands for the probabilities [r, r + 1] / (S + 1). A rank that the interval cuts counts by its share, so
    that the mean is `level` for uniform ranks and any S.
    """
    low, high = 0.5 * (1.0 - level), 0.5 * (1.0 + level)
    width = 1.0 / (num_draws + 1.0)
    left, right = rank * width, (rank + 1.0) * width
    return np.clip((np.minimum(right, high) - np.maximum(left, low)) / width, 0.0, 1.0)


def crps(draws, truth):
    """Return the continuous ranked probability score of each entry, E|X - x| - ½ E|X - X'|; lower is better.

    doi:10.1198/016214506000001437 eq. (21), with the unbiased estimate of E|X - X'| from different draws.
    """
    size = len(draws)
    ordered = np.sort(np.asarray(draws, np.float64), axis=0)
    weights = 2.0 * np.arange(1, size + 1) - size - 1.0
    spread = 2.0 * np.tensordot(weights, ordered, axes=1) / max(size * (size - 1), 1)
    return np.mean(np.abs(ordered - truth[None]), axis=0) - 0.5 * spread


def energy(draws, truth) -> float:
    """Return the energy score of the whole image, E|X - x| - ½ E|X - X'| with Euclidean norms; lower is better.

    doi:10.1198/016214506000001437 eq. (22).
    """
    draws, truth = np.asarray(draws, np.float64).reshape(len(draws), -1), np.ravel(truth)
    squares = np.sum(np.square(draws), axis=1)
    distances = np.sqrt(np.maximum(squares[:, None] + squares[None] - 2.0 * draws @ draws.T, 0.0))
    np.fill_diagonal(distances, 0.0)
    size = len(draws)
    to_truth = np.mean(np.linalg.norm(draws - truth[None], axis=1))
    return float(to_truth - 0.5 * np.sum(distances) / max(size * (size - 1), 1))


def projections(shape, number, seed=0):
    """Return `number` linear functionals of images [N, *shape]: the mean, and random directions of unit length."""
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(number, math.prod(shape)))
    rows[0] = 1.0
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).reshape(number, *shape)


def psnr(estimate, truth, *, peak) -> float:
    """Return the peak signal-to-noise ratio of an image, 10 log10(peak² / mean squared error), in decibels."""
    error = np.mean(np.square(np.asarray(estimate, np.float64) - truth))
    return float(10.0 * np.log10(peak**2 / np.maximum(error, 1e-12 * peak**2)))


def ssim(estimate, truth, *, peak) -> float:
    """Return the structural similarity of two images [H, W, C], at most 1, doi:10.1109/TIP.2003.819861.

    It is `skimage.metrics.structural_similarity` with its windows of 7 x 7 pixels, or smaller for smaller images.
    Raises `ImportError` without the extra `restoring`.
    """
    structural_similarity = similarity()
    side = min(7, *truth.shape[:2])
    options = {"data_range": peak, "channel_axis": -1, "win_size": side - (side % 2 == 0)}
    return float(structural_similarity(np.asarray(estimate, np.float64), np.asarray(truth, np.float64), **options))


def similarity():
    """Return the function of scikit-image that `ssim` calls. Raises `ImportError` without the extra `restoring`."""
    try:
        from skimage.metrics import structural_similarity
    except ImportError as error:
        raise ImportError("SSIM needs scikit-image: pip install 'vae_jax[restoring]'") from error
    return structural_similarity


def of_draws(draws, truth, *, hidden=None, num_projections=4, levels=(0.5, 0.9), rng=None) -> dict:
    """Return the scores of the draws [S, *event] of one y: `crps`, `energy`, `coverage_50`, `coverage_90`, and more.

    `coverage_*` are means over entries, `projected_*` those of linear functionals (`projections`).

    Args:
      draws: the draws.
      truth: the true image.
      hidden: True for the entries that are scored; None for all. Shown entries would count as always right.
      num_projections: the number of functionals.
      levels: the probabilities of the central intervals.
      rng: for ties; by default a fixed one.
    """
    rng = np.random.default_rng(0) if rng is None else rng
    draws, truth = np.asarray(draws, np.float64), np.asarray(truth, np.float64)
    hidden = np.ones(truth.shape, bool) if hidden is None else hidden
    size, inside, true = len(draws), draws[:, hidden], truth[hidden]
    directions = projections(inside.shape[1:], num_projections)
    sums = inside @ directions.T, directions @ true
    scores = {"crps": float(np.mean(crps(inside, true))), "energy": energy(inside, true)}
    for kind, rank in (("coverage", ranks(inside, true, rng)), ("projected", ranks(*sums, rng))):
        for level in levels:
            scores[f"{kind}_{round(100 * level)}"] = float(np.mean(covered(rank, size, level)))
    return scores | {"spread": float(np.mean(np.std(inside, axis=0)))}


def summary(scores) -> dict:
    """Return {name: (mean, standard error)} of a list of dicts of scores, one for each image; NaN is left out."""
    result = {}
    for name in scores[0]:
        values = np.array([one[name] for one in scores], np.float64)
        values = values[~np.isnan(values)]
        if len(values):
            error = np.std(values, ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
            result[name] = (float(np.mean(values)), float(error))
    return result
