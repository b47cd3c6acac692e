"""The user's arrays in the types that are stored: bytes, uint16 or float32, images [N, H, W, C] or vectors [N, D]."""

import numpy as np

from vae_jax.data import files, on_demand, ranges
from vae_jax.data.on_demand import OnDemand
from vae_jax.data.reading import Rows
from vae_jax.spec import BadOption

EXACT = 2**24  # integers up to here are exact in float32
NUMPY_LACKS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")  # types of JAX


def examples(where, x, missing):
    """Return x as an array of numbers, images [N, H, W, C] or vectors [N, D]. Memory maps stay mapped.

    Raises `ValueError` for other shapes and types, `BadOption` for masked entries except with `missing`.
    """
    if isinstance(x, Rows):
        x = Rows(_array(where, x.array, missing), x.index)
    elif not isinstance(x, OnDemand):
        x = _array(where, x, missing)
    shape = list(x.shape)
    if 0 in shape:
        raise ValueError(f"{where}: x has the shape {shape}, which holds no value")
    if len(shape) == 1:
        raise ValueError(f"{where}: x has the shape {shape}; for one number an example, give x[:, None]")
    if not 2 <= len(shape) <= 4:
        raise ValueError(
            f"{where}: x has the shape {shape}; images are [N, H, W] or [N, H, W, C], vectors and series are [N, D]; "
            "reshape it"
        )
    if len(shape) != 3:
        return x
    if isinstance(x, Rows):
        return Rows(x.array[..., None], x.index)
    return x.reshaped((*shape, 1)) if isinstance(x, OnDemand) else x[..., None]


def alike(where, x):
    """Return {split: examples} in one type that is stored. Nothing is copied if they have it.

    Raises `ValueError` if two splits differ in their shape, or if one has floats and another has not.
    """
    first = x["train"]
    for split, array in x.items():
        if array.shape[1:] != first.shape[1:]:
            raise ValueError(
                f"{where}: training examples have the shape {list(first.shape[1:])}, those of its {split} split "
                f"{list(array.shape[1:])}: they must agree"
            )
        if (array.dtype.kind == "f") != (first.dtype.kind == "f"):
            raise ValueError(
                f"{where}: training examples are {first.dtype}, those of its {split} split {array.dtype}: they must be "
                "on one scale; store all of them in one type"
            )
    dtype = _common(where, x)
    return {split: _cast(f"{where}, {split}", array, dtype) for split, array in x.items()}


def check_numbers(where, x, missing):
    """Raise `ValueError` for infinite numbers in {split: examples}, `BadOption` for NaN except with `missing`.

    With `missing=None`, for a format that has no such option, NaN is a `ValueError` too.
    """
    for split, array in x.items():
        if array.dtype.kind != "f":
            continue
        low, high, _ = ranges.look(array, missing=bool(missing))
        if np.isfinite([low, high]).all():
            continue
        place = ""
        if on_demand.seen(array) is None:
            bad = np.isinf(array) if missing else ~np.isfinite(array)
            index = tuple(map(int, np.unravel_index(np.argmax(bad), array.shape)))
            place = f" {bad.sum():,} times, first at index {index}"
        if missing is None:
            raise ValueError(f"{where}, {split}: x is not finite{place}; leave these examples out")
        if np.isnan(low) and not missing:
            raise BadOption(
                f"missing must be True if NaN means 'not observed': {where}, {split}, is not finite{place}; or leave "
                "these examples out"
            )
        if np.isnan(low):
            raise ValueError(f"{where}, {split}: every value is NaN; at least one must be observed")
        raise ValueError(
            f"{where}, {split}: x is infinite, or beyond float32{place}; scale it, or leave these examples out"
        )


def _array(where, x, missing):
    """Return x as an array of numbers."""
    if np.ma.is_masked(x):
        if not missing:
            raise BadOption(f"missing must be True, because {where} has masked entries; or fill them")
        return np.ma.filled(x.astype(np.float32), np.nan)
    try:
        x = np.asanyarray(x) if isinstance(x, np.memmap) else np.asarray(x)
    except (ValueError, TypeError) as error:  # rows of different lengths, arrays on another device
        raise ValueError(
            f"{where}: no array can be made of it ({files.one_line(error)[:200]}); all examples must be alike"
        ) from None
    if x.dtype.name in NUMPY_LACKS:
        x = x.astype(np.float32)
    if x.dtype.kind not in "buif":
        raise ValueError(
            f"{where}: numbers are required, and x is {x.dtype} {list(x.shape)}; give an array of integers or floats"
        )
    return x


def _common(where, x):
    """Return the type that holds all splits: bytes, uint16, or float32 for floats and negative numbers."""
    types = {array.dtype.newbyteorder("=") for array in x.values()}
    if any(dtype.kind == "f" for dtype in types):
        return np.dtype(np.float32)
    if types <= {np.dtype(bool), np.dtype(np.uint8), np.dtype(np.uint16)}:
        return np.dtype(np.uint16 if np.dtype(np.uint16) in types else np.uint8)
    seen = [ranges.look(array) for array in x.values()]
    low, high = min(r.low for r in seen), max(r.high for r in seen)
    if low >= 0 and high <= 65535:
        return np.dtype(np.uint8 if high <= 255 else np.uint16)
    if max(-low, high) > EXACT:
        raise ValueError(
            f"{where}: integers from {low:g} to {high:g} do not fit into float32; scale them, or give floats"
        )
    return np.dtype(np.float32)


def _cast(where, x, dtype):
    if x.dtype == dtype and x.dtype.isnative:
        return x
    if isinstance(x, OnDemand):
        return x.reshaped(x.shape, dtype)
    if x.dtype == bool and dtype == np.uint8 and isinstance(x, np.ndarray):
        return x.view(np.uint8)  # a memory map stays one
    num_bytes = x.size * dtype.itemsize
    files.check_memory(where, num_bytes, f"store it as {dtype.name}, which is mapped from an .npy and not read")
    with np.errstate(over="ignore"):  # found by `check_numbers`
        return np.asarray(x).astype(dtype)
