"""IDX, the file format of MNIST: a four-byte magic number, the dimensions, one array in C order, all big-endian.

    00 00 TYPE RANK | RANK x uint32 | values

Reading is strict: a file that is a byte too short or too long is an error, never a smaller data set. A plain file of
bytes, the usual type of images, is mapped and not read, so it may be larger than memory. Gzip is unpacked in memory,
and other types are converted there.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from vae_jax.data import files

MAX_RANK = 32  # of arrays in every version of NumPy
DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path) -> np.ndarray:
    """Return the array in an IDX file, plain or gzip, in the machine's byte order.

    A plain file of bytes becomes a read-only memory map. A .gz is unpacked up to one byte more than its header
    promises. Raises FileNotFoundError, or `ValueError` for a wrong magic number and for a file of another length than
    its header promises.
    """
    path = files.regular(path)
    with path.open("rb") as file:
        zipped = file.read(2) == b"\x1f\x8b"  # by its first bytes: browsers often unzip a `.gz` and keep its name
    with gzip.open(path) if zipped else path.open("rb") as file:
        header = _unpacked(file, path, 4)
        rank = header[3] if len(header) == 4 else 0
        header += _unpacked(file, path, 4 * rank)
        if header[:2] != b"\0\0" or len(header) < 4 + 4 * rank or header[2] not in DTYPES or rank > MAX_RANK:
            raise ValueError(
                f"{path}: wrong magic number 0x{header[:4].hex() or '(empty file)'}: an IDX file starts with 0000, "
                f"a type ({', '.join(f'{t:02x}' for t in DTYPES)}), its rank, and one dimension per rank"
            )
        dtype, shape = np.dtype(DTYPES[header[2]]), struct.unpack_from(f">{rank}I", header, 4)
        size = math.prod(shape) * dtype.itemsize
        complete = True
        if zipped:
            files.check_memory(path, size, "unpack it on disk: a plain file of bytes is mapped and not read")
            data = _unpacked(file, path, size + 1)
            complete = len(data) <= size and _ended(file, path)
            length, stored = len(data), f"{len(header) + len(data):,}" + (" or more" if len(data) > size else "")
        else:
            length = path.stat().st_size - len(header)
            stored = f"{len(header) + length:,}"
    if length != size or not complete:
        raise ValueError(
            f"{path}: {'too long' if length > size else 'truncated'}: expected {len(header) + size:,} bytes for "
            f"{shape} {dtype.name}, got {stored}; fetch the file again"
        )
    if not zipped:
        if dtype.itemsize > 1:
            files.check_memory(path, size, "store its values as bytes, which are mapped and not read")
        data = np.memmap(path, np.uint8, "r")[len(header) :]  # empty if the file holds no value
    try:
        array = np.asanyarray(data if not zipped else np.frombuffer(data, np.uint8)).view(dtype).reshape(shape)
    except ValueError as error:  # such as 0 x 2^32 x 2^32
        raise ValueError(f"{path}: no array has the dimensions {shape} ({files.one_line(error)})") from error
    return array.astype(dtype.newbyteorder("="), copy=False)


def write(path, array) -> None:
    """Write `array` as IDX, with gzip if `path` ends in .gz. Raise `ValueError` for a dtype that IDX does not have."""
    path, array = Path(path), np.asarray(array)
    code = next((code for code, dtype in DTYPES.items() if np.dtype(dtype) == array.dtype.newbyteorder(">")), None)
    if code is None:
        allowed = ", ".join(np.dtype(dtype).name for dtype in DTYPES.values())
        raise ValueError(f"IDX has no type for {array.dtype}: use one of {allowed}")
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    data = header + array.astype(DTYPES[code]).tobytes()
    # With a fixed time in the gzip header, the same array gives the same file.
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def find(folder, prefix: str, kind: str) -> Path | None:
    """Return the file `{prefix}-{kind}-idx3-ubyte` (3 is the rank) or None; a plain file is preferred to .gz."""
    return next(iter(sorted(Path(folder).glob(f"{prefix}-{kind}[-.]idx?-*"))), None)


def read_split(folder, *prefixes: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Return images [N, H, W, C], uint8 or float32 in [0, 1], and labels int32 [N] or None, of the first prefix.

    Vectors [N, D] are returned in their type. Raises FileNotFoundError if there are no images, `ValueError` for values
    that are not images or labels.
    """
    images, labels = (
        next(filter(None, (find(folder, p, kind) for p in prefixes)), None) for kind in ("images", "labels")
    )
    if images is None:
        looked = " or ".join(f"{p}-images{dot}idx3-ubyte[.gz]" for p in prefixes for dot in "-.")
        raise FileNotFoundError(f"{folder}: no file {looked}")
    x = _pixels(read(images), images)
    if labels is None:
        return x, None
    label = read(labels)
    if label.ndim != 1 or label.dtype.kind not in "iu":
        raise ValueError(f"{labels}: labels must be integers >= 0 of shape [N], these are {label.dtype} {label.shape}")
    if len(label) != len(x):
        raise ValueError(f"{folder}: {images.name} has {len(x)} images, {labels.name} has {len(label)} labels")
    if label.min() < 0:
        raise ValueError(f"{labels}: labels must be integers >= 0, and the smallest is {label.min()}")
    return x, label.astype(np.int32)


def _pixels(x, file) -> np.ndarray:
    """Return images of any IDX type, [N, H, W] or [N, H, W, C], as [N, H, W, C], uint8 or float32 in [0, 1]."""
    if x.ndim not in (2, 3, 4) or 0 in x.shape:
        raise ValueError(
            f"{file}: images must be [N, H, W] or [N, H, W, C], vectors [N, D], and not empty, these are "
            f"{list(x.shape)}"
        )
    if x.ndim == 2:
        return x
    floating = x.dtype.kind == "f"
    if x.dtype != np.uint8:
        bad = ~((x >= 0) & (x <= (1 if floating else 255)))  # written like this, NaN is bad too
        if bad.any():
            first = tuple(map(int, np.unravel_index(bad.argmax(), bad.shape)))
            allowed = "floats must lie in [0, 1]" if floating else "integers must lie in 0..255"
            raise ValueError(
                f"{file}: value {x[first]} at index {first}, the first of {bad.sum()}: {allowed}, and these reach from "
                f"{x.min():g} to {x.max():g}; shift and scale them, or store levels 0..255 as bytes"
            )
    x = x.astype(np.float32 if floating else np.uint8, copy=False)
    return x[..., None] if x.ndim == 3 else x


def _unpacked(file, path, size) -> bytearray:
    """Return the next `size` bytes, fewer at the end of the file."""
    data = bytearray()
    try:
        while len(data) < size and (part := file.read1(min(size - len(data), 2**20))):
            data += part
    except EOFError:  # truncated: the caller reports how much is missing
        pass
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged gzip ({error}), {path.stat().st_size:,} bytes; fetch it again") from error
    return data


def _ended(file, path) -> bool:
    """Return True if the gzip stream reached its end, where its checksum is."""
    try:
        return not file.read1(1)
    except EOFError:
        return False
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged gzip ({error}), {path.stat().st_size:,} bytes; fetch it again") from error
