"""Trackers: where the metrics and pictures of a run are shown, beside `metrics.jsonl`. Each of them is an extra.

A tracker has the methods of `TensorBoard`. It is made before anything is compiled, and begins with the first step. The
runs of Weights & Biases and MLflow have an id in `trackers.json`, so that a resumed run continues them.
"""

import importlib
import os
import sys
import time
import uuid
from pathlib import Path

import numpy as np

from vae_jax import files
from vae_jax.spec import BadOption, first_line, nearest, shown

PROJECT = "vae_jax"  # of Weights & Biases, and the experiment of MLflow, unless the environment names another
BATCH = 100  # parameters of a run that MLflow takes at once


class TensorBoard:
    """Event files in the workdir."""

    extra, module = "tensorboard", "tensorboardX"

    def __init__(self, folder):
        self._library, self._folder, self._board = _imported(self), str(folder), None

    def start(self, step):
        """Begin after `step`: what was written later is purged, since a resumed run writes it again."""
        self._board = self._library.SummaryWriter(self._folder, purge_step=step + 1)

    def scalars(self, step, metrics):
        """Show {name: number}."""
        for name, value in metrics.items():
            self._board.add_scalar(name, value, step)

    def images(self, step, images):
        """Show {name: uint8 [H, W, C]}, C = 1 or 3."""
        for name, image in images.items():
            self._board.add_image(name, image, step, dataformats="HWC")

    def histograms(self, step, histograms):
        """Show {name: numbers [N]}."""
        for name, values in histograms.items():
            self._board.add_histogram(name, values, step)

    def close(self):
        if self._board:
            self._board.close()


class WeightsAndBiases:
    """A run of Weights & Biases; without a network set WANDB_MODE=offline, and send it later by `wandb sync`.

    The project is `vae_jax` or WANDB_PROJECT. The members of a sweep are a group.
    """

    extra = module = "wandb"

    def __init__(self, folder):
        self._library, self._folder, self._run = _imported(self), Path(folder).resolve(), None

    def start(self, step):
        sweep = self._folder.parent.parent.name if self._folder.parent.name == "members" else None
        self._run = self._library.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=_remembered(self._folder, "wandb", lambda: uuid.uuid4().hex[:8]),
            name=self._folder.name,
            group=sweep,
            dir=str(self._folder),
            config=_config(self._folder),
            resume="allow",
            reinit="create_new",  # the members of a sweep are open at the same time
            settings=self._library.Settings(console="off", silent=True),
        )
        self._run.define_metric("step")
        self._run.define_metric("*", step_metric="step")  # its own steps only count calls

    def scalars(self, step, metrics):
        self._run.log({"step": step, **metrics})

    def images(self, step, images):
        self.scalars(step, {name: self._library.Image(_without_grey_axis(image)) for name, image in images.items()})

    def histograms(self, step, histograms):
        self.scalars(step, {name: self._library.Histogram(values) for name, values in histograms.items()})

    def close(self):
        if self._run:
            self._run.finish(exit_code=int(sys.exc_info()[0] is not None))


class MLflow:
    """A run of MLflow on the server MLFLOW_TRACKING_URI, or in files in the workdir's `mlruns` without one.

    The experiment is `vae_jax` or MLFLOW_EXPERIMENT_NAME. MLflow has no histograms.
    """

    extra, module = "mlflow", "mlflow"

    def __init__(self, folder):
        _imported(self)
        self._folder, self._client, self._id = Path(folder).resolve(), None, None

    def start(self, step):
        from mlflow import MlflowClient

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")  # else it asks for a data base
            uri = (self._folder / "mlruns").as_uri()
        self._client = client = MlflowClient(tracking_uri=uri)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        experiment = client.get_experiment_by_name(name)
        parent = experiment.experiment_id if experiment else client.create_experiment(name)
        self._id = _remembered(self._folder, "mlflow", lambda: self._new(parent))
        client.update_run(self._id, status="RUNNING")

    def _new(self, experiment):
        from mlflow.entities import Param

        run = self._client.create_run(experiment, run_name=self._folder.name).info.run_id
        params = [Param(name, str(value)[:500]) for name, value in _flat(_config(self._folder))]
        for first in range(0, len(params), BATCH):
            self._client.log_batch(run, params=params[first : first + BATCH])
        return run

    def scalars(self, step, metrics):
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        finite = {name: value for name, value in metrics.items() if np.isfinite(value)}
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, step) for name, value in finite.items()])

    def images(self, step, images):
        for name, image in images.items():
            self._client.log_image(self._id, image, key=name.replace("/", "_"), step=step)

    def histograms(self, step, histograms):
        pass

    def close(self):
        if self._id:
            self._client.set_terminated(self._id, "FAILED" if sys.exc_info()[0] else "FINISHED")


KNOWN = {"tensorboard": TensorBoard, "wandb": WeightsAndBiases, "mlflow": MLflow}


def check(writers):
    """Raise `BadOption` unless `writers` is a tuple of names of trackers."""
    if not isinstance(writers, tuple | list):
        raise BadOption(f"writers must be a tuple of names, such as ('tensorboard',), got {shown(writers)}")
    for name in writers:
        if not isinstance(name, str) or name not in KNOWN:
            raise BadOption(f"writers: unknown value {shown(name)}{nearest(str(name), KNOWN)}")


def check_installed(writers):
    """Raise `BadOption` that names the extra of a missing package; before a folder is made."""
    for name in writers:
        _imported(KNOWN[name])


def open_all(names, folder) -> dict:
    """Return {name: tracker} of the run in `folder`. Raises `BadOption` that names the extra of a missing package."""
    check(names)
    return {name: KNOWN[name](folder) for name in names}


def start(name, tracker, step):
    """Begin after `step`. Raises `BadOption` if the tracker cannot begin, such as without a key or a network."""
    try:
        tracker.start(int(step))
    except Exception as error:  # of any kind: these libraries have their own
        hint = {
            "wandb": "; log in by `wandb login`, or set WANDB_MODE=offline",
            "mlflow": "; check MLFLOW_TRACKING_URI, or unset it to write files",
        }
        raise BadOption(f"writers: {name!r} cannot begin: {first_line(error)}{hint.get(name, '')}") from error


def _imported(tracker):
    """Return the module of a tracker. Raises `BadOption` with the extra that brings it."""
    try:
        return importlib.import_module(tracker.module)
    except ImportError as error:
        raise BadOption(f"writers: {tracker.extra!r} needs: pip install 'vae_jax[{tracker.extra}]'") from error


def _remembered(folder, name, new) -> str:
    """Return the id of a tracker's run from `folder`/trackers.json. If there is none, `new()` makes and keeps one."""
    path = folder / "trackers.json"
    ids = files.read_json(path) if path.exists() else {}
    if not isinstance(ids, dict) or not isinstance(ids.get(name, ""), str):
        raise ValueError(f"{path} does not hold the ids of trackers; remove it")
    if name not in ids:
        ids[name] = new()
        files.write_json(path, ids)
    return ids[name]


def _config(folder) -> dict:
    path = folder / "config.json"
    return files.read_json(path) if path.exists() else {}


def _flat(value, path=""):
    """Yield (dotted path, value) of a config."""
    for name, item in value.items():
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{path}{name}.")
        else:
            yield f"{path}{name}", item


def _without_grey_axis(image):
    return image[..., 0] if image.shape[-1] == 1 else image
