"""IDX, the file format of MNIST: a four-byte magic number, the dimensions, one array in C order, all big-endian.

    00 00 TYPE RANK | RANK x uint32 | values

Reading is strict: a file that is a byte too short or too long is an error, never a smaller data set. A plain file of
bytes, as images mostly are, is mapped and not read, so it may be larger than memory; gzip is unpacked and other types
are converted in memory.
"""

import gzip
import math
import struct
import zlib
from pathlib import Path

import numpy as np

DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read(path) -> np.ndarray:
    """The array in an IDX file, plain (of bytes: a read-only memory map) or gzip, in the machine's byte order.

    Raises ValueError for a wrong magic number and for a file whose length is not the one its header promises.
    """
    path = Path(path)
    data, complete = _contents(path)
    header = bytes(data[: 4 + 4 * 255])
    rank = header[3] if len(header) > 3 else 0
    if header[:2] != b"\0\0" or len(header) < 4 + 4 * rank or header[2] not in DTYPES:
        raise ValueError(
            f"{path}: wrong magic number 0x{header[:4].hex() or '(empty file)'}: an IDX file starts with 0000, "
            f"a type ({', '.join(f'{t:02x}' for t in DTYPES)}), its rank, and one dimension per rank"
        )
    dtype, shape = np.dtype(DTYPES[header[2]]), struct.unpack_from(f">{rank}I", header, 4)
    expected = 4 + 4 * rank + math.prod(shape) * dtype.itemsize
    if len(data) != expected or not complete:
        raise ValueError(
            f"{path}: {'truncated' if len(data) < expected or not complete else 'too long'}: "
            f"expected {expected:,} bytes for {shape} {dtype.name}, found {len(data):,}; fetch the file again"
        )
    return data[4 + 4 * rank :].view(dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def write(path, array) -> None:
    """Writes `array` as IDX, through gzip if `path` ends in .gz. Raises ValueError for a dtype that IDX lacks."""
    path, array = Path(path), np.asarray(array)
    code = next((code for code, dtype in DTYPES.items() if np.dtype(dtype) == array.dtype.newbyteorder(">")), None)
    if code is None:
        allowed = ", ".join(np.dtype(dtype).name for dtype in DTYPES.values())
        raise ValueError(f"IDX has no type for {array.dtype}: use one of {allowed}")
    header = struct.pack(f">4B{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    data = header + array.astype(DTYPES[code]).tobytes()
    # A fixed time in the gzip header: the same array is the same file.
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def find(folder, prefix: str, kind: str) -> Path | None:
    """`train-images-idx3-ubyte` and the like (the digit is the rank, the end the type), the plain file before .gz."""
    return next(iter(sorted(Path(folder).glob(f"{prefix}-{kind}[-.]idx?-*"))), None)


def read_split(folder, *prefixes: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Images [N, H, W, C], uint8 or float32 in [0, 1], and labels int32 [N] or None, under the first prefix found.

    Raises FileNotFoundError where there are no images, ValueError where images or labels are not sound.
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
    if label.ndim != 1 or label.dtype.kind not in "iu" or (label < 0).any():
        raise ValueError(f"{labels}: labels must be integers >= 0 of shape [N], these are {label.dtype} {label.shape}")
    if len(label) != len(x):
        raise ValueError(f"{folder}: {images.name} has {len(x)} images, {labels.name} has {len(label)} labels")
    return x, label.astype(np.int32)


def _pixels(x, file) -> np.ndarray:
    """[N, H, W] or [N, H, W, C] of any IDX type -> [N, H, W, C], uint8 in 0..255 or float32 in [0, 1]."""
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise ValueError(f"{file}: images must be [N, H, W] or [N, H, W, C] and not empty, these are {list(x.shape)}")
    floating = x.dtype.kind == "f"
    if x.dtype != np.uint8:
        bad = ~((x >= 0) & (x <= (1 if floating else 255)))  # in these words NaN is bad too
        if bad.any():
            first = tuple(map(int, np.unravel_index(bad.argmax(), bad.shape)))
            allowed = "floats must lie in [0, 1]" if floating else "integers must lie in 0..255"
            raise ValueError(f"{file}: value {x[first]} at index {first}, the first of {bad.sum()}: {allowed}")
    x = x.astype(np.float32 if floating else np.uint8, copy=False)
    return x[..., None] if x.ndim == 3 else x


def _contents(path: Path) -> tuple[np.ndarray, bool]:
    """The bytes that the file holds once unzipped, and whether its gzip stream came to its end.

    gzip is recognised by its first bytes: browsers like to unzip a `.gz` and keep its name.
    """
    with path.open("rb") as file:
        start = file.read(2)
    if start != b"\x1f\x8b":
        return np.memmap(path, np.uint8, "r") if start else np.zeros(0, np.uint8), True
    data = path.read_bytes()
    try:
        return np.frombuffer(gzip.decompress(data), np.uint8), True
    except EOFError:  # truncated: keep what there is, so that the caller can say how much is missing
        return np.frombuffer(zlib.decompressobj(wbits=31).decompress(data), np.uint8), False
    except (zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged gzip ({error}), {len(data):,} bytes; fetch the file again") from error
