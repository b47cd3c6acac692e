"""The metrics of a run: `metrics.jsonl` always, and trackers such as TensorBoard on request."""

import itertools
import json
from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.files import finite, write_text
from vae_jax.runs import trackers
from vae_jax.spec import first_line


class Writer:
    """A writer of one JSON object for each logged step, and of the same numbers to the trackers named in `names`.

    NaN and infinity, which JSON does not have, are written as null. A tracker that fails while the run trains is one
    line in the log, and is left out from then on. Raises `BadOption` for a tracker that cannot be used.
    """

    def __init__(self, directory, names=()):
        self.path = Path(directory) / "metrics.jsonl"
        self._file, self._trackers, self._started = None, trackers.open_all(names, directory), {}

    @property
    def has_trackers(self) -> bool:
        """True if someone looks at images and histograms."""
        return bool(self._trackers)

    def start(self, step: int):
        """Remove the lines after `step`: a resumed run writes the same lines again."""
        before = [line for line in read_metrics(self.path) if line["step"] <= int(step)]
        steps = [0, *[line["step"] for line in before]]
        if int(step) - steps[-1] > max((after - one for one, after in itertools.pairwise(steps)), default=0):
            logging.warning("%s has no lines between step %d and step %d: they were lost", self.path, steps[-1], step)
        write_text(self.path, "".join(_line(line) for line in before))
        self._file = self.path.open("a", encoding="utf-8")
        for name, tracker in self._trackers.items():
            trackers.start(name, tracker, step)
            self._started[name] = tracker

    def write(self, step: int, metrics: dict):
        """Write the metrics of one logged step."""
        metrics = {name: float(value) for name, value in metrics.items()}
        try:
            self._file.write(_line({"step": int(step), **metrics}))
            self._file.flush()
        except OSError as error:
            reason = error.strerror or error
            raise OSError(f"{self.path} cannot be written: {reason}; make room, and run the command again") from error
        self._send("scalars", step, metrics)

    def images(self, step: int, images: dict):
        """Show images, {name: uint8 [H, W, C]} with C = 1 or 3, in the trackers."""
        self._send("images", step, images)

    def histograms(self, step: int, histograms: dict):
        """Show histograms of {name: numbers [N]} in the trackers."""
        self._send("histograms", step, histograms)

    def _send(self, kind, step, values):
        for name, tracker in list(self._started.items()):
            try:
                getattr(tracker, kind)(int(step), values)
            except Exception as error:  # of any kind: the run does not depend on who looks at it
                logging.warning("%s gets no more: %s; metrics.jsonl has everything", name, first_line(error))
                del self._started[name]

    def close(self):
        if self._file:
            self._file.close()
        for name, tracker in self._started.items():
            try:
                tracker.close()
            except Exception as error:
                logging.warning("%s was not closed: %s", name, first_line(error))


def _line(metrics):
    return json.dumps(finite(metrics), allow_nan=False) + "\n"


class MemberWriters:
    """A `Writer` for each member of a sweep.

    Metrics are [M], or one value for all. A member whose step has not changed writes nothing, nor does one whose
    directory is None.
    """

    def __init__(self, directories, names=()):
        self._writers = [directory and Writer(directory, names) for directory in directories]
        self._steps = []

    def start(self, steps):
        self._steps = list(steps)
        for writer, step in zip(self._writers, steps, strict=False):  # members that fill up a program write nothing
            if writer:
                writer.start(step)

    def write(self, steps, metrics):
        for i, writer in enumerate(self._writers):
            if writer and steps[i] > self._steps[i]:
                writer.write(steps[i], {k: v[i] if np.ndim(v) else v for k, v in metrics.items()})
        self._steps = list(steps)

    def close(self):
        for writer in filter(None, self._writers):
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
