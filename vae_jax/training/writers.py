"""Where a run's numbers go: a folder of one config, with `metrics.jsonl` always and TensorBoard on request."""

import json
import os
import tempfile
from pathlib import Path

import numpy as np


def open_workdir(path, config: dict) -> Path:
    """Make `path` the folder of `config`, or find it so.

    Raises `ValueError` where it holds another config (with every difference), or cannot be written.
    """
    path = Path(path)
    config = json.loads(json.dumps(config))  # tuples become lists, as in the file
    try:
        path.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"\0" * 2**20)  # a full disk should say so now, not at the first checkpoint
        stored = path / "config.json"
        if not stored.exists():
            write_json(stored, config)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else error
        raise ValueError(f"--workdir {path} cannot be written: {reason}; give another or make room") from error
    try:
        found = json.loads(stored.read_text())
    except ValueError as error:
        raise ValueError(f"{stored} is not readable as JSON ({error}); remove the workdir or give another") from error
    differences = list(_differences(found, config))
    if differences:
        listing = "\n  ".join(differences)
        raise ValueError(
            f"--workdir {path} holds a run of another config, which is left as it is. Give another --workdir, or undo:"
            f"\n  {listing}"
        )
    return path


def _differences(old, new, prefix=""):
    for key in sorted({**old, **new}):
        there, here = old.get(key, "(absent)"), new.get(key, "(absent)")
        if isinstance(there, dict) and isinstance(here, dict):
            yield from _differences(there, here, f"{prefix}{key}.")
        elif there != here:
            yield f"{prefix}{key}: there {there!r}, now {here!r}"


def write_json(path, value):
    """Write all or nothing: a reader never sees half a file."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(value, indent=1) + "\n")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


class Writer:
    """One JSON object a logged step in `metrics.jsonl`; with `tensorboard`, event files beside it."""

    def __init__(self, directory, *, tensorboard=False):
        self.path = Path(directory) / "metrics.jsonl"
        self._file = None
        self._board = None
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                raise ValueError("config.train.tensorboard needs: pip install 'vae_jax[tensorboard]'") from error
            self._board = SummaryWriter(str(directory))

    def start(self, step: int):
        """Forget what was logged after `step`: a resumed run writes those lines again, the same."""
        kept = [line for line in read_metrics(self.path) if line["step"] <= int(step)]
        temporary = self.path.with_suffix(".partial")
        temporary.write_text("".join(json.dumps(line) + "\n" for line in kept))
        temporary.replace(self.path)
        self._file = self.path.open("a")

    def write(self, step: int, metrics: dict):
        metrics = {name: float(value) for name, value in metrics.items()}
        self._file.write(json.dumps({"step": int(step), **metrics}) + "\n")
        self._file.flush()
        for name, value in metrics.items() if self._board else ():
            self._board.add_scalar(name, value, int(step))

    def close(self):
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()


class MemberWriters:
    """A `Writer` for each member of a sweep, from metrics [M] or common to all. A member that stands still (its step
    does) writes nothing.
    """

    def __init__(self, directories, **options):
        self._writers = [Writer(directory, **options) for directory in directories]
        self._steps = []

    def start(self, steps):
        self._steps = list(steps)
        for writer, step in zip(self._writers, steps, strict=False):  # the members that fill a program up write nothing
            writer.start(step)

    def write(self, steps, metrics):
        for i, writer in enumerate(self._writers):
            if steps[i] > self._steps[i]:
                writer.write(steps[i], {k: v[i] if np.ndim(v) else v for k, v in metrics.items()})
        self._steps = list(steps)

    def close(self):
        for writer in self._writers:
            writer.close()


def read_metrics(path) -> list[dict]:
    """The logged steps, in order; a last line cut short by a kill is left out."""
    path = Path(path)
    lines = path.read_text().splitlines() if path.exists() else []
    metrics = []
    for number, line in enumerate(lines, 1):
        try:
            metrics.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: not JSON ({error})") from error
    return metrics
