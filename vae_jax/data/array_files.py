"""Files that hold named arrays, opened without reading them: .npy, .npz, HDF5, Zarr, Parquet.

A folder of .npy files is like an .npz. Every array is checked against its file before it is read, and no Python object
is unpickled.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from vae_jax.data import files

SUFFIXES = (".npy", ".npz", ".h5", ".hdf5", ".zarr", ".parquet")
ONLY = "x"  # the name of the array in a file that holds one array without a name


class Arrays(NamedTuple):
    """The arrays of a file."""

    names: tuple[str, ...]
    read: Callable[[str], np.ndarray]  # name -> the array; a memory map if it is an .npy


def opened(path) -> Arrays:
    """Return the arrays of a file or folder.

    Raises FileNotFoundError if nothing is there, and `ValueError` of one line for a damaged file, for one of another
    kind, and where the library that reads it is not installed.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        if any((path / name).exists() for name in ("zarr.json", ".zgroup", ".zarray")):
            return _zarr(path)
        if stems := sorted(file.stem for file in path.glob("*.npy")):
            return Arrays(tuple(stems), lambda name: files.load_npy(path / f"{name}.npy"))
        raise FileNotFoundError(
            f"{path}: no .npy file and no Zarr store in this folder; name 'images' reads image files"
        )
    files.regular(path)
    readers = {".npy": _npy, ".npz": _npz, ".h5": _hdf5, ".hdf5": _hdf5, ".parquet": _parquet}
    if path.suffix.lower() not in readers:
        raise ValueError(f"{path}: arrays are read from {', '.join(SUFFIXES)}; name 'images' reads image files")
    return readers[path.suffix.lower()](path)


def _npy(path):
    return Arrays((ONLY,), lambda name: files.load_npy(path))


def _npz(path):
    names = files.npz_names(path)
    return Arrays(names, lambda name: files.load_npz(path, (name,))[name])


def _hdf5(path):
    h5py = _imported("h5py", path)
    names = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            names.append(name)

    with files.reading(path, "not an HDF5 file"), h5py.File(path, "r") as file:
        file.visititems(visit)

    def read(name):
        with files.reading(path, f"damaged HDF5 in {name!r}"), h5py.File(path, "r") as file:
            dataset = file[name]
            if h5py.check_string_dtype(dataset.dtype):
                return dataset.asstr()[...].astype(str)
            _check_type(path, name, dataset)
            return dataset[...]

    return Arrays(tuple(names), read)


def _zarr(path):
    zarr = _imported("zarr", path)
    with files.reading(path, "not a Zarr store"):
        store = zarr.open(path, mode="r")
        single = isinstance(store, zarr.Array)
        members = {ONLY: store} if single else {n: a for n, a in store.members(None) if isinstance(a, zarr.Array)}

    def read(name):
        with files.reading(path, f"damaged Zarr in {name!r}"):
            array = members[name]
            if array.dtype.kind not in "UT":
                _check_type(path, name, array)
            absent = array.nchunks - array.nchunks_initialized
            if absent:
                words = "%s: %d of the %d chunks of %r are not stored and are read as %s"
                logging.warning(words, path, absent, array.nchunks, name, array.fill_value)
            x = np.asarray(array[...])
            return x.astype(str) if x.dtype.kind in "TO" else x

    return Arrays(tuple(sorted(members)), read)


def _parquet(path):
    _imported("pyarrow", path)
    import pyarrow.parquet

    with files.reading(path, "not a Parquet file"):
        names = tuple(pyarrow.parquet.ParquetFile(path).schema_arrow.names)

    def read(name):
        with files.reading(path, f"damaged Parquet in {name!r}"):
            return of_column(
                pyarrow.parquet.read_table(path, columns=[name], partitioning=None)[name], f"{path}, {name}"
            )

    return Arrays(names, read)


def of_column(column, where) -> np.ndarray:
    """Return a column of Arrow as an array [N, ...]; lists become axes, all of one length, and nulls of floats NaN.

    Raises `ValueError` for lists of different lengths, for other nulls, and for other types.
    """
    import pyarrow as pa
    import pyarrow.compute

    column, shape = column.combine_chunks(), [len(column)]
    if isinstance(column, pa.ChunkedArray):
        column = column.chunk(0) if column.num_chunks else pa.array([], column.type)
    while True:
        if isinstance(column.type, pa.FixedShapeTensorType):
            return column.to_numpy_ndarray()
        if isinstance(column, pa.ExtensionArray):
            column = column.storage
        elif isinstance(column, pa.DictionaryArray):
            column = column.dictionary_decode()
        elif pa.types.is_nested(column.type) and not pa.types.is_struct(column.type):
            lengths = pa.compute.unique(pa.compute.list_value_length(column))
            if column.null_count or len(lengths) != 1:
                shown = sorted(length for length in lengths.to_pylist() if length is not None)[:5]
                raise ValueError(f"{where}: lists of one length are required, these have {shown} or are missing")
            column, shape = column.flatten(), [*shape, lengths[0].as_py()]
        else:
            break
    of_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
    of_numbers = (
        pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_boolean(column.type)
    )
    if not (of_text or of_numbers):
        raise ValueError(f"{where}: numbers or strings, or lists of them, are required, these are {column.type}")
    if column.null_count and not pa.types.is_floating(column.type):
        raise ValueError(f"{where}: {column.null_count} values are missing; leave these rows out, or store floats")
    values = column.to_numpy(zero_copy_only=False)
    return (values.astype(str) if of_text else values).reshape(shape)


def _check_type(path, name, array):
    """Raise `ValueError` for Python objects, and for an array that is larger than memory."""
    if array.dtype.kind not in "buifSU":
        raise ValueError(f"{path}: {name!r} is {array.dtype}; numbers or strings are required")
    num_bytes = math.prod(array.shape) * array.dtype.itemsize
    files.check_memory(path, num_bytes, "store it as .npy, which is mapped and not read")


def _imported(module, path):
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError:
        raise ValueError(
            f"{path}: this file is read by {module}, which is not installed: pip install 'vae_jax[files]'"
        ) from None
