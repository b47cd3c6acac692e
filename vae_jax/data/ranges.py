"""The range and the kind of stored values: found, logged, and refused if they can be read in two ways.

A uint8 image of 0 and 1 may be binary, or nearly black on the scale 0..255. The two readings give different
likelihoods, so `find` does not choose between them: it raises an error that asks for `max_value`.
"""

import mmap
from typing import NamedTuple

import numpy as np
from absl import logging

from vae_jax.data import on_demand, reading, transforms
from vae_jax.spec import BadOption

CHUNK_BYTES = 2**25  # read together
NEARLY = 240 / 255  # images of 0..255 may lack the brightest levels; below this another scale is as likely
DARK = 1 / 16  # floats in [0, 1] that are all smaller may have been divided twice


class Range(NamedTuple):
    """The smallest and the largest value, and the number of distinct values (of uint8; `None` for other types)."""

    low: float
    high: float
    num_levels: int | None


def look(x, *, missing=False) -> Range:
    """Find the range of an array in parts of `CHUNK_BYTES`. A memory map is not copied and does not stay in memory.

    NaN makes the range NaN, except with `missing`, which passes over it.
    """
    if (seen := on_demand.seen(x)) is not None:  # a source was read once, and is not read again
        low, high = (seen.low, seen.high) if missing or not seen.missing else (np.nan, np.nan)
        return Range(low, high, None)
    low, high, levels = [], [], bytearray()
    least, most = (np.fmin.reduce, np.fmax.reduce) if missing else (np.min, np.max)
    for part in _chunks(x):
        low.append(least(part, axis=None))
        high.append(most(part, axis=None))
        if part.dtype == np.uint8:
            levels += bytes(set(part.tobytes().translate(None, bytes(levels))))  # the new ones
    return Range(least(low).item(), most(high).item(), len(levels) if x.dtype == np.uint8 else None)


def find(name, splits, max_value=None, *, missing=False, dark_below=NEARLY) -> int:
    """Return the largest value that can be stored in the set, and log how its values are read.

    Integers of vectors are read on the scale of their largest value, of images only if it is near the end of the type.
    Floats that leave [0, 1] are real numbers. Their scale is 1, and only the transform `real` takes them.

    Args:
      name: of the data set, for messages.
      splits: {split: images or vectors}, integers or floats, as they are stored.
      max_value: the value that the user gives; `None` or 0 to find it out.
      missing: True if NaN means "not observed".
      dark_below: the share of the scale 0..255 below which images of bytes may be dark, or levels.

    Raises `BadOption` if two readings are possible, if values exceed `max_value`, and if the splits have different
    scales.
    """
    seen = {split: look(x, missing=missing) for split, x in splits.items() if len(x)}
    floating = any(np.issubdtype(x.dtype, np.floating) for x in splits.values())
    things = _things(next(iter(splits.values())))
    low, high = min(r.low for r in seen.values()), max(r.high for r in seen.values())
    words = _words(low, high, floating)
    chosen = max_value or (1 if floating else _full(high))
    if floating and low >= 0 and high <= 1 != chosen:
        raise BadOption(
            f"max_value must be 0 or 1 for {name}, got {max_value}: its {things} are floats in [0, 1]; store levels as "
            "integers"
        )
    if floating and not max_value and not (low >= 0 and high <= 1):
        logging.info("%s: %s are %s, read as real numbers: they need the transform 'real'", name, things, words)
        return 1
    if high > chosen:
        raise BadOption(
            f"max_value must be at least {high:g}, the largest value in {name}, got {max_value}; set it to the largest "
            f"value that {_element(things)} can have, or to 0 to find it out"
        )
    if things == "images" and not max_value:
        _refuse_two_readings(name, low, high, floating, chosen, dark_below if chosen == 255 else NEARLY)
    elif not floating and high < NEARLY * chosen and not max_value:
        chosen = max(1, int(high))
    for split, (split_low, split_high, num_levels) in seen.items():
        if things == "images" and 2 * split_high < high:
            different = f"{name}, whose {split} images reach only {split_high:g} and others {high:g}"
            if not max_value:
                raise BadOption(
                    f"max_value must be given for {different}: set it to {chosen} if this is right; if the scales "
                    "differ, store all images on one scale"
                )
            logging.warning("%s; all are read on the scale 0..%d, because max_value is given", different, chosen)
        counted = "" if num_levels is None else f" with {num_levels} distinct values"
        logging.info(
            "%s: %s %s are %s%s, read on the scale 0..%d",
            *(name, split, things, _words(split_low, split_high, floating), counted, chosen),
        )
    return chosen


def _refuse_two_readings(name, low, high, floating, chosen, dark_below):
    """Raise `BadOption` for images that may be dark, or on another scale."""
    if floating and high < DARK:
        raise BadOption(
            f"max_value must be given for {name}, whose values are {_words(low, high, floating)}: set it to 1 if the "
            "images are very dark; if the values were divided twice, store them again"
        )
    if not floating and high < dark_below * chosen:
        whole = max(1, int(high))
        raise BadOption(
            f"max_value must be given for {name}, whose values are {_words(low, high, floating)}: set it to the "
            f"largest value that a pixel can have, {whole} for levels 0..{whole} or {chosen} for dark images of "
            f"0..{chosen}"
        )


def check(x, transform, max_value, *, missing=False) -> None:
    """Raise `BadOption` if the result of `transform` has no meaning for the stored values x.

    `counts`, `dequantize`, `levels` and `tokens` need integers. All transforms except `columns`, `counts` and `real`
    need values in 0..`max_value`; `strokes` needs offsets in -`max_value`..`max_value`. Functions that are not in
    `transforms` are not checked.

    Args:
      x: the stored values.
      transform: a function of `transforms`.
      max_value: the largest value that can be stored.
      missing: True if NaN means "not observed"; otherwise NaN is refused.
    """
    name = next((name for name in transforms.__all__ if getattr(transforms, name) is transform), None)
    if name is None or not len(x):
        return
    floating, things = np.issubdtype(x.dtype, np.floating), _things(x)
    if floating and name == "dequantize":
        raise BadOption(f"transform: 'dequantize' takes integer levels, and these {things} are floats; {_grid(x)}")
    if floating and name in ("counts", "levels", "tokens") and not all(map(_is_whole, _chunks(x))):
        raise BadOption(f"transform: {name!r} takes integers, and these {things} hold fractions; {_grid(x)}")
    is_bounded = x.dtype.kind in "ub" and np.iinfo(np.uint8 if x.dtype == bool else x.dtype).max <= max_value
    if is_bounded or (name == "counts" and x.dtype.kind in "ub"):
        return  # no value can be out of range
    low, high, _ = look(x, missing=missing)
    if name in ("columns", "real"):
        if not np.isfinite([low, high]).all():
            remedy = "" if missing else _missing_remedy(x)
            raise BadOption(
                f"transform: {name!r} takes finite numbers, and these reach from {low:g} to {high:g}{remedy}"
            )
    elif name == "strokes":
        if np.abs(np.asarray(x)[..., :2]).max() > max_value:
            raise BadOption(
                f"transform: 'strokes' takes offsets up to {max_value}, and these reach {max(-low, high):g}"
            )
    elif name == "counts":
        if not (low >= 0 and np.isfinite(high)):
            raise BadOption(f"transform: 'counts' takes 0, 1, 2, ..., and these reach from {low:g} to {high:g}")
    elif not (low >= 0 and high <= max_value):  # written like this, NaN is out of range
        remedy = "; use 'real' for real numbers, scale them" if floating else "; scale them"
        raise BadOption(
            f"transform: {name!r} takes values from 0 to {max_value}, and these reach from {low:g} to {high:g}"
            f"{remedy}, or set max_value to their largest value"
        )


def _missing_remedy(x):
    return "; NaN can mean 'not observed': read the data with missing=True" if np.isnan(look(x).low) else ""


def _is_whole(part):
    return np.all((part == np.round(part)) | np.isnan(part))


def _things(x):
    """Return what examples of this shape are called."""
    return "vectors" if x.ndim == 2 else "images"


def _element(things):
    return "a pixel" if things == "images" else "an entry"


def _full(high):
    """Return the largest value of the smallest type that holds `high`."""
    return 255 if high <= 255 else 65535


def _words(low, high, floating):
    return f"{'floats' if floating else 'integers'} from {low:g} to {high:g}"


def _grid(x):
    """Return the remedy for floats: integers if the first values lie on a grid k / V, otherwise 'unit'."""
    values = np.unique(np.asarray(next(_chunks(x)), np.float64))
    values = values[np.isfinite(values)]
    if 0 < len(values) <= 256 and values[0] >= 0 and values[-1] <= 1:
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
