"""The file of a compressed message: a header, the words of the message, and a checksum.

    "VJC" | version (1 byte) | length of the file (8) | CRC-32 of what follows (4) | length of the header (2)
    header | words

Numbers are little-endian. The header is JSON. A message is decoded only with the model that encoded it, on the same
kind of device and with the same versions: the last digits of probabilities differ elsewhere, and decoding needs all of
them.
"""

import hashlib
import json
import os
import platform
import struct
import zlib

import jax
import numpy as np

MAGIC, VERSION = b"VJC", 1
_FIXED = struct.Struct("<3sBQIH")


def pack(header: dict, words) -> bytes:
    """Return the bytes of a file with a header of JSON values and the words of a message, uint32."""
    text = json.dumps(header, separators=(",", ":")).encode()
    body = text + np.ascontiguousarray(words, "<u4").tobytes()
    crc = zlib.crc32(struct.pack("<H", len(text)) + body)
    return _FIXED.pack(MAGIC, VERSION, _FIXED.size + len(body), crc, len(text)) + body


def unpack(data: bytes) -> tuple:
    """Return the header and the words of a file. Raises `ValueError` if it is not whole, or was changed."""
    data = bytes(data)
    if len(data) < 4 or data[:3] != MAGIC:
        raise ValueError("this is no compressed file of vae_jax: it does not begin with the letters VJC")
    if data[3] != VERSION:
        raise ValueError(f"the compressed file has version {data[3]}, and this program reads version {VERSION}")
    if len(data) < _FIXED.size:
        raise ValueError(f"the compressed file is truncated: it has only {len(data)} bytes")
    _, _, length, crc, size = _FIXED.unpack_from(data)
    if len(data) != length:
        state = "truncated" if len(data) < length else "longer than it was"
        raise ValueError(f"the compressed file is {state}: it has {len(data)} bytes, and its header says {length}")
    if zlib.crc32(data[_FIXED.size - 2 :]) != crc:
        raise ValueError("the compressed file is damaged: its checksum is wrong; restore it from a copy")
    header = json.loads(data[_FIXED.size : _FIXED.size + size])
    return header, np.frombuffer(data, "<u4", offset=_FIXED.size + size).astype(np.uint32)


def check(header: dict, params):
    """Raise `ValueError` unless a file was written with these parameters, by the same versions on the same device."""
    if header["model"] != fingerprint(params):
        raise ValueError(
            f"the compressed file was written with another model ({header['model']}); this one is "
            f"{fingerprint(params)}: give the model, or the checkpoint, that wrote it"
        )
    if header["by"] != (here := environment()):
        raise ValueError(
            f"the compressed file was written by {header['by']}, and this is {here}: the last digits of probabilities "
            "differ, so that it can only be read there"
        )


def fingerprint(params) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of parameters: their names, shapes, types and values."""
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        leaf = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {leaf.shape} {leaf.dtype}".encode())
        digest.update(np.ascontiguousarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def checksum(*arrays) -> str:
    """Return 16 hexadecimal digits of the SHA-256 of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()[:16]


def environment() -> str:
    """Return the versions, the device and, on a CPU, the number of threads, which decide the last digits of numbers."""
    device = jax.devices()[0]
    threads = f" of {_cpus()} threads, {platform.machine()}" if device.platform == "cpu" else ""
    precision = ", x64" if jax.config.jax_enable_x64 else ""
    return f"jax {jax.__version__}, numpy {np.__version__}, {device.device_kind}{threads}{precision}"


def _cpus() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
