"""The folder of one run: its config, its lock, and what the run was made with."""

import contextlib
import errno
import fcntl
import importlib.metadata
import json
import os
import platform
import socket
import stat
import sys
import tempfile
import time
from pathlib import Path

import jax
from absl import logging

from vae_jax import files
from vae_jax.runs.migrate import migrate
from vae_jax.training import checkpoint

FOLDERS = ("checkpoints", "damaged", "figures", "members", "programs", "profile")  # what a run writes, and where
FILES = ("config.json", "environment.json", "metrics.jsonl", "results.json")
RESULTS = ("train/steps", "train/seconds", "test/num_examples")  # numbers that all results have
LOGS = (".log", ".out", ".err")  # what a queue may have put into the folder before the run began
SAME_RUN = (  # options that change what is measured, shown or kept, but no number of the training
    "eval",
    "train.tensorboard",
    "train.keep",
    "train.checkpoint_every",
    "data.memory_limit",
    "data.num_workers",
    "data.path",  # the data themselves are compared instead
)
RECORDED = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint", "vae_jax")
RANDOM = ("x64", "prng_impl", "threefry_partitionable")  # settings of JAX that decide which numbers are drawn
_held = set()  # the folders that this process has locked


# -------------------------------------------------------------------------------------------------- the config


def open_workdir(path, config: dict) -> Path:
    """Make `path` the folder of `config`, or check that it is.

    Of two processes that open a new folder at once with different configs, one is refused. Options in `SAME_RUN` may
    differ (`update_config`). Raises `ValueError` where the folder holds another config (with
    every difference), holds files that are not of a run, or cannot be written.
    """
    path = Path(path).expanduser()
    name = os.fsencode(path)
    if not name.strip() or b"\0" in name or name.decode(errors="replace").encode() != name:
        raise ValueError(f"--workdir {str(path)!r} is not the name of a folder in UTF-8; give another")
    config = json.loads(files.strict_json(migrate(config)))  # tuples become lists, as in the file
    stored = path / "config.json"
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"\0" * 2**20)  # a full disk should be reported now, not at the first checkpoint
        if not os.path.lexists(stored):
            _check_empty(path)
            files.create_text(stored, files.strict_json(config))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ValueError(f"--workdir {path} cannot be written: {reason}; give another or make room") from error
    for name in FILES:
        if os.path.lexists(path / name) and not (path / name).is_file():
            raise ValueError(f"{path / name} is no regular file, and a run writes a file of this name; move it away")
    for name in FOLDERS:
        if os.path.lexists(path / name) and not (path / name).is_dir():
            raise ValueError(f"{path / name} is a file, and a run needs a folder of this name; move it away")
    found = read_config(path)
    if differences := list(config_differences(found, config)):
        raise ValueError(
            f"--workdir {path} holds a run of another config, which stays as it is. Give another --workdir, or undo: "
            + "; ".join(differences)
        )
    return path


def update_config(path, config: dict):
    """Let `config.json` take options in `SAME_RUN` that have changed. Only the process that holds the lock may."""
    if read_config(path) != (config := json.loads(files.strict_json(migrate(config)))):
        files.write_json(Path(path) / "config.json", config)


def read_config(path) -> dict:
    """The config in the folder `path`. Raises `ValueError` where `config.json` is missing or is not a config."""
    stored = Path(path).expanduser() / "config.json"
    if not os.path.lexists(stored):
        raise ValueError(f"{stored} does not exist: --workdir must be a folder that experiments.train has written")
    config = files.read_json(stored)
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict) or "family" not in config:
        raise ValueError(
            f"{stored} is not the config of a run: it must be an object with the keys 'family', 'model', 'data' ...; "
            "give another --workdir"
        )
    return json.loads(files.strict_json(migrate(config)))


def read_results(path, needed=()) -> dict:
    """The results in the folder `path`; unless training diverged, with the numbers `needed`.

    Raises `ValueError` where `results.json` does not hold those of a run.
    """
    file = Path(path) / "results.json"
    results = files.read_json(file)
    known = results if isinstance(results, dict) else {}
    if not known or not (known.get("train/diverged") or all(isinstance(known.get(n), int | float) for n in needed)):
        raise ValueError(f"{file} does not hold the results of a run; remove it, and run the same command again")
    return results


def config_differences(old: dict, new: dict, prefix=""):
    """Yield a line for each option that makes another run. Options in `SAME_RUN` do not count.

    An option that is absent equals an empty one (0, "", False, ()): later versions may add options.
    """
    for key in sorted({**old, **new}):
        path = f"{prefix}{key}"
        there, here = old.get(key), new.get(key)
        if path in SAME_RUN:
            continue
        if isinstance(there, dict) and isinstance(here, dict):
            yield from config_differences(there, here, f"{path}.")
        elif _plain(there) == _plain(here) or (not (there or here) and not (key in old and key in new)):
            continue
        elif path == "train.num_steps":
            yield (
                f"{path}: there {there!r}, now {here!r} (a run cannot be extended yet: --extend will come; until then "
                "train a new run, or begin one with --config.start_from)"
            )
        else:
            shown = [repr(side[key]) if key in side else "(absent)" for side in (old, new)]
            yield f"{path}: there {shown[0]}, now {shown[1]}"


def origin_difference(stored: dict, made_by: dict) -> str:
    """Say how the origin of a checkpoint, {"config": dict, "data": fingerprint}, differs from that of this run.

    Returns "" if it does not differ.
    """
    if differences := list(config_differences(migrate(stored["config"]), migrate(made_by["config"]))):
        return f"was made with another config; give another --workdir, or undo: {differences[0]}"
    if stored["data"] != made_by["data"]:
        return (
            f"was trained on other data (fingerprint {stored['data']}, now {made_by['data']}); restore the files as "
            "they were, or give another --workdir"
        )
    return ""


def _plain(value):
    """`value` with null for NaN and lists for tuples, so that equal configs compare as equal."""
    return json.loads(files.strict_json(value))


def _check_empty(path):
    """Raise `ValueError` where a folder without a config holds files: they could be overwritten."""
    foreign = sorted(p.name for p in path.iterdir() if not p.name.startswith(".") and p.suffix not in LOGS)
    if foreign and not os.path.lexists(path / "config.json"):  # else another process has just begun here
        shown = ", ".join(foreign[:3]) + (" ..." if len(foreign) > 3 else "")
        raise ValueError(
            f"--workdir {path} holds files but no config.json, so it is not the folder of a run ({shown}); give a new "
            "or an empty folder"
        )


# ------------------------------------------------------------------------------------------------------ the lock


@contextlib.contextmanager
def locked(path):
    """Keep other runs out of the folder `path` while the block runs.

    The lock is the kernel's (POSIX record lock on `.lock`): it ends with this process, however that ends. It holds
    between machines where the file system shares such locks (NFS, Lustre with flock). Where it refuses them, the log
    says so; where it is mounted to keep them on each machine (nolock, local_lock, localflock), nothing can tell.
    Raises `ValueError` that names the other process.
    """
    path = Path(path).resolve()
    if path in _held:
        raise ValueError(f"--workdir {path} is in use by this very process")
    _not_a_member(path)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        descriptor = os.open(path / ".lock", flags, 0o666)
    except OSError as error:
        raise ValueError(f"{path / '.lock'} cannot be opened ({os.strerror(error.errno)}); remove it") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ValueError(f"{path / '.lock'} is no regular file; remove it")
        try:
            free = _locks(descriptor, fcntl.LOCK_EX)
        except OSError as error:
            logging.warning("%s: this file system has no locks (%s): start one run at a time here", path, error)
        else:
            if not free:
                raise ValueError(
                    f"--workdir {path} is in use by {_holder(descriptor)}; wait for its end, or give another --workdir"
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_this_process()).encode(), 0)
        _held.add(path)
        yield
    finally:
        _held.discard(path)
        os.close(descriptor)


def _not_a_member(path):
    """Raise `ValueError` where `path` is members/NAME of a sweep that another process is training."""
    sweep = path.parent.parent
    if path.parent.name != "members" or sweep in _held:
        return
    with contextlib.suppress(OSError):  # no lock there, or none that can be asked for
        descriptor = os.open(sweep / ".lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not _locks(descriptor, fcntl.LOCK_SH):
                raise ValueError(
                    f"--workdir {path} belongs to the sweep of {_holder(descriptor)}; wait for its end, or give "
                    "another --workdir"
                )
        finally:
            os.close(descriptor)


def _locks(descriptor, kind) -> bool:
    """Take the lock; False where another process has it. Raises `OSError` where the file system has no locks."""
    try:
        fcntl.lockf(descriptor, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return False
    return True


def _this_process():
    return {
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
        "command": " ".join(sys.orig_argv)[:200],
    }


def _holder(descriptor):
    """The process that holds the lock, in words."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):  # it has not written its name yet
        return "another process"


# ----------------------------------------------------------------------------------------------- the environment


def environment() -> dict:
    """Everything beside the config that can change a run's numbers: versions, devices, and settings of JAX."""
    return {
        "python": platform.python_version(),
        **{name: _version(name) for name in RECORDED},
        "platform": jax.default_backend(),
        "device": jax.local_devices()[0].device_kind,
        "devices": jax.device_count(),
        **checkpoint.state_settings(),
        "threefry_partitionable": bool(jax.config.jax_threefry_partitionable),
        "matmul_precision": jax.config.jax_default_matmul_precision,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
    }


def record_environment(path):
    """Append this start's environment to `environment.json` where it is new; log every difference to the start before.

    Raises `ValueError` where `RANDOM` settings differ: the run would go on with other random numbers.
    """
    file, here = Path(path) / "environment.json", environment()
    starts = files.read_json(file) if file.exists() else []
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        raise ValueError(f"{file} is not a list of environments; remove it to go on")
    there = starts[-1] if starts else here
    changed = {name: (there.get(name), value) for name, value in here.items() if there.get(name) != value}
    if random := [name for name in RANDOM if name in changed and name in there]:
        name = random[0]
        raise ValueError(
            f"{path} was trained with {name}={changed[name][0]} and would go on with {name}={changed[name][1]}, which "
            "draws other random numbers; set JAX as it was (JAX_ENABLE_X64, JAX_DEFAULT_PRNG_IMPL, "
            "JAX_THREEFRY_PARTITIONABLE), or give another --workdir"
        )
    if changed:
        told = "; ".join(f"{name} was {before!r}, now {now!r}" for name, (before, now) in changed.items())
        logging.warning("the environment has changed since the last start, numbers may differ in rounding: %s", told)
    if changed or not starts:
        files.write_json(file, [*starts, here])


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
