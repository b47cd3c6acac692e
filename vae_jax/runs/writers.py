"""The metrics of a run: `metrics.jsonl` always, and TensorBoard on request."""

import json
from pathlib import Path

import numpy as np

from vae_jax.files import finite, write_text
from vae_jax.spec import BadOption


class Writer:
    """A writer of one JSON object for each logged step, and of event files beside it with `tensorboard`.

    NaN and infinity, which JSON does not have, are written as null. Raises `BadOption` if tensorboardX is missing.
    """

    def __init__(self, directory, *, tensorboard=False):
        self.path = Path(directory) / "metrics.jsonl"
        self._file = self._board = self._summary_writer = None
        if tensorboard:
            try:
                from tensorboardX import SummaryWriter
            except ImportError as error:
                raise BadOption("tensorboard needs: pip install 'vae_jax[tensorboard]'") from error
            self._summary_writer = SummaryWriter

    def start(self, step: int):
        """Remove the lines after `step`: a resumed run writes the same lines again."""
        before = [line for line in read_metrics(self.path) if line["step"] <= int(step)]
        write_text(self.path, "".join(_line(line) for line in before))
        self._file = self.path.open("a", encoding="utf-8")
        if self._summary_writer:
            self._board = self._summary_writer(str(self.path.parent), purge_step=int(step) + 1)

    def write(self, step: int, metrics: dict):
        """Write the metrics of one logged step."""
        metrics = {name: float(value) for name, value in metrics.items()}
        self._file.write(_line({"step": int(step), **metrics}))
        self._file.flush()
        for name, value in metrics.items() if self._board else ():
            self._board.add_scalar(name, value, int(step))

    def close(self):
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()


def _line(metrics):
    return json.dumps(finite(metrics), allow_nan=False) + "\n"


class MemberWriters:
    """A `Writer` for each member of a sweep.

    Metrics are [M], or one value for all. A member whose step has not changed writes nothing.
    """

    def __init__(self, directories, **options):
        self._writers = [Writer(directory, **options) for directory in directories]
        self._steps = []

    def start(self, steps):
        self._steps = list(steps)
        for writer, step in zip(self._writers, steps, strict=False):  # members that fill up a program write nothing
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
    """Return the logged steps in order, with NaN for null. A last line that was cut off by a kill is left out.

    Raises `ValueError` with the number of a line that does not hold the metrics of a step.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is no regular file; move it away")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    metrics = []
    for number, line in enumerate(lines, 1):
        try:
            values = {name: np.nan if value is None else value for name, value in json.loads(line).items()}
            metrics.append({**values, "step": int(values["step"])})
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
            if number < len(lines):
                raise ValueError(f"{path}, line {number}: not the metrics of a step ({error})") from error
    return metrics
