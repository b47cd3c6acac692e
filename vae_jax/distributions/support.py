"""Checks that data lie in the support of a density."""

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging

from vae_jax.distributions.observed import Observed
from vae_jax.spec import shown
from vae_jax.support import Binary, Columns, Counts, Levels, Real, Sphere, Strokes, Tokens, Unit, is_discrete

REPEATED = 0.1  # share of values that occur more than once; data with a larger share lie on a grid
AT_ENDS = 1e-3  # share of values at an end of an open interval; fewer may be rounded
SAMPLE = 50_000  # values; among so many, float32 draws of a continuous density hardly ever coincide


def check_support(distribution, x):
    """Raise `ValueError` if `x` (one event or a batch) holds values outside the support of `distribution`.

    Missing values (NaN) are left out if the distribution is `Observed`.
    """
    support, x = distribution.support, np.asarray(x)
    if isinstance(support, Columns):
        return _check_columns(distribution, x)
    if isinstance(support, Strokes):
        return _check_strokes(support, x)
    if isinstance(distribution, Observed):
        distribution, x = distribution.base, x[~np.isnan(x)]
        if not x.size:
            return
    low, high = float(np.min(x)), float(np.max(x))
    likelihood, span = f"a {type(distribution).__name__} likelihood", f"the data range over [{low:g}, {high:g}]"
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"the data hold NaN or infinite values (minimum {low}, maximum {high})")
    if support == Binary() and not bool(np.all((x == 0) | (x == 1))):
        raise ValueError(
            f"{likelihood} is a density of 0 and 1 only; {span}. Set transform='binarize', or choose a likelihood of "
            "levels (discretized_logistic_mixture)"
        )
    if isinstance(support, Unit):
        if low < 0 or high > 1:
            raise ValueError(
                f"{likelihood} is a density of {support}; {span}. Set transform='unit' or 'dequantize', which scale "
                "the data, or choose a likelihood of real numbers (normal)"
            )
        if support.open and (share := np.mean((x == 0) | (x == 1))) > AT_ENDS:
            raise ValueError(
                f"{likelihood} is a density of {support}, and {share:.1%} of the data are 0 or 1, where it is zero or "
                "infinite. Set transform='dequantize' (stored integers), or choose continuous_bernoulli"
            )
    if support == Counts() and not (low >= 0 and bool(np.all(x == np.round(x)))):
        raise ValueError(
            f"{likelihood} is a density of 0, 1, 2, ...; {span}. Set transform='counts' for stored counts, or choose a "
            "likelihood of real numbers (normal)"
        )
    if support == Sphere() and not np.allclose(np.linalg.norm(x, axis=-1), 1.0, atol=1e-4):
        raise ValueError(f"{likelihood} is a density of unit vectors, and some of the data have another length")
    if isinstance(support, Levels | Tokens):
        if low < 0 or high >= support.num_levels or not bool(np.all(x == np.round(x))):
            raise ValueError(
                f"{likelihood} is a density of {support}; {span}. Set transform='levels' and num_levels to match, or "
                "choose another likelihood"
            )


def _check_strokes(support, x):
    """Raise `ValueError` unless x [..., 3] are points (Δx, Δy, pen) on the lattice of `support`."""
    if x.shape[-1:] != (3,):
        raise ValueError(f"points of a drawing are rows (Δx, Δy, pen); the data have the shape {list(x.shape)}")
    offsets, pen = x[..., :2], x[..., 2]
    span = f"[{np.min(offsets):g}, {np.max(offsets):g}]"
    if not (np.all(x == np.round(x)) and np.all(np.abs(offsets) <= support.limit)):
        raise ValueError(f"the data must be {support}, and they range over {span}; read them with a larger max_value")
    if not np.all((pen >= 0) & (pen <= 2)):
        raise ValueError(
            f"a pen state is 0 (draw), 1 (lift) or 2 (end); the data have {np.min(pen):g} to {np.max(pen):g}"
        )


def _check_columns(distribution, x):
    """Check every group of columns of one kind. A column may hold missing values if the distribution is `Observed`."""
    missing = isinstance(distribution, Observed)
    columns = distribution.base if missing else distribution
    for part, places in zip(columns.parts, columns.places, strict=True):
        check_support(Observed(part) if missing else part, x[..., list(places)])


def check_continuous(distribution, x, *, refuse=True):
    """Raise `ValueError` if `x` (a batch) lies on a grid of points and `distribution` is a density over the reals.

    Such a density can grow without bound at the points, so its value has no meaning. For example, log p(x) of binary
    pixels under a narrow normal can be arbitrarily large. The test is the share of values that occur more than once.
    With `refuse=False`, for measured numbers, which are rounded, it is a warning in the log.
    """
    if isinstance(distribution, Observed):
        distribution = distribution.base
    values = np.asarray(x).ravel()
    values = values[~np.isnan(values)]
    values = values[np.linspace(0, len(values) - 1, min(SAMPLE, len(values))).astype(int)]
    distinct, counts = np.unique(values, return_counts=True)
    repeated = counts[counts > 1].sum() / len(values)
    if repeated > REPEATED and not refuse:
        logging.warning(
            "%.0f %% of the values occur more than once (rounded numbers, or columns of few values): a density has no "
            "limit there, so compare log p(x) only with that of the same data, or read them as a table",
            100 * repeated,
        )
    elif repeated > REPEATED:
        raise ValueError(
            f"a {type(distribution).__name__} likelihood is a density over the reals, and {repeated:.0%} of the values "
            f"occur more than once ({len(distinct)} distinct ones): on a grid of points a density is unbounded. Set "
            "transform='dequantize' (stored integers), or choose a likelihood of levels "
            "(discretized_logistic_mixture, categorical, bernoulli)"
        )


def supports(distribution) -> tuple:
    """Return the support of every variable: one, or one for each level of a chain."""
    return distribution.support if isinstance(distribution.support, tuple) else (distribution.support,)


def has_discrete_part(distribution) -> bool:
    """Return True if the distribution, or any part of a chain, is over a countable set: its draws carry no gradient."""
    return any(is_discrete(support) for support in supports(distribution))


def real_coordinates(support):
    """Return (u -> x, x -> u), which map real arrays u to values x in the range of `support`, and back.

    A bounded range is reached by a logistic function, a sphere by normalising. On the way back, values within a
    hundredth of an end are moved away from it, so that every u is finite and can learn. Raises `ValueError` for tokens
    and counts.
    """
    if support == Real():
        return (lambda u: u), (lambda x: x)
    if support == Sphere():
        return (lambda u: u / jnp.linalg.norm(u, axis=-1, keepdims=True)), (lambda x: x)
    if not isinstance(support, Binary | Levels | Unit):
        raise ValueError(f"values that are {shown(str(support))} have no real coordinates")
    top = 1.0 if isinstance(support, Unit) else support.num_levels - 1.0

    def to_real(x):
        p = jnp.clip(x / top, 0.01, 0.99)
        return jnp.log(p) - jnp.log1p(-p)

    return (lambda u: top * jax.nn.sigmoid(u)), to_real
