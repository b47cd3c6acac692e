"""Trackers: the real libraries where they are installed, without a network; and what is said where they are not."""

import json
import re
import sys
import time

import numpy as np
import pytest

from vae_jax.configs import vae_digits
from vae_jax.runs import trackers, train, writers
from vae_jax.spec import BadOption


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    """No network, and no settings of the person who runs the tests."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "WANDB_PROJECT"):
        monkeypatch.delenv(name, raising=False)


def write(folder, names, step, steps=(1, 2)):
    """What a run from `step` on writes."""
    writer = writers.Writer(folder, names)
    writer.start(step)
    for i in steps:
        writer.write(step + i, {"train/loss": float(step + i), "valid/bound": np.nan})
    writer.images(step + 2, {"preview/samples": np.full((6, 4, 1), 200, np.uint8)})
    writer.histograms(step + 2, {"valid/rate_per_dimension": np.arange(3.0)})
    writer.close()


def test_mlflow_continues_the_run_of_the_workdir(tmp_path):
    client = pytest.importorskip("mlflow").MlflowClient
    (tmp_path / "config.json").write_text(json.dumps({"seed": 3, "train": {"num_steps": 4}}))
    write(tmp_path, ("mlflow",), 0)
    write(tmp_path, ("mlflow",), 2)
    run = client(tracking_uri=(tmp_path / "mlruns").as_uri())
    (experiment,) = [e for e in run.search_experiments() if e.name == "vae_jax"]
    (found,) = run.search_runs([experiment.experiment_id])
    assert found.info.run_name == tmp_path.name and found.info.status == "FINISHED"
    assert found.data.params == {"seed": "3", "train.num_steps": "4"}
    history = run.get_metric_history(found.info.run_id, "train/loss")
    assert [(metric.step, metric.value) for metric in history] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 4.0)]
    assert "valid/bound" not in found.data.metrics  # NaN
    images = [file.path for file in run.list_artifacts(found.info.run_id, "images") if file.path.endswith(".png")]
    assert len(images) == 2 and "preview_samples" in images[0]


def test_a_run_that_fails_is_a_failed_run_of_mlflow(tmp_path):
    client = pytest.importorskip("mlflow").MlflowClient
    writer = writers.Writer(tmp_path, ("mlflow",))
    writer.start(0)
    with pytest.raises(RuntimeError):
        try:
            raise RuntimeError("diverged")
        finally:
            writer.close()
    run_id = json.loads((tmp_path / "trackers.json").read_text())["mlflow"]
    assert client(tracking_uri=(tmp_path / "mlruns").as_uri()).get_run(run_id).info.status == "FAILED"


def test_wandb_continues_the_run_of_the_workdir(tmp_path):
    pytest.importorskip("wandb")
    (tmp_path / "config.json").write_text(json.dumps({"seed": 3}))
    write(tmp_path, ("wandb",), 0)
    time.sleep(1.1)  # the folder of a start has the second in its name
    write(tmp_path, ("wandb",), 2)
    name = json.loads((tmp_path / "trackers.json").read_text())["wandb"]
    files = sorted((tmp_path / "wandb").glob("offline-run-*/*.wandb"))
    assert files and {file.name for file in files} == {f"run-{name}.wandb"}
    written = b"".join(file.read_bytes() for file in files)
    assert {int(value) for value in re.findall(rb"train/loss[^0-9a-z]{3}([0-9])", written)} == {1, 2, 3, 4}
    assert b"preview/samples" in written and b"valid/rate_per_dimension" in written


def test_tensorboard_has_scalars_images_and_histograms(tmp_path):
    pytest.importorskip("tensorboardX")
    from tensorboardX.proto.event_pb2 import Event

    write(tmp_path, ("tensorboard",), 0)
    (file,) = tmp_path.glob("events.out.tfevents.*")
    data, kinds, start = file.read_bytes(), set(), 0
    while start < len(data):
        length = int.from_bytes(data[start : start + 8], "little")
        event = Event.FromString(data[start + 12 : start + 12 + length])
        kinds |= {(event.step, value.tag, value.WhichOneof("value")) for value in event.summary.value}
        start += length + 16
    assert (2, "preview/samples", "image") in kinds and (2, "valid/rate_per_dimension", "histo") in kinds
    assert {(1, "train/loss", "simple_value"), (2, "train/loss", "simple_value")} <= kinds


@pytest.mark.parametrize("name", trackers.KNOWN)
def test_a_missing_package_is_one_line_with_the_extra_that_brings_it(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, trackers.KNOWN[name].module, None)
    with pytest.raises(BadOption, match=rf"writers: '{name}' needs: pip install 'vae_jax\[{name}\]'"):
        writers.Writer(tmp_path, (name,))
    config = vae_digits.get_config("smoke").to_dict()
    config["train"]["writers"] = (name,)
    with pytest.raises(BadOption, match="needs: pip install"):
        train.complete(config, tmp_path / "run", figures=False)
    assert not (tmp_path / "run").exists()


class Broken(trackers.TensorBoard):
    def __init__(self, folder):
        pass

    def start(self, step):
        pass

    def scalars(self, step, metrics):
        raise ConnectionError("the server is gone")


def test_a_tracker_that_fails_does_not_end_the_run(tmp_path, monkeypatch):
    monkeypatch.setitem(trackers.KNOWN, "mlflow", Broken)
    write(tmp_path, ("mlflow",), 0)
    assert [line["step"] for line in writers.read_metrics(tmp_path / "metrics.jsonl")] == [1, 2]


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_that_cannot_begin_is_one_line_with_a_remedy(name, tmp_path, monkeypatch):
    class Refusing(Broken):
        def start(self, step):
            raise PermissionError("no key\nand a page of advice")

    monkeypatch.setitem(trackers.KNOWN, name, Refusing)
    with pytest.raises(BadOption, match=f"writers: '{name}' cannot begin: PermissionError: no key; ") as error:
        writers.Writer(tmp_path, (name,)).start(0)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [("wandb", "must be a tuple"), (("wandbb",), "unknown value 'wandbb'; did you mean 'wandb'"), ((3,), "unknown")],
)
def test_only_names_of_trackers_are_allowed(names, message):
    with pytest.raises(BadOption, match=message):
        trackers.check(names)
