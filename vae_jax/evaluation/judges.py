"""Judges of images, and the latent directions that follow them. NumPy arrays in, numbers out.

A judge is any function images [N, ...] -> numbers [N] that does not know the codes: a rule, a network, a person. If z_1
has a meaning, such as "smile", a judge of smiles must confirm it.

`smile` and `yaw` are rules for frames of 28x20 pixels, cut so that the eyes are in one place: Frey's film of one face.
They read dark lines and spots, that is, how much darker a pixel is than the closing of its 5x5 neighbourhood, in units
of the standard deviation of the image. They order the frames of one person, and are no measure between persons.
"""

import math

import numpy as np
from scipy import ndimage, stats

FRAME = (28, 20)
EYES = slice(4, 11), slice(2, 18)  # rows and columns of a frame
NOSE = slice(11, 17), slice(5, 15)
MOUTH = slice(17, 25), slice(3, 17)
BESIDE_MOUTH = slice(13, 26)  # rows of folds and of the corners of the mouth
LIP_ROW = 19.0
CORNERS = 2.5, 6.5  # columns from the axis of the nose
SHARPNESS = 8  # power of a score whose weighted mean stands for its maximum


def smile(images):
    """Return the degree of smile [N]: the dark lines beside the lips, weighted by their height above the lips.

    A smile lifts and widens the corners of the mouth, and makes folds beside the nose, which count as positive. Corners
    that hang down are negative, and a straight mouth adds 0. Lines are read 2.5 to 6.5 columns from the nose.

    Args:
      images: [N, 28, 20] or [N, 28, 20, 1], on any scale.
    """
    dark = _dark_lines(images)
    rows, columns = np.arange(FRAME[0])[BESIDE_MOUTH], np.arange(FRAME[1])
    distance = np.abs(columns - _axis(dark, NOSE)[:, None])
    beside = (CORNERS[0] <= distance) & (distance <= CORNERS[1])
    return np.einsum("nrc,r,nc->n", dark[:, BESIDE_MOUTH], LIP_ROW - rows, beside.astype(float))


def yaw(images):
    """Return how far the head is turned [N]: columns by which the axes of nose and mouth are right of that of the eyes.

    Nose and mouth lie nearer to the camera than the eyes, and move further when the head turns. The axis of a part is
    the column about which its dark spots are most symmetric. The mirror image has the opposite sign.

    Args:
      images: [N, 28, 20] or [N, 28, 20, 1], on any scale.
    """
    dark = _dark_lines(images)
    return 0.5 * (_axis(dark, NOSE) + _axis(dark, MOUTH)) - _axis(dark, EYES)


def _dark_lines(images):
    images = np.asarray(images, np.float64)
    if images.shape[1:] not in (FRAME, (*FRAME, 1)):
        raise ValueError(f"frames [N, 28, 20] of one channel are required, got the shape {list(images.shape)}")
    images = images.reshape(-1, *FRAME)
    dark = ndimage.grey_closing(images, size=(1, 5, 5), mode="nearest") - images
    contrast = images.std(axis=(1, 2), keepdims=True)
    return ndimage.gaussian_filter(dark / np.where(contrast > 0, contrast, 1.0), (0, 0.6, 0.6))


def _axis(dark, window):
    """Return the column c [N] of the largest Σ_ru d(r, c-u) d(r, c+u), d the dark lines in a window of the frame.

    The sum over u is the convolution of a row with itself, at 2c.
    """
    part = dark[:, *window]
    size = part.shape[2]
    spectrum = np.fft.rfft(part, 2 * size)
    score = np.maximum(np.fft.irfft(np.sum(spectrum**2, axis=1), 2 * size)[:, :-1], 0.0)
    weights = (score / np.maximum(score.max(axis=1, keepdims=True), 1e-12)) ** SHARPNESS + 1e-12
    return window[1].start + 0.5 * weights @ np.arange(2 * size - 1) / weights.sum(axis=1)


def rank_correlation(codes, judgements, *, num_permutations=999, block=1, seed=0):
    """Return Spearman's ρ of every dimension with every judge [D, J], and the p-values of a permutation test [D, J].

    p is the share of permutations of the examples, this one included, in which |ρ| is at least as large. It is that of
    one pair: the smallest of several must be multiplied by their number.

    Args:
      codes: [N, D].
      judgements: [N, J], a column for each judge.
      num_permutations: beside the true order.
      block: successive examples that stay together. In a film neighbours are alike, so permutations of single frames
        find everything significant: choose blocks longer than an expression lasts.
      seed: of the permutations.
    """
    z, y = _ranks(codes), _ranks(judgements)
    if len(z) != len(y):
        raise ValueError(f"as many codes as judgements are required, got {len(z)} and {len(y)}")
    if not 1 <= block <= len(z) // 2:
        raise ValueError(f"block must be from 1 to {len(z) // 2}, half of the examples, got {block}")
    rho, rng = z.T @ y, np.random.default_rng(seed)
    blocks = np.array_split(np.arange(len(z)), len(z) // block)
    as_large = np.ones_like(rho)
    for _ in range(num_permutations):
        order = np.concatenate([blocks[i] for i in rng.permutation(len(blocks))])
        as_large += np.abs(z.T @ y[order]) >= np.abs(rho) - 1e-12
    return rho, as_large / (num_permutations + 1)


def directions(codes, judgements):
    """Return axes A [D, J], so that column j of `codes @ A` follows judge j.

    The turned codes are uncorrelated over the examples and have variance 1; among all such A, this one has the largest
    sum of correlations with the ranks of the judges. With whitened codes it is U Vᵀ of the singular values of their
    covariance with the ranks, U S Vᵀ (orthogonal Procrustes). It is a rotation, or a reflection, if the codes have
    the covariance I, as those of a prior N(0, I) that is filled.

    Args:
      codes: [N, D], dimensions that do not vary count nothing.
      judgements: [N, J], J at most the number of dimensions that vary.
    """
    codes, ranks = np.asarray(codes, np.float64), _ranks(judgements)
    white, scale, turn = np.linalg.svd(codes - codes.mean(axis=0), full_matrices=False)
    rank = int(np.sum(scale > 1e-9 * scale[0]))
    if rank < ranks.shape[1]:
        raise ValueError(f"{rank} dimensions that vary cannot follow {ranks.shape[1]} judges")
    u, _, vt = np.linalg.svd(white[:, :rank].T @ ranks, full_matrices=False)
    return math.sqrt(len(codes)) * (turn[:rank].T / scale[:rank]) @ u @ vt


def _ranks(values):
    """Return the ranks of the columns of [N, M], centred and of length 1; zeros for a constant column."""
    ranks = stats.rankdata(np.asarray(values, np.float64), axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.linalg.norm(ranks, axis=0)
    return ranks / np.where(length > 0, length, 1.0)
