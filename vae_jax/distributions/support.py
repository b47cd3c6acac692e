"""Which data a density is a density of."""

import jax
import jax.numpy as jnp
import numpy as np


def check_support(distribution, x):
    """Raise `ValueError` where `x` (one event or a batch) holds values on which `distribution` is not a density.

    `distribution.support` is "real", "binary", "integers below V" or "sphere".
    """
    support, x = distribution.support, np.asarray(x)
    low, high = float(np.min(x)), float(np.max(x))
    name = type(distribution).__name__
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(f"the data hold NaN or infinite values (minimum {low}, maximum {high})")
    if support == "binary" and not bool(np.all((x == 0) | (x == 1))):
        raise ValueError(
            f"a {name} likelihood is a density of 0 and 1 only; the data range over [{low:g}, {high:g}]. "
            "Set config.data.transform='binarize', or choose a likelihood of levels (discretized_logistic_mixture)"
        )
    if support == "sphere" and not np.allclose(np.linalg.norm(x, axis=-1), 1.0, atol=1e-4):
        raise ValueError(f"a {name} likelihood is a density of unit vectors; of the data some have another length")
    if support.startswith("integers"):
        levels = num_levels(support)
        if low < 0 or high >= levels or not bool(np.all(x == np.round(x))):
            raise ValueError(
                f"a {name} likelihood is a density of {support}; the data range over [{low:g}, {high:g}]. "
                "Set config.data.transform='levels' (and num_levels to match), or choose another likelihood"
            )


REPEATED = 0.1  # share of values that occur more than once, from which data are said to lie on a grid
LOOKED_AT = 50_000  # values: float32 draws of a continuous density hardly ever meet among so many


def check_continuous(distribution, x):
    """Raise `ValueError` where `x` (a batch) lies on a grid of points and `distribution` is a density over the reals.

    Such a density can grow without bound at the points, so its value says nothing: log p(x) of binary pixels under a
    narrow normal is as large as one likes. What counts is how many values occur more than once.
    """
    values = np.asarray(x).ravel()
    values = values[np.linspace(0, len(values) - 1, min(LOOKED_AT, len(values))).astype(int)]
    distinct, counts = np.unique(values, return_counts=True)
    repeated = counts[counts > 1].sum() / len(values)
    if repeated > REPEATED:
        raise ValueError(
            f"a {type(distribution).__name__} likelihood is a density over the reals, and {repeated:.0%} of the values "
            f"occur more than once ({len(distinct)} distinct ones): on a grid of points a density has no limit. Set "
            "config.data.transform='dequantize' (stored integers), or choose a likelihood of levels "
            "(discretized_logistic_mixture, categorical, bernoulli)"
        )


def num_levels(support) -> int | None:
    """V of "integers below V", 2 of "binary"; None where there are no levels, but a density over reals or a sphere."""
    if support == "binary":
        return 2
    return int(support.rsplit(" ", 1)[1]) if support.startswith("integers") else None


def is_discrete(distribution) -> bool:
    """Whether it, or any part of a chain, is over a countable set: its draws carry no gradient."""
    support = distribution.support
    parts = support if isinstance(support, tuple) else (support,)
    return any(part not in ("real", "sphere") for part in parts)


def real_coordinates(support):
    """(u -> x, x -> u): reals as values in the range of `support`, by a logistic where it is bounded, and back; of a
    sphere, vectors of any length as their directions.

    Back, values within a hundredth of an end are taken from there, so that every u is finite and can move.
    """
    if support == "real":
        return (lambda u: u), (lambda x: x)
    if support == "sphere":
        return (lambda u: u / jnp.linalg.norm(u, axis=-1, keepdims=True)), (lambda x: x)
    top = num_levels(support) - 1.0

    def to_real(x):
        p = jnp.clip(x / top, 0.01, 0.99)
        return jnp.log(p) - jnp.log1p(-p)

    return (lambda u: top * jax.nn.sigmoid(u)), to_real
