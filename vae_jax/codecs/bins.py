"""Real numbers as symbols: bins of equal mass under a reference Gaussian, arXiv:1901.04866 sec. 2.5.2.

    edge(k) = μ + s Φ⁻¹(k / 2¹⁶),  k = 0, ..., 2¹⁶,      z(k) = μ + s Φ⁻¹((k + ½) / 2¹⁶)

With the prior as the reference, every bin costs 16 bits under it. The masses under another Gaussian are differences of
its distribution function, for one hexadecimal digit of k at a time: 4 tables of 16 masses for each number, instead of
one of 65,536.
"""

import numpy as np
from scipy.special import ndtr, ndtri

BITS = 16
NUMBER = 2**BITS
DIGIT = 16  # masses of a table
_EDGES = ndtri(np.arange(NUMBER + 1) / NUMBER)  # -inf and inf at the ends
_CENTRES = ndtri((np.arange(NUMBER) + 0.5) / NUMBER)


def centres(bins, loc, scale):
    """Return the number z(k), float32, that stands for each of `bins`; μ and s broadcast against them."""
    return (np.asarray(loc, np.float64) + np.asarray(scale, np.float64) * _CENTRES[bins]).astype(np.float32)


def visit(loc, scale, reference, choose, bins=None):
    """Return the bins [n, D] of Gaussian numbers, digit by digit (`values.visit`).

    Args:
      loc: the means [n, D].
      scale: the standard deviations [n, D].
      reference: (μ, s), which broadcast against them.
      choose: (masses [m, 16], digits [m] or None) -> digits [m].
      bins: the bins, of an encoder; None in a decoder.
    """
    shape = np.shape(loc)
    loc, scale, of_reference, of_scale = (
        np.broadcast_to(np.asarray(a, np.float64), shape).reshape(-1) for a in (loc, scale, *reference)
    )
    known = None if bins is None else np.asarray(bins).reshape(-1)
    # u(k) = (edge(k) - loc) / scale, as slope Φ⁻¹ + shift.
    slope, shift = of_scale / scale, (of_reference - loc) / scale
    first, step = np.zeros(len(loc), np.int64), NUMBER
    while step > 1:
        step //= DIGIT
        edges = _EDGES[first[:, None] + step * np.arange(DIGIT + 1)]
        masses = _between(slope[:, None] * edges + shift[:, None])
        digit = choose(masses, None if known is None else known // step % DIGIT)
        first = first + step * digit.astype(np.int64)
    return first.reshape(shape)


def _between(u):
    """Return the masses between neighbouring entries of u [n, V + 1]; equal masses if all underflow.

    Both ends are taken on the side of the smaller tail, so that no digits are lost.
    """
    right = u[:, :-1] > 0
    low, high = np.where(right, -u[:, 1:], u[:, :-1]), np.where(right, -u[:, :-1], u[:, 1:])
    masses = np.maximum(ndtr(high) - ndtr(low), 0.0)
    return np.where(masses.sum(axis=1, keepdims=True) > 0, masses, 1.0)
