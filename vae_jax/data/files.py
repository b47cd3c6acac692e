"""Checks of files before they are read. Every error is one line and names the file."""

import contextlib
import math
import os
import zipfile
from pathlib import Path

import numpy as np

_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def regular(path) -> Path:
    """Return `path`. Raise FileNotFoundError if nothing is there, `ValueError` if it is no regular file.

    A pipe or a device could block for ever or never end, so neither is opened.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        kinds = {"is_dir": "folder", "is_fifo": "pipe (FIFO)", "is_socket": "socket"}
        kind = next((kind for test, kind in kinds.items() if getattr(path, test)()), "device")
        raise ValueError(f"{path}: this is a {kind}; only regular files are read")
    return path


def one_line(error) -> str:
    """Return the message of an exception without line breaks, or its type if it has no message."""
    return " ".join(str(error).split()) or type(error).__name__


def plain_name(name, where) -> str:
    """Return `name`, which comes from data and becomes part of a path. Raise `ValueError` if it leaves a folder."""
    if not isinstance(name, str) or name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise ValueError(
            f"{where}: {str(name)[:80]!r} is no plain name; a name from data must not lead to another folder"
        )
    return name


def check_memory(where, num_bytes, remedy) -> None:
    """Raise `ValueError` if `num_bytes`, which `where` needs, are more than the memory of this machine."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else math.inf
    if num_bytes > memory:
        raise ValueError(f"{where}: this needs {num_bytes:,} bytes, and the machine has {memory:,}; {remedy}")


def load_npz(path, names) -> dict[str, np.ndarray]:
    """Return {name: array} for those `names` that the .npz holds. Other members are not read.

    The header of each array is read first: its size must agree with the archive, and Python objects are refused,
    because reading them can run code. Raises FileNotFoundError, or `ValueError` for a damaged file and for names that
    lead to other folders.
    """
    path = regular(path)
    with reading(path, "not an .npz of arrays"), zipfile.ZipFile(path) as archive:
        stored = {plain_name(member, path) for member in archive.namelist()}
        members = {name: f"{name}.npy" for name in names}
        return {name: _array(archive, member, path) for name, member in members.items() if member in stored}


def npz_names(path) -> tuple[str, ...]:
    """Return the names of the arrays in an .npz. Raises the errors of `load_npz`."""
    path = regular(path)
    with reading(path, "not an .npz of arrays"), zipfile.ZipFile(path) as archive:
        stored = [plain_name(member, path) for member in archive.namelist()]
    return tuple(member.removesuffix(".npy") for member in stored if member.endswith(".npy"))


def load_npy(path) -> np.ndarray:
    """Return the array in an .npy file as a read-only memory map. Python objects are refused.

    Raises FileNotFoundError, or `ValueError` for a file that is damaged or of another length than its header promises.
    """
    path = regular(path)
    with reading(path, "not an .npy of one array"):
        with path.open("rb") as file:
            shape, dtype, start = _header(file, path)
            stored = path.stat().st_size - start
        if stored != math.prod(shape) * dtype.itemsize:
            raise ValueError(
                f"{path}: truncated or too long: {shape} {dtype} are {math.prod(shape) * dtype.itemsize:,} bytes, and "
                f"the file has {stored:,}; fetch or write it again"
            )
        return np.load(path, mmap_mode="r" if stored else None, allow_pickle=False)


@contextlib.contextmanager
def reading(path, what):
    """Turn any exception of a library about damaged bytes into a `ValueError` of one line: "PATH: WHAT (REASON)".

    Errors of one line that already name the path pass, and so do errors about a file that cannot be opened.
    """
    try:
        yield
    except ImportError:
        raise
    except Exception as error:  # zipfile, zlib, NumPy, TFDS, protobuf, Pillow, SciPy, libsndfile: of all types
        if isinstance(error, OSError) and error.filename is not None:
            raise
        if isinstance(error, ValueError) and str(path) in str(error) and "\n" not in str(error):
            raise
        raise ValueError(f"{path}: {what} ({one_line(error)[:300]})") from error


def _array(archive, member, path):
    info = archive.getinfo(member)
    with archive.open(member) as file:
        shape, dtype, start = _header(file, member)
    num_bytes = math.prod(shape) * dtype.itemsize
    if start + num_bytes != info.file_size:
        stored = info.file_size - start
        raise ValueError(f"{member}: {shape} {dtype} are {num_bytes:,} bytes, and the archive has {stored:,}")
    check_memory(path, num_bytes, "store less in one file")
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _header(file, where):
    """Return the shape and the type of an array, and where its values begin."""
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:
        raise ValueError(f"{where}: the .npy version {version} is not read")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.hasobject:
        raise ValueError(f"{where}: an array of Python objects, which could run code; store numbers or strings")
    if any(size < 0 for size in shape):
        raise ValueError(f"{where}: the shape {shape} has a negative size")
    return shape, dtype, file.tell()
