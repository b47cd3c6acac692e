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
