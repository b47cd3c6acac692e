"""The range and the kind of stored values: found, logged, and refused if they can be read in two ways.

A uint8 image of 0 and 1 may be binary, or nearly black on the scale 0..255. The two readings give different
likelihoods, so `find` does not choose between them: it raises an error that asks for `max_value`.
"""

import mmap
from typing import NamedTuple

import numpy as np
from absl import logging

from vae_jax.data import reading, transforms
from vae_jax.spec import BadOption

CHUNK_BYTES = 2**25  # read together
NEARLY_255 = 240  # images of 0..255 may lack the brightest levels; below this another scale is as likely
DARK = 1 / 16  # floats in [0, 1] that are all smaller may have been divided twice


class Range(NamedTuple):
    """The smallest and the largest value, and the number of distinct values (of uint8; `None` for other types)."""

    low: float
    high: float
    num_levels: int | None


def look(x) -> Range:
    """Find the range of an array in parts of `CHUNK_BYTES`. A memory map is not copied and does not stay in memory."""
    low, high, levels = [], [], bytearray()
    for part in _chunks(x):
        low.append(part.min())
        high.append(part.max())
        if part.dtype == np.uint8:
            levels += bytes(set(part.tobytes().translate(None, bytes(levels))))  # the new ones
    return Range(np.min(low).item(), np.max(high).item(), len(levels) if x.dtype == np.uint8 else None)


def find(name, splits, max_value=None) -> int:
    """Return the largest value that a pixel of the set can have, and log how its values are read.

    Args:
      name: of the data set, for messages.
      splits: {split: pixels}, uint8 or floats in [0, 1], as they are stored.
      max_value: the value that the user gives; `None` or 0 to find it out.

    Raises `BadOption` if two readings are possible, if values exceed `max_value`, and if the splits have different
    scales.
    """
    seen = {split: look(x) for split, x in splits.items() if len(x)}
    floating = any(np.issubdtype(x.dtype, np.floating) for x in splits.values())
    low, high = min(r.low for r in seen.values()), max(r.high for r in seen.values())
    chosen = max_value or (1 if floating else 255)
    if floating and chosen != 1:
        raise BadOption(
            f"max_value must be 0 or 1 for {name}, got {max_value}: its images are floats in [0, 1]; store levels as "
            "integers"
        )
    if high > chosen:
        raise BadOption(
            f"max_value must be at least {high:g}, the largest value in {name}, got {max_value}; set it to the largest "
            "value that a pixel can have, or to 0 to find it out"
        )
    if floating and high < DARK and not max_value:
        raise BadOption(
            f"max_value must be given for {name}, whose values are {_words(low, high, floating)}: set it to 1 if the "
            "images are very dark; if the values were divided twice, store them again"
        )
    if not floating and high < NEARLY_255 and not max_value:
        whole = max(1, high)
        raise BadOption(
            f"max_value must be given for {name}, whose values are {_words(low, high, floating)}: set it to the "
            f"largest value that a pixel can have, {whole} for levels 0..{whole} or 255 for dark images of 0..255"
        )
    for split, (split_low, split_high, num_levels) in seen.items():
        if 2 * split_high < high:
            words = f"{name}, whose {split} images reach only {split_high:g} and others {high:g}"
            if not max_value:
                raise BadOption(
                    f"max_value must be given for {words}: set it to {chosen} if this is right; if the scales differ, "
                    "store all images on one scale"
                )
            logging.warning("%s; all are read on the scale 0..%d, because max_value is given", words, chosen)
        counted = "" if num_levels is None else f" with {num_levels} distinct values"
        logging.info(
            "%s: %s images are %s%s, read on the scale 0..%d",
            *(name, split, _words(split_low, split_high, floating), counted, chosen),
        )
    return chosen


def check(x, transform, max_value, *, missing=False) -> None:
    """Raise `BadOption` if the result of `transform` has no meaning for the stored values x.

    `counts`, `dequantize`, `levels` and `tokens` need integers. All transforms except `columns`, `counts` and `real`
    need values in 0..`max_value`. Functions that are not in `transforms` are not checked. With `missing`, NaN is
    allowed: it means that a value was not observed.
    """
    if missing:
        x = np.asarray(x)
        x = x[~np.isnan(x)]
    name = next((name for name in transforms.__all__ if getattr(transforms, name) is transform), None)
    if name is None or not len(x):
        return
    floating = np.issubdtype(x.dtype, np.floating)
    if floating and name == "dequantize":
        raise BadOption(f"transform: 'dequantize' takes integer levels, and these images are floats; {_grid(x)}")
    if (
        floating
        and name in ("counts", "levels", "tokens")
        and not all(np.all(part == np.round(part)) for part in _chunks(x))
    ):
        raise BadOption(f"transform: {name!r} takes integers, and these images hold fractions; {_grid(x)}")
    if (
        name != "counts"
        and not floating
        and np.iinfo(np.uint8 if x.dtype == bool else x.dtype).max <= max_value
        and x.dtype.kind in "ub"
    ):
        return  # no value can be out of range
    low, high, _ = look(x)
    if name in ("columns", "real"):
        if not np.isfinite([low, high]).all():
            raise BadOption(f"transform: {name!r} takes finite numbers, and these reach from {low:g} to {high:g}")
    elif name == "counts":
        if not (low >= 0 and np.isfinite(high)):
            raise BadOption(f"transform: 'counts' takes 0, 1, 2, ..., and these reach from {low:g} to {high:g}")
    elif not (low >= 0 and high <= max_value):  # written like this, NaN is out of range
        raise BadOption(
            f"transform: {name!r} takes values from 0 to {max_value}, and these reach from {low:g} to {high:g}; scale "
            "them, or set max_value to their largest value"
        )


def _words(low, high, floating):
    return f"{'floats' if floating else 'integers'} from {low:g} to {high:g}"


def _grid(x):
    """Return the remedy for floats: integers if the first values lie on a grid k / V, otherwise 'unit'."""
    values = np.unique(np.asarray(next(_chunks(x)), np.float64))
    if len(values) <= 256 and values[0] >= 0 and values[-1] <= 1:
        for v in range(1, 256):
            if np.abs(values * v - np.round(values * v)).max() < 1e-3:
                return f"they lie on the grid k/{v}: store np.round({v} * x) as uint8, with max_value={v}"
    return "they lie on no grid of up to 256 levels: use 'unit', or store integers"


def _chunks(x):
    """Yield parts of x as arrays. Pages of a memory map are given back to the system after each part."""
    if isinstance(x, reading.Rows):
        x = x.array  # all rows of the map, read in order
    rows = max(1, CHUNK_BYTES // max(1, x[:1].nbytes))
    pages = x if isinstance(x, np.memmap) and x.mode == "r" else None
    while isinstance(pages, np.ndarray):
        pages = pages.base
    for start in range(0, len(x), rows):
        yield np.asarray(x[start : start + rows])
        if isinstance(pages, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            pages.madvise(mmap.MADV_DONTNEED)
