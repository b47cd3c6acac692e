"""A density for a point estimate of an image: x = x̂ + noise, whose scales are fitted. So baselines get a log-score.

    P(x_d = v | x̂) = (1 - ε) [F((v + ½ - x̂_d) / s_d) - F((v - ½ - x̂_d) / s_d)] + ε / V       of levels, ε = 10⁻³

F is normal, Laplace or logistic, whichever fits the training images best; the first and the last level take the tails.
Real numbers have the density of F. A scale s_d belongs to a pixel, and is that of the mean absolute error there.
"""

from typing import NamedTuple

import numpy as np
import scipy.stats

# The distribution and its mean absolute deviation at scale 1.
KINDS = {
    "normal": (scipy.stats.norm, np.sqrt(2.0 / np.pi)),
    "laplace": (scipy.stats.laplace, 1.0),
    "logistic": (scipy.stats.logistic, 2.0 * np.log(2.0)),
}
UNIFORM = 1e-3  # ε: no level is impossible
LEAST = 0.05  # of a level: the least scale


class Residual(NamedTuple):
    """The density of x given an estimate x̂."""

    kind: str
    scale: np.ndarray  # [*event]
    num_levels: int | None  # V; None for real numbers

    def log_probs(self, estimate, x):
        """Return log p(x_d | x̂_d) of every entry, in nats; `estimate` and x are [..., *event]."""
        family = KINDS[self.kind][0]
        if self.num_levels is None:
            return family.logpdf(x, estimate, self.scale)
        upper = np.where(x >= self.num_levels - 1, 1.0, family.cdf(x + 0.5, estimate, self.scale))
        lower = np.where(x <= 0, 0.0, family.cdf(x - 0.5, estimate, self.scale))
        return np.log((1.0 - UNIFORM) * np.maximum(upper - lower, 0.0) + UNIFORM / self.num_levels)


def fit(estimates, x, *, num_levels) -> Residual:
    """Return the `Residual` that gives the images x [N, *event] the largest log p(x|x̂) under their estimates.

    Args:
      estimates: x̂ [N, *event].
      x: the true images.
      num_levels: V of levels or bits; None for real numbers.
    """
    estimates, x = np.asarray(estimates, np.float64), np.asarray(x, np.float64)
    error = np.mean(np.abs(x - estimates), axis=0)
    least = LEAST if num_levels is not None else 1e-3 * max(float(np.ptp(x)), 1e-6)
    fitted = [Residual(kind, np.maximum(error / unit, least), num_levels) for kind, (_, unit) in KINDS.items()]
    return max(fitted, key=lambda residual: float(np.sum(residual.log_probs(estimates, x))))
