"""Compiled programs that are kept from one start to the next, in the user's cache (`data.cache`).

`JAX_ENABLE_COMPILATION_CACHE=false` keeps nothing, and `JAX_COMPILATION_CACHE_DIR` names another folder.
"""

import hashlib
import os
import platform
from pathlib import Path

from absl import logging

LARGEST = 2 * 2**30  # bytes; the programs that were written first are removed beyond


def keep_programs():
    """Let JAX keep compiled programs in the cache, unless a variable of JAX says otherwise.

    Programs of a CPU run only on its kind, so each kind of machine has a folder of its own. A folder that cannot be
    written is one line in the log.
    """
    import jax  # a second: not before a launcher has read its flags

    from vae_jax.data import cache

    if jax.config.jax_compilation_cache_dir or not jax.config.jax_enable_compilation_cache:
        return
    programs = cache.root() / "programs" / _machine()
    try:
        programs.mkdir(parents=True, exist_ok=True)
        _shrink(programs)
    except OSError as error:
        logging.info("compiled programs are not kept (%s); set VAE_JAX_CACHE to another folder", error)
        return
    jax.config.update("jax_compilation_cache_dir", str(programs))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.05)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def _machine() -> str:
    """Return a name for what compiled programs depend on beyond JAX's own key: the instructions of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line for line in lines if line.startswith(("flags", "Features")))
    except (OSError, StopIteration):
        processor = platform.processor()
    return hashlib.sha256(f"{platform.machine()} {processor}".encode()).hexdigest()[:12]


def _shrink(programs):
    """Remove the oldest programs until the rest is at most `LARGEST`."""
    files = sorted((f for f in os.scandir(programs) if f.is_file()), key=lambda f: f.stat().st_mtime, reverse=True)
    total = 0
    for file in files:
        total += file.stat().st_size
        if total > LARGEST:
            Path(file.path).unlink(missing_ok=True)
