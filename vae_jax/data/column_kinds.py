"""The kind of every column of a table, found from its values, and what is left out."""

import numpy as np
from absl import logging

from vae_jax.data.columns import floats_of, is_whole, number_of
from vae_jax.spec import BadOption

KINDS = ("real", "binary", "categorical", "count", "leave_out")
FEW = 10  # distinct values of a real column that are too few for a density
LARGEST_COUNT = 1_000_000  # of a column whose kind is found: the masses of larger ones are too small to be learned
MOST_CATEGORIES = 100  # of a column whose kind is found


def find(name, texts, columns) -> dict:
    """Return {column: kind} of the columns that are modelled; the log names those that are left out and why."""
    kinds, seen = {}, {}
    for column, cells in texts.items():
        chosen = columns.get(column)
        if chosen == "leave_out":
            continue
        reason = _useless(column, cells, seen)
        if reason and chosen is None:
            logging.warning(
                "%s: column %r is left out: %s; to keep it, name its kind in `columns`", name, column, reason
            )
            continue
        seen.setdefault(tuple(cells), column)
        kinds[column] = _found(name, column, cells) if chosen is None else chosen
    return kinds


def _useless(column, cells, seen) -> str | None:
    """Return why a column says nothing about a row; None if it says something."""
    present = [cell for cell in cells if cell is not None]
    distinct = set(present)
    if not present:
        return "all its values are missing"
    if len(distinct) == 1:
        return f"it is constant, {present[0]!r}"
    if tuple(cells) in seen:
        return f"it is a copy of {seen[tuple(cells)]!r}"
    values = [number_of(cell) for cell in present]
    if len(distinct) == len(present) > 2:
        if values.count(None) > 0.5 * len(present):  # a few strings among numbers are an error (`_found`)
            return "all its values are different strings, such as names or ids"
        if None in values:
            return None
        steps = np.diff(values)
        if len(cells) == len(present) > FEW and np.all(steps == steps[0]) and all(map(is_whole, present)):
            return "it numbers the rows"
    return None


def _found(name, column, cells) -> str:
    """Return the kind of a column: "binary", "categorical", "count" or "real"."""
    present = [cell for cell in cells if cell is not None]
    distinct, values = set(present), [number_of(cell) for cell in present]
    if len(distinct) == 2:
        return "binary"
    words = [cell for cell, value in zip(present, values, strict=True) if value is None]
    if words and len(words) <= 0.5 * len(present):
        raise ValueError(
            f"{name}: column {column!r} holds {words[0]!r} among numbers: add it to missing_values, correct it, or set "
            f"columns={{{column!r}: 'categorical'}}"
        )
    if words:
        if len(distinct) > MOST_CATEGORIES:
            raise ValueError(
                f"{name}: column {column!r} has {len(distinct)} different strings, too many for categories: set "
                f"columns={{{column!r}: 'leave_out'}}, or 'categorical' to keep them"
            )
        return "categorical"
    if all(map(is_whole, present)) and min(values) >= 0:
        if max(values) <= LARGEST_COUNT:
            return "count"
        logging.warning(
            "%s: column %r holds whole numbers up to %d, too large for counts: it is read as 'real'",
            *(name, column, max(values)),
        )
    if len(distinct) <= FEW and len(present) > 10 * FEW:
        logging.warning(
            "%s: the real column %r has only %d distinct values, on which a density can grow without bound; if they "
            "are levels or codes, set columns={%r: 'categorical'}",
            *(name, column, len(distinct), column),
        )
    return "real"


def stored(name, column, kind, cells):
    """Return the values [N] of a column, NaN where missing, and the categories of its codes or None."""
    if kind in ("real", "count"):
        values = floats_of(column, cells)
        bad = values[~np.isnan(values) & ((values < 0) | (values != np.round(values)))]
        if kind == "count" and bad.size:
            raise BadOption(f"columns: {column!r} is no column of counts: it holds {bad[0]:g}; use 'real'")
        return values, None
    categories = sorted(
        {cell for cell in cells if cell is not None}, key=lambda c: (number_of(c) is None, number_of(c), c)
    )
    if kind == "binary" and len(categories) > 2:
        raise BadOption(f"columns: {column!r} is not binary: it has {len(categories)} values; use 'categorical'")
    codes = {category: float(code) for code, category in enumerate(categories)}
    return np.array([np.nan if cell is None else codes[cell] for cell in cells]), tuple(categories)
