"""How near draws of a model are to data, measured on features of images. NumPy arrays in, numbers out, in float64.

Features are rows [N, D]. All numbers depend on the features and on N, so that they can be compared only for the same
features and the same N. The number of training data against test data is the floor: no model needs to be below it.
"""

import numpy as np

ROWS = 1000  # rows of a matrix of distances in memory at once
BLOCKS = 10  # disjoint parts of the examples, whose spread gives standard errors
SUBSET = 1000  # at most so many examples of each set in a block of the kernel distance


def frechet(a, b) -> float:
    """Return the Fréchet distance of Gaussians with the moments of features a [N, D] and b [M, D], arXiv:1706.08500.

    ‖μ₁ - μ₂‖² + tr(Σ₁ + Σ₂ - 2 (Σ₁^½ Σ₂ Σ₁^½)^½), in squared units of a feature. It falls with the number of examples
    even between sets of one distribution: compare equal numbers.
    """
    (mean_a, cov_a), (mean_b, cov_b) = _moments(a), _moments(b)
    return frechet_of_moments(mean_a, cov_a, mean_b, cov_b)


def frechet_of_moments(mean_a, cov_a, mean_b, cov_b) -> float:
    """Return the Fréchet distance of two Gaussians: means [D], covariances [D, D]."""
    values, vectors = np.linalg.eigh(cov_a)
    root = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    product = root @ cov_b @ root
    overlap = np.sum(np.sqrt(np.maximum(np.linalg.eigvalsh(0.5 * (product + product.T)), 0.0)))
    return float(np.sum(np.square(mean_a - mean_b)) + np.trace(cov_a) + np.trace(cov_b) - 2.0 * overlap)


def frechet_error(a, b) -> float:
    """Return the standard error of `frechet`: the jackknife that leaves out one of ten blocks of both sets."""
    parts_a, parts_b = _blocks(a, BLOCKS), _blocks(b, BLOCKS)
    without = [
        frechet(np.concatenate(parts_a[:n] + parts_a[n + 1 :]), np.concatenate(parts_b[:n] + parts_b[n + 1 :]))
        for n in range(BLOCKS)
    ]
    return float(np.sqrt((BLOCKS - 1) * np.var(without)))


def frechet_at_infinity(a, b, *, num_sizes=10, seed=0) -> float:
    """Return the Fréchet distance extrapolated to infinitely many examples: the intercept of a line in 1/N.

    arXiv:1911.07023 sec. 4. The sizes N lie evenly in 1/N, from a tenth of the examples to all of them.
    """
    size, rng = min(len(a), len(b)), np.random.default_rng(seed)
    inverse = np.linspace(1.0, BLOCKS, num_sizes) / size
    sizes = np.maximum(np.round(1.0 / inverse).astype(int), 2)
    values = [frechet(*(x[rng.permutation(len(x))[:n]] for x in map(np.asarray, (a, b)))) for n in sizes]
    return float(np.polyfit(1.0 / sizes, values, 1)[1])


def kernel_distance(a, b) -> tuple[float, float]:
    """Return MMD² of features a [N, D] and b [M, D] under k(x, y) = (x·y/D + 1)³, and its standard error.

    The unbiased estimate of arXiv:1801.01401 sec. 4.1, averaged over disjoint blocks of at most 1000 examples of each
    set. There are at least ten blocks, so that their spread gives the error. It may be below 0.
    """
    count = max(BLOCKS, min(len(a), len(b)) // SUBSET)
    values = [squared_mmd(x, y) for x, y in zip(_blocks(a, count), _blocks(b, count), strict=True)]
    return float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(count))


def squared_mmd(a, b) -> float:
    """Return the unbiased MMD² of features a [N, D] and b [M, D] under the cubic kernel; examples must be two or more.

    mean of k(a_i, a_j), i ≠ j, plus mean of k(b_i, b_j), i ≠ j, minus twice the mean of k(a_i, b_j).
    """
    a, b = (np.asarray(x, np.float64) for x in (a, b))
    kernel = lambda x, y: (x @ y.T / x.shape[1] + 1.0) ** 3  # noqa: E731
    within = [(np.sum(k) - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (kernel(a, a), kernel(b, b))]
    return float(sum(within) - 2.0 * np.mean(kernel(a, b)))


def neighbours(data, draws, *, num_neighbors=5) -> dict:
    """Return precision, recall, density and coverage of `draws` [M, D] about `data` [N, D], by balls of k neighbours.

    The ball of an example reaches to its k-th neighbour in its own set. Precision is the share of draws in a ball of
    the data, and recall the share of data in a ball of the draws (arXiv:1904.06991). Density counts the balls of the
    data around a draw, over k. Coverage is the share of balls of the data with a draw in them (arXiv:2002.09797).
    """
    data, draws = (np.asarray(x, np.float64) for x in (data, draws))
    if min(len(data), len(draws)) <= num_neighbors:
        raise ValueError(f"{num_neighbors} neighbours need more examples than that, got {len(data)} and {len(draws)}")
    of_data, of_draws = _radii(data, num_neighbors), _radii(draws, num_neighbors)
    around, covered, recalled = [], np.zeros(len(data), bool), np.zeros(len(data), bool)
    for first in range(0, len(draws), ROWS):
        part = slice(first, first + ROWS)
        distance = _distances(draws[part], data)
        inside = distance <= of_data[None]
        around.append(np.sum(inside, axis=1))
        covered |= np.any(inside, axis=0)
        recalled |= np.any(distance <= of_draws[part, None], axis=0)
    around = np.concatenate(around)
    return {
        "precision": float(np.mean(around > 0)),
        "recall": float(np.mean(recalled)),
        "density": float(np.mean(around) / num_neighbors),
        "coverage": float(np.mean(covered)),
    }


def modes(labels, num_classes) -> tuple[int, float]:
    """Return how many of the classes occur among `labels` [N], and KL(their frequencies ‖ uniform) in nats.

    For stacked MNIST there are 1000 classes, arXiv:1611.02163 sec. 3.3.1.
    """
    counts = np.bincount(np.asarray(labels), minlength=num_classes)
    share = counts[counts > 0] / counts.sum()
    return int(np.sum(counts > 0)), float(np.sum(share * np.log(share * num_classes)))


def principal_components(x, num_components=64):
    """Return the function from rows [N, ...] to their first principal components [N, D], fitted to rows `x`."""
    rows = _flat(x)
    mean = rows.mean(axis=0)
    values, vectors = np.linalg.eigh(np.cov(rows.T, bias=True).reshape(2 * mean.shape))
    directions = vectors[:, np.argsort(values)[::-1][:num_components]]
    return lambda x: (_flat(x) - mean[None]) @ directions


def measure(data, draws, floor) -> dict:
    """Return all numbers of features of `draws` against those of `data`: {name: number}.

    `floor` are the features of other data; their distances from `data` have names that end in "_floor".
    """
    kernel, kernel_error = kernel_distance(data, draws)
    return {
        "frechet": frechet(data, draws),
        "frechet_se": frechet_error(data, draws),
        "frechet_limit": frechet_at_infinity(data, draws),
        "frechet_floor": frechet(data, floor),
        "kernel": kernel,
        "kernel_se": kernel_error,
        "kernel_floor": kernel_distance(data, floor)[0],
        **neighbours(data, draws),
    }


def _flat(x):
    return np.asarray(x, np.float64).reshape(len(x), -1)


def _moments(x):
    x = np.asarray(x, np.float64)
    return x.mean(axis=0), np.cov(x.T).reshape(x.shape[1], x.shape[1])


def _blocks(x, count):
    """Return `count` blocks of equal size, the rows in a fixed random order: files are often sorted in some way."""
    x = np.asarray(x, np.float64)
    size = len(x) // count
    if size < 2:
        raise ValueError(f"quality needs at least {2 * count} examples of each set, got {len(x)}")
    order = np.random.default_rng(0).permutation(len(x))
    return [x[order[n * size : (n + 1) * size]] for n in range(count)]


def _distances(a, b):
    """Return the squared distances [N, M] of rows a [N, D] and b [M, D]."""
    return np.maximum(np.sum(a * a, axis=1)[:, None] + np.sum(b * b, axis=1)[None] - 2.0 * a @ b.T, 0.0)


def _radii(x, num_neighbors):
    """Return the squared distance of every row from its k-th neighbour, itself not counted [N]."""
    radii = []
    for first in range(0, len(x), ROWS):
        distance = _distances(x[first : first + ROWS], x)
        distance[np.arange(len(distance)), first + np.arange(len(distance))] = 0.0  # itself, whatever the rounding
        radii.append(np.partition(distance, num_neighbors, axis=1)[:, num_neighbors])
    return np.concatenate(radii)
