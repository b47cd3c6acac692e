"""The values that data and variables can take: reals, bits, levels, tokens, counts, unit vectors, columns, strokes.

A missing value is NaN. `seen` turns values, and missing ones, into what networks see.
"""

import dataclasses

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Real:
    """All real numbers."""

    num_levels = None

    def __str__(self):
        return "real"


@dataclasses.dataclass(frozen=True)
class Unit:
    """Real numbers in [0, 1], such as dequantised levels; `open` leaves out both ends."""

    open: bool = False

    num_levels = None

    def __str__(self):
        return "real numbers in (0, 1)" if self.open else "real numbers in [0, 1]"


@dataclasses.dataclass(frozen=True)
class Sphere:
    """Vectors of length 1."""

    num_levels = None

    def __str__(self):
        return "sphere"


@dataclasses.dataclass(frozen=True)
class Counts:
    """Integers 0, 1, 2, ... without an upper limit."""

    num_levels = None

    def __str__(self):
        return "counts"


@dataclasses.dataclass(frozen=True)
class Binary:
    """0 and 1."""

    num_levels = 2

    def __str__(self):
        return "binary"


@dataclasses.dataclass(frozen=True)
class Levels:
    """Integers 0, ..., V - 1 in an order, such as grey levels."""

    num_levels: int

    def __str__(self):
        return f"integers below {self.num_levels}"


@dataclasses.dataclass(frozen=True)
class Tokens:
    """Integers 0, ..., V - 1 without an order, such as words."""

    num_levels: int

    def __str__(self):
        return f"tokens below {self.num_levels}"


DRAW, LIFT, END = range(3)  # the pen after a point: it draws the next offset, it is lifted, the drawing ends


@dataclasses.dataclass(frozen=True)
class Strokes:
    """Points of pen drawings, rows (Δx, Δy, pen): integers -limit, ..., limit, and 0 (draw), 1 (lift) or 2 (end)."""

    limit: int

    num_levels = None

    def __str__(self):
        return f"pen drawings with offsets from {-self.limit} to {self.limit}"


CATEGORICAL = "categorical:"  # the beginning of a kind of column; the number of categories follows
KINDS = {"real": Real(), "binary": Binary(), "count": Counts()}


@dataclasses.dataclass(frozen=True)
class Columns:
    """Rows of a table: each column has a kind, "real", "binary", "count" or "categorical:C" (codes 0, ..., C - 1)."""

    kinds: tuple

    num_levels = None

    def __str__(self):
        return "columns of a table"

    def groups(self) -> dict:
        """Return {kind: the places of its columns}, in the order in which the kinds first appear."""
        groups = {}
        for place, kind in enumerate(self.kinds):
            groups.setdefault(kind, []).append(place)
        return groups

    def plain(self):
        """Return the support of every column if it is one of `Real`, `Binary` and `Counts`; None for other tables."""
        return KINDS.get(self.kinds[0]) if len(set(self.kinds)) == 1 else None


Support = Real | Unit | Sphere | Counts | Binary | Levels | Tokens | Columns | Strokes


def num_categories(kind) -> int | None:
    """Return C of the kind "categorical:C"; None for other kinds of columns."""
    return int(kind.removeprefix(CATEGORICAL)) if kind.startswith(CATEGORICAL) else None


def is_discrete(support) -> bool:
    """Return True if the values are countable: then log p is the logarithm of a mass, and draws carry no gradient."""
    if isinstance(support, Columns):
        return "real" not in support.kinds
    return isinstance(support, Binary | Levels | Tokens | Counts | Strokes)


def standardize(support, x):
    """Return `x` on the scale that networks see.

    Levels 0, ..., V - 1 become [-1, 1], counts log(1 + x), categories of a table one-hot vectors; all else stays as it
    is. Rows of a table [..., D] become [..., F], with a place for each category.
    """
    if isinstance(support, Columns):
        return jnp.concatenate(
            [_column(kind, x[..., place, None]) for place, kind in enumerate(support.kinds)], axis=-1
        )
    if isinstance(support, Counts):
        return jnp.log1p(x)
    return 2.0 * x / (support.num_levels - 1) - 1.0 if isinstance(support, Levels) else x


def centred(support, x):
    """Return levels, bits and numbers in [0, 1] on the scale [-1, 1]; real numbers stay as they are."""
    if isinstance(support, Real):
        return x
    return 2.0 * x / (1 if isinstance(support, Unit) else support.num_levels - 1) - 1.0


def seen(support, x, missing=False):
    """Return what networks see of x: `standardize`, with zeros in place of missing values (NaN) and their mask.

    If values may be missing, the mask (1 where x is observed) is joined on the last axis.
    """
    if not missing:
        return standardize(support, x)
    is_missing = jnp.isnan(x)
    inputs = standardize(support, x)
    inputs = jnp.where(jnp.isnan(inputs), 0.0, inputs)
    return jnp.concatenate([inputs, 1.0 - is_missing.astype(inputs.dtype)], axis=-1)


def _column(kind, x):
    if size := num_categories(kind):
        codes = jnp.where(jnp.isnan(x), -1, x).astype(jnp.int32)  # -1 is a vector of zeros
        return jax.nn.one_hot(codes[..., 0], size)
    return jnp.log1p(x) if kind == "count" else x
