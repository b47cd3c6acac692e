"""Arrays that were decoded once: .npy files in the user's cache, which are mapped.

A folder of the cache has the arrays and `sums.json`, their sizes and checksums. It appears whole or not at all, and is
made again if it is damaged.
"""

import hashlib
import json
import os
import shutil
import tempfile
import zlib
from pathlib import Path

import numpy as np
from absl import logging

WHOLE = 2**28  # bytes: of a larger file only so many, evenly spread, enter its checksum
PIECE = 2**20


def root() -> Path:
    """Return the folder of the cache: $VAE_JAX_CACHE, $XDG_CACHE_HOME/vae_jax or ~/.cache/vae_jax."""
    of_user = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "vae_jax"
    return Path(os.environ.get("VAE_JAX_CACHE") or of_user).expanduser()


def arrays(name: str, identity, make) -> dict[str, np.ndarray]:
    """Return {array's name: memory map} of what `make` writes; from the cache if it was called before.

    Two processes may do this at the same time: each writes a folder of its own, and the first one stays.

    Args:
      name: of the data set, for the name of the folder.
      identity: everything on which the arrays depend, as JSON.
      make: writes NAME.npy files into the empty folder that it is given.

    Raises the errors of `make`, and OSError if the cache cannot be written.
    """
    key = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    plain = "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:40]
    folder = root() / f"{plain}-{key}"
    if folder.is_dir() and not _is_whole(folder):
        logging.warning("%s: this part of the cache is damaged and is made again", folder)
        _remove(folder)
    if not folder.is_dir():
        try:
            root().mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OSError(f"{root()}: no cache can be made there ({error.strerror}); set VAE_JAX_CACHE") from None
        with tempfile.TemporaryDirectory(dir=root(), prefix=f".{folder.name}-", ignore_cleanup_errors=True) as work:
            made = Path(work) / "made"
            made.mkdir()
            make(made)
            sums = {file.name: [file.stat().st_size, _sum(file)] for file in sorted(made.glob("*.npy"))}
            (made / "sums.json").write_text(json.dumps(sums))
            try:
                made.rename(folder)
            except OSError:
                if not folder.is_dir():  # otherwise another process was first, with the same arrays
                    raise
    return {file.stem: np.load(file, mmap_mode="r", allow_pickle=False) for file in sorted(folder.glob("*.npy"))}


def check_space(num_bytes) -> None:
    """Raise `ValueError` if the disk of the cache has not so many bytes left: a memory map would end the process."""
    free = shutil.disk_usage(root()).free
    if num_bytes > free:
        raise ValueError(
            f"{root()}: the decoded images need {num_bytes:,} bytes, and {free:,} are left; set VAE_JAX_CACHE to a "
            "folder on a larger disk, or make the images smaller with size"
        )


def _is_whole(folder) -> bool:
    try:
        sums = json.loads((folder / "sums.json").read_text())
        return bool(sums) and all([(folder / f).stat().st_size, _sum(folder / f)] == s for f, s in sums.items())
    except (OSError, ValueError, AttributeError):
        return False


def _remove(folder):
    """Remove a folder in one step: another process sees it whole or not at all."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".damaged-", ignore_cleanup_errors=True) as work:
        try:
            folder.rename(Path(work) / "damaged")
        except FileNotFoundError:  # another process was first
            pass


def _sum(file) -> int:
    """Return the CRC-32 of a file, of a large one that of evenly spread pieces."""
    size, value = file.stat().st_size, 0
    starts = range(0, size, PIECE) if size <= WHOLE else np.linspace(0, size - PIECE, WHOLE // PIECE, dtype=np.int64)
    with file.open("rb") as opened:
        for start in starts:
            opened.seek(int(start))
            value = zlib.crc32(opened.read(PIECE), value)
    return value
