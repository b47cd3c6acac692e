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

FOLDERS = (  # what a run writes, and where
    *("checkpoints", "damaged", "figures", "members", "mlruns"),
    *("previews", "programs", "profile", "wandb"),
)
DESCRIPTION = "dataset.json"  # all of the data set except its examples (`data.description`)
FILES = (
    *("config.json", "codes.npz", DESCRIPTION, "environment.json", "evaluation.json", "extensions.json"),
    *("log_prob.npy", "metrics.jsonl", "report.html", "results.json", "trackers.json"),
)
RESULTS = ("train/steps", "train/seconds", "test/num_examples")  # numbers that all results have
DATA_NAMES = ("train", "valid", "validation", "test")  # of files in a folder of data, without their ends
LOGS = (".log", ".out", ".err")  # files that a queue may have written before the run began
SAME_RUN = (  # options that change no number of the training, only what is measured, shown or stored
    "eval",
    "train.writers",
    "train.preview_every",
    "train.keep",
    "train.checkpoint_every",
    "data.memory_limit",
    "data.num_workers",
    "data.path",  # the data are compared instead
)
LONGER = "`vae-jax train --extend`, or `extend=True`, makes a run longer"
RECORDED = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint", "vae_jax")
RANDOM = ("x64", "prng_impl", "threefry_partitionable")  # settings of JAX that decide which numbers are drawn
_held = set()  # the folders that this process has locked


# -------------------------------------------------------------------------------------------------- the config


def open_workdir(path, config: dict, *, longer=False) -> Path:
    """Make `path` the folder of `config`, or check that it is.

    If two processes open a new folder at once with different configs, one is refused. Options in `SAME_RUN` may differ
    (`update_config`), with `longer` also the number of steps, which may be larger (`extension`). Raises `ValueError` if
    the folder holds another config (with every difference), contains files that do not belong to a run, or cannot be
    written.
    """
    path = Path(path).expanduser()
    name = os.fsencode(path)
    if not name.strip() or b"\0" in name or name.decode(errors="replace").encode() != name:
        raise ValueError(f"--workdir {str(path)!r} is not the name of a folder in UTF-8; give another")
    config = json.loads(files.strict_json(migrate(config)))  # tuples become lists, as in the file
    stored = path / "config.json"
    try:
        path.mkdir(parents=True, exist_ok=True)
        _probe(path)
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
    if differences := list(config_differences(read_config(path), config, longer=longer)):
        raise ValueError(
            f"--workdir {path} holds a run of another config, which stays as it is. Give another --workdir, or undo: "
            + "; ".join(differences).replace(LONGER, "a sweep cannot be made longer" if "sweep" in config else LONGER)
        )
    return path


def update_config(path, config: dict):
    """Write changed options of `SAME_RUN` to `config.json`. Only the process that holds the lock may do this."""
    if read_config(path) != (config := json.loads(files.strict_json(migrate(config)))):
        files.write_json(Path(path) / "config.json", config)


def read_config(path) -> dict:
    """Return the config in the folder `path`. Raises `ValueError` if `config.json` is missing or is not a config."""
    stored = Path(path).expanduser() / "config.json"
    if not os.path.lexists(stored):
        raise ValueError(f"{stored} does not exist: give a folder in which a model was trained")
    config = files.read_json(stored)
    if not isinstance(config, dict) or not isinstance(config.get("data"), dict) or "family" not in config:
        raise ValueError(
            f"{stored} is not the config of a run: it must be an object with the keys 'family', 'model', 'data' ...; "
            "give another folder"
        )
    return json.loads(files.strict_json(migrate(config)))


def read_results(path, needed=()) -> dict:
    """Return the results in the folder `path`. They have the numbers `needed`, unless training diverged.

    Numbers that were not finite are None. Raises `ValueError` if `results.json` does not hold the results of a run.
    """
    file = Path(path) / "results.json"
    try:
        results = files.read_json(file)
    except ValueError:
        results = None
    known = results if isinstance(results, dict) else {}
    if not known or not (known.get("train/diverged") or all(isinstance(known.get(n), int | float) for n in needed)):
        raise ValueError(f"{file} does not hold the results of a run; remove it, and run the same command again")
    return results


def results_of(folder) -> dict:
    """Return the contents of results.json. Raises `ValueError` for a run that is not complete or has diverged."""
    results = read_results(folder, RESULTS) if (Path(folder) / "results.json").exists() else {}
    if not results or results.get("train/diverged"):
        raise ValueError(
            f"{folder} {'has diverged' if results else 'is not complete: run its experiments.train again'}"
        )
    return results


def read_description(path) -> dict | None:
    """Return the description of the data set of a run, None for a run that has stored none."""
    file = Path(path).expanduser() / DESCRIPTION
    if not file.exists():
        return None
    described = files.read_json(file)
    if not isinstance(described, dict):
        raise ValueError(f"{file} is not the description of a data set; restore it, or remove it if the data are there")
    return described


def config_differences(old: dict, new: dict, prefix="", *, longer=False):
    """Yield a line for each option that makes two configs different runs. Options in `SAME_RUN` do not count.

    An option that is absent equals an empty one (0, "", False, ()), since later versions may add options. With `longer`
    the second config may have more steps.
    """
    for key in sorted({**old, **new}):
        path = f"{prefix}{key}"
        before, now = old.get(key), new.get(key)
        if path in SAME_RUN:
            continue
        if isinstance(before, dict) and isinstance(now, dict):
            yield from config_differences(before, now, f"{path}.", longer=longer)
        elif _plain(before) == _plain(now) or (not (before or now) and not (key in old and key in new)):
            continue
        elif path == "train.num_steps" and isinstance(before, int) and isinstance(now, int):
            if now > before and longer:
                continue
            remedy = LONGER if now > before else "a run cannot be made shorter"
            yield f"{path}: there {before!r}, now {now!r} ({remedy})"
        else:
            shown = [repr(side[key]) if key in side else "(absent)" for side in (old, new)]
            yield f"{path}: there {shown[0]}, now {shown[1]}"


def origin_difference(stored: dict, made_by: dict) -> str:
    """Say how the origin of a checkpoint, {"config": dict, "data": fingerprint}, differs from that of this run.

    Returns "" if it does not differ.
    """
    configs = migrate(stored["config"]), migrate(made_by["config"])
    if differences := list(config_differences(*configs, longer=True)):  # the run may have been extended since
        return f"was made with another config; give another --workdir, or undo: {differences[0]}"
    if stored["data"] != made_by["data"]:
        return (
            f"was trained on other data (fingerprint {stored['data']}, now {made_by['data']}); restore the files as "
            "they were, or give another --workdir"
        )
    return ""


def _plain(value):
    """Return `value` with null for NaN and lists for tuples, so that equal configs compare as equal."""
    return json.loads(files.strict_json(value))


def output_file(out, *suffixes, run, inputs=(), flag="--out") -> Path:
    """Return `out`, a file that a command may write. Called before anything is computed.

    Args:
      out: its path.
      *suffixes: those that are allowed.
      run: the folder of the run that the command uses. Its data count as inputs.
      inputs: paths of other files and folders that the command reads; None and "" for none.
      flag: the option that gives `out`.

    Raises `ValueError` for another suffix, for a folder, for a place inside a file or one that cannot be written, for a
    file of a run, and for a file that is there and belongs to the inputs.
    """
    inputs = (read_config(run)["data"].get("path"), *inputs)
    out = Path(out).expanduser()
    if out.suffix not in suffixes:
        raise ValueError(f"{flag}={out}: give a file that ends with {' or '.join(suffixes)}")
    if out.is_dir():
        raise ValueError(f"{flag}={out}: this is a folder; give a file that ends with {' or '.join(suffixes)}")
    _check_inside(out.parent, flag, out)
    if out.name in FILES and (out.parent / "config.json").is_file():
        raise ValueError(f"{flag}={out}: a run keeps its own {out.name} there; give another name or folder")
    for given in map(str, filter(None, inputs)):
        given = Path(os.path.expanduser(given))
        of_folder = out.stem in DATA_NAMES and given.is_dir() and out.parent.samefile(given)
        if out.exists() and given.exists() and (out.samefile(given) or of_folder):
            raise ValueError(f"{flag}={out}: this file is there and belongs to the data in {given}; give another name")
    check_writable(out.parent, flag, out)
    return out


def output_folder(out, *, flag="--out") -> Path:
    """Return `out`, a folder in which a command may write. Called before anything is computed.

    Raises `ValueError` for a file, for a place inside a file, and for the workdir of a run, whose page and figures
    would be overwritten.
    """
    out = Path(out).expanduser()
    _check_inside(out, flag, out)
    if (out / "config.json").is_file():
        raise ValueError(f"{flag}={out}: this is the workdir of a run; give another folder, such as one inside it")
    check_writable(out, flag, out)
    return out


def check_run(folder):
    """Raise `ValueError` unless `folder` is that of a run, and files can be written in it."""
    read_config(folder)
    check_writable(folder)


def check_writable(folder, flag="--workdir", shown=None):
    """Raise `ValueError` if no file can be written in `folder`, or in the nearest folder above it that exists."""
    folder = Path(folder).expanduser().absolute()
    try:
        _probe(next(path for path in (folder, *folder.parents) if path.is_dir()))
    except OSError as error:
        raise ValueError(
            f"{flag}={shown or folder} cannot be written: {error.strerror or error}; give another place or make room"
        ) from error


def _probe(folder):
    """Raise `OSError` if the disk of `folder` is full or may not be written: now, not after the work."""
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"\0" * 2**20)


def _check_inside(folder, flag, out):
    """Raise `ValueError` if `folder`, or a folder above it, is a file."""
    if wrong := [path for path in (folder, *folder.parents) if path.exists() and not path.is_dir()]:
        raise ValueError(
            f"{flag}={out}: {wrong[0]} is a file; give a {'folder' if folder == out else 'place'} outside it"
        )


def _check_empty(path):
    """Raise `ValueError` if a folder without a config contains files, which could be overwritten."""
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

    The lock is the kernel's (POSIX record lock on `.lock`), and ends with this process in any case. It works between
    machines if the file system shares such locks (NFS, Lustre with flock). If the file system refuses locks, the log
    says so. If it is mounted to keep locks on each machine (nolock, local_lock, localflock), this cannot be detected.
    Raises `ValueError` that names the other process.
    """
    path = Path(path).resolve()
    if path in _held:
        raise ValueError(f"--workdir {path} is in use by this process")
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
                    f"--workdir {path} is in use by {_holder(descriptor)}; wait until it ends, or give another "
                    "--workdir"
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_this_process()).encode(), 0)
        _held.add(path)
        yield
    finally:
        _held.discard(path)
        os.close(descriptor)


def _not_a_member(path):
    """Raise `ValueError` if `path` is members/NAME of a sweep that another process is training."""
    sweep = path.parent.parent
    if path.parent.name != "members" or sweep in _held:
        return
    with contextlib.suppress(OSError):  # there is no lock, or it cannot be read
        descriptor = os.open(sweep / ".lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            if not _locks(descriptor, fcntl.LOCK_SH):
                raise ValueError(
                    f"--workdir {path} belongs to the sweep of {_holder(descriptor)}; wait until it ends, or give "
                    "another --workdir"
                )
        finally:
            os.close(descriptor)


def _locks(descriptor, kind) -> bool:
    """Take the lock; return False if another process has it. Raises `OSError` if the file system has no locks."""
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
    """Return a description of the process that holds the lock."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
        return f"process {holder['pid']} on {holder['host']}, since {holder['since']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):  # it has not written its name yet
        return "another process"


# ----------------------------------------------------------------------------------------------- the environment


def environment() -> dict:
    """Return everything outside the config that can change a run's numbers: versions, devices, settings of JAX."""
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
    """Append the environment to `environment.json` if it has changed, and log every difference to the last start.

    Raises `ValueError` if `RANDOM` settings differ: the run would continue with other random numbers.
    """
    file, now = Path(path) / "environment.json", environment()
    starts = files.read_json(file) if file.exists() else []
    if not isinstance(starts, list) or not all(isinstance(start, dict) for start in starts):
        raise ValueError(f"{file} is not a list of environments; remove it to continue")
    before = starts[-1] if starts else now
    changed = {name: (before.get(name), value) for name, value in now.items() if before.get(name) != value}
    if random := [name for name in RANDOM if name in changed and name in before]:
        name = random[0]
        raise ValueError(
            f"{path} was trained with {name}={changed[name][0]} and would continue with {name}={changed[name][1]}, "
            "with other random numbers; set JAX as it was (JAX_ENABLE_X64, JAX_DEFAULT_PRNG_IMPL, "
            "JAX_THREEFRY_PARTITIONABLE), or give another --workdir"
        )
    if changed:
        text = "; ".join(f"{name} was {old!r}, now {new!r}" for name, (old, new) in changed.items())
        logging.warning("the environment has changed since the last start, numbers may differ in rounding: %s", text)
    if changed or not starts:
        files.write_json(file, [*starts, now])


def _version(name):
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
