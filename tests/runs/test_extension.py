"""A finished run made longer: the same bits as a run that was that long from the start."""

import functools
import json
import logging as standard_logging
import shutil

import jax
import numpy as np
import pytest
from absl import logging

from vae_jax.runs import build, configs, extension, report, train, workdir, writers

FAMILIES = ("vae_digits", "bernoulli_mixture_digits")  # by gradient, by sums over passes


@pytest.fixture(autouse=True)
def _without_measuring(monkeypatch):
    """Training alone: a run is complete as soon as its last step is done."""
    monkeypatch.setattr(report, "evaluate", lambda *_, **__: {"test/num_examples": 1})
    counted = lambda experiment, record: {"train/steps": record["steps"], "train/seconds": 1.0}  # noqa: E731
    monkeypatch.setattr(report, "training", counted)


def config(name="vae_digits", **changes):
    small = configs.find(f"{name}:smoke")
    small.train.update({"num_steps": 10, "log_every": 5, "eval_every": 5, "checkpoint_every": 10})
    small.mesh.data = 1
    return configs.with_values(small.to_dict(), {path.replace("__", "."): value for path, value in changes.items()})


def longer(name="vae_digits", num_steps=20, **changes):
    return config(name, train__num_steps=num_steps, **changes)


def complete(config, folder, **options):
    return train.complete(config, folder, figures=False, **options)


def left(folder):
    """The metrics except times, and the last state bit for bit."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    metrics = [
        {name: value for name, value in line.items() if not name.endswith(("_per_s", "_seconds"))} for line in lines
    ]
    state = build.restore(folder, build.build_trained(folder)).state
    return metrics, [np.asarray(jax.random.key_data(a) if _is_key(a) else a) for a in jax.tree.leaves(state)]


def _is_key(leaf):
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def assert_same(one, other):
    assert one[0] == other[0] and len(one[1]) == len(other[1])
    for a, b in zip(one[1], other[1], strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(family, steps) -> the folder of a run, trained when it is first asked for."""

    @functools.cache
    def of(name, num_steps):
        folder = tmp_path_factory.mktemp(name)
        complete(longer(name, num_steps), folder)
        return folder

    return of


@pytest.mark.parametrize("name", FAMILIES)
def test_ten_steps_and_ten_more_are_twenty_bit_for_bit(name, trained, tmp_path):
    folder = shutil.copytree(trained(name, 10), tmp_path / "run")
    (folder / "codes.npz").write_bytes(b"codes of the shorter run")
    assert complete(longer(name), folder, extend=True)["train/steps"] == 20
    codes = folder / "codes.npz"  # those of the longer run, if the model has codes
    assert codes.exists() == (name == "vae_digits") and b"shorter" not in (
        codes.read_bytes() if codes.exists() else b""
    )
    assert_same(left(folder), left(trained(name, 20)))
    assert workdir.read_config(folder)["train"]["num_steps"] == 20
    assert json.loads((folder / "results-10.json").read_text())["train/steps"] == 10
    (entry,) = json.loads((folder / "extensions.json").read_text())
    assert (entry["from"], entry["before"], entry["num_steps"]) == (10, 10, 20)
    before = (folder / "extensions.json").read_bytes()
    assert complete(longer(name), folder, extend=True)["train/steps"] == 20  # nothing is left to do
    assert complete(longer(name), folder)["train/steps"] == 20
    assert (folder / "extensions.json").read_bytes() == before


def test_killed_anywhere_the_same_command_does_the_rest(trained, tmp_path, monkeypatch):
    """While it begins, twice; while it trains; and then without --extend."""
    folder = shutil.copytree(trained("vae_digits", 10), tmp_path / "run")
    for function in ("os.replace", "workdir.update_config"):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(f"vae_jax.runs.extension.{function}", _killed)
            complete(longer(), folder, extend=True)
        assert workdir.read_config(folder)["train"]["num_steps"] == 10
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        write = writers.Writer.write
        at_20 = lambda self, step, metrics: (_killed if step == 20 else write)(self, step, metrics)  # noqa: E731
        patch.setattr(writers.Writer, "write", at_20)
        complete(longer(), folder, extend=True)
    assert not (folder / "results.json").exists() and (folder / "results-10.json").exists()
    complete(longer(), folder)
    assert_same(left(folder), left(trained("vae_digits", 20)))
    assert len(json.loads((folder / "extensions.json").read_text())) == 1


def _killed(*_, **__):
    raise KeyboardInterrupt


def test_a_run_that_patience_has_ended_continues_from_its_last_state(tmp_path, monkeypatch):
    """Validations never improve: each start runs for as many of them as patience allows."""
    worse = lambda *_, **__: lambda params, step: {"bound": np.float64(-step)}  # noqa: E731
    monkeypatch.setattr("vae_jax.evaluation.likelihood.validation", worse)
    patient = longer(num_steps=1000, train__patience=2)
    assert complete(patient, tmp_path)["train/steps"] == 15
    assert complete(patient, tmp_path)["train/steps"] == 15
    assert complete(patient, tmp_path, extend=True)["train/steps"] == 25
    assert complete(longer(num_steps=2000, train__patience=2), tmp_path, extend=True)["train/steps"] == 35
    entries = json.loads((tmp_path / "extensions.json").read_text())
    assert [(entry["from"], entry["num_steps"]) for entry in entries] == [(15, 1000), (25, 2000)]
    record = build.restore(tmp_path, build.build_trained(tmp_path)).record
    assert record["best_step"] == 5  # the best of all validations stays the best


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (config(train__num_steps=5), r"num_steps is 5, and the run in .* has 10: it cannot be made shorter"),
        (longer(model__latent_dim=3), r"holds a run of another config.*undo: model.latent_dim: there 8, now 3$"),
    ],
)
def test_nothing_else_may_change(config, message, finished):
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file() and path.name != ".lock"}
    with pytest.raises(ValueError, match=message) as refused:
        complete(config, finished, extend=True)
    assert "\n" not in str(refused.value)
    assert before == {p: p.read_bytes() for p in finished.rglob("*") if p.is_file() and p.name != ".lock"}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A workdir with results and no checkpoint: what is refused needs none."""
    folder = tmp_path_factory.mktemp("finished")
    workdir.open_workdir(folder, config())
    (folder / "results.json").write_text(json.dumps({"train/steps": 10, "test/num_examples": 1, "train/seconds": 1.0}))
    return folder


def test_what_cannot_be_extended_says_why(finished, tmp_path):
    with pytest.raises(ValueError, match="holds no run yet; leave --extend out"):
        extension.is_due(tmp_path, longer())
    counted = {**longer(), "learner": {"name": "whole_data"}}
    with pytest.raises(ValueError, match="'whole_data' has used all data at once"):
        extension.is_due(finished, counted)
    (finished / "results.json").write_text(json.dumps({"train/diverged": 1}))
    with pytest.raises(ValueError, match="has diverged"):
        extension.is_due(finished, longer())


@pytest.mark.parametrize(
    ("schedule", "line"),
    [
        (
            {"name": "cosine_decay_schedule", "init_value": 1.0, "decay_steps": 10, "alpha": 0.05},
            "has ended, and it stays",
        ),
        (
            {"name": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": {"15": 0.1}},
            "goes on as",
        ),
    ],
)
def test_the_log_says_how_the_learning_rate_goes_on(schedule, line, tmp_path, caplog):
    logging.get_absl_logger().propagate = True
    workdir.open_workdir(tmp_path, config())
    with caplog.at_level(standard_logging.INFO):
        extension.begin(tmp_path, configs.with_values(longer(), {"optimizer.schedule": schedule}))
    assert line in caplog.text and "at step 10" in caplog.text and "at step 20" in caplog.text


def test_a_checkpoint_of_a_longer_run_is_none_of_a_shorter_one(tmp_path):
    """Extended runs read checkpoints of fewer steps; the other way round a checkpoint belongs to another run."""
    short, long = ({"config": c, "data": "x"} for c in (config(), longer()))
    assert workdir.origin_difference(short, long) == ""
    assert "num_steps: there 20, now 10" in workdir.origin_difference(long, short)
