"""Runs and sweeps that were stopped, moved, damaged, lengthened or removed in part."""

import contextlib
import json
import shutil
import signal

import jax
import numpy as np
import pytest
from absl import logging

import vae_jax
from vae_jax.configs import vae_digits
from vae_jax.runs import build, evaluate, report, sweep, sweep_table, train
from vae_jax.runs.writers import Writer, read_metrics
from vae_jax.training import signals

SEEDS = "seed=0:3"


def config(**changes):
    """A run of a second on a file of small images; `changes` are sections of the config."""
    small = vae_digits.get_config("smoke").to_dict()
    for part in ("encoder", "decoder"):
        small["model"][part]["hidden"] = (4,)
    small["train"] |= {"num_steps": 8, "log_every": 2, "eval_every": 4, "checkpoint_every": 2}
    small["eval"] |= {"num_samples": 2, "num_test": 8}
    for name, value in changes.items():
        small[name] = small[name] | value if isinstance(value, dict) else value
    return small


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a file of images and a finished run of them."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "data").mkdir()
    np.save(folder / "data" / "x.npy", np.random.default_rng(0).integers(0, 256, (150, 4, 4, 1), dtype=np.uint8))
    train.complete(config(data=of(folder)), folder / "run", figures=False)
    return folder


def of(folder):
    """The section `data` of the images in `folder`."""
    return {"name": "arrays", "path": str(folder / "data" / "x.npy"), "max_value": 255, "batch_size": 20}


@pytest.fixture
def here(runs, tmp_path):
    """A copy of that folder whose run has its data."""
    shutil.copytree(runs, tmp_path / "here")
    stored = json.loads((tmp_path / "here" / "run" / "config.json").read_text())
    stored["data"]["path"] = of(tmp_path / "here")["path"]
    (tmp_path / "here" / "run" / "config.json").write_text(json.dumps(stored))
    return tmp_path / "here"


@contextlib.contextmanager
def stopped(monkeypatch):
    """A signal ends the training at its first log."""
    with monkeypatch.context() as patch, pytest.raises(signals.Preempted):
        patch.setattr(signals, "noted", lambda: contextlib.nullcontext(lambda: signal.SIGTERM))
        yield


@contextlib.contextmanager
def devices(monkeypatch, number):
    with monkeypatch.context() as patch:
        patch.setattr(jax, "device_count", lambda: number)
        yield


# --------------------------------------------------------------------------------------------------------- one run


@pytest.mark.slow
def test_what_a_run_starts_from_is_what_is_in_its_folder_now(here):
    changed = config(data=of(here), start_from=str(here / "run"), optimizer={"learning_rate": 1e-12})
    first = build.build(changed).model.init(jax.random.key(0), {"x": np.zeros((2, 4, 4, 1))})
    shutil.rmtree(here / "run")
    train.complete(config(data=of(here), seed=1), here / "run", figures=False)
    params = vae_jax.load(here / "run").params
    now = build.build(changed).model.init(jax.random.key(0), {"x": np.zeros((2, 4, 4, 1))})
    jax.tree.map(np.testing.assert_array_equal, now, params)
    assert any(np.any(a != b) for a, b in zip(jax.tree.leaves(first), jax.tree.leaves(now), strict=True))


@pytest.mark.slow
def test_a_run_continues_without_the_one_from_which_it_started(here, monkeypatch):
    started = config(data=of(here), start_from=str(here / "run"))
    with stopped(monkeypatch):
        train.complete(started, here / "second", figures=False)
    shutil.rmtree(here / "run")
    assert train.complete(started, here / "second", figures=False)["train/steps"] == 8
    longer = started | {"train": started["train"] | {"num_steps": 10}}
    assert train.complete(longer, here / "second", figures=False, extend=True)["train/steps"] == 10


@pytest.mark.slow
def test_a_run_on_data_in_memory_is_a_start_and_cannot_be_evaluated_without_them(here):
    x = np.load(here / "data" / "x.npy")
    options = {"num_steps": 2, "batch_size": 20, "progress": False}
    vae_jax.fit(x, "vae_digits:smoke", workdir=here / "memory", **options)
    vae_jax.fit(x, "vae_digits:smoke", workdir=here / "second", start_from=str(here / "memory"), **options)
    with pytest.raises(ValueError, match=r"memory was trained on data in memory, .*give --data"):
        evaluate.again(here / "memory")


def test_data_that_have_moved_are_told_to_a_complete_run_once(here):
    (here / "data").rename(here / "there")
    with pytest.raises(FileNotFoundError, match=r"If the data of .*run have moved, run its training command once more"):
        evaluate.again(here / "run", figures=False)
    moved = of(here) | {"path": str(here / "there" / "x.npy")}
    train.complete(config(data=moved), here / "run", figures=False)
    assert "log p(x)" in evaluate.again(here / "run", figures=False)


def test_data_written_since_a_run_ended_are_compared(here):
    x = np.load(here / "data" / "x.npy")
    np.save(here / "data" / "x.npy", x)
    train.complete(config(data=of(here)), here / "run", figures=False)
    np.save(here / "data" / "x.npy", 255 - x)
    with pytest.raises(ValueError, match="holds a complete run on other data"):
        train.complete(config(data=of(here)), here / "run", figures=False)


def test_figures_are_drawn_if_the_run_was_stopped_before_them(here, monkeypatch):
    drawn = []
    monkeypatch.setattr(train, "_draw", lambda experiment, params, folder, formats: drawn.append((folder, formats)))
    assert (here / "run" / "codes.npz").exists()  # written before the results
    train.complete(config(data=of(here)), here / "run", formats=("png", "pdf"))
    train.complete(config(data=of(here)), here / "run", figures=False)
    (here / "run" / "report.html").write_text("")
    train.complete(config(data=of(here)), here / "run")
    assert drawn == [(here / "run", ("png", "pdf"))]


def test_a_run_can_be_saved_from_anywhere_and_not_after_it_has_gone(here, monkeypatch, tmp_path):
    monkeypatch.chdir(here)
    run = vae_jax.load("run")
    monkeypatch.chdir(tmp_path)
    assert len(run.history()["step"]) == 4 and (run.save("saved") / "config.json").exists()
    shutil.rmtree(here / "run")
    for call in (run.history, lambda: run.save("again")):
        with pytest.raises(ValueError, match="does not exist: this run has been moved or removed"):
            call()
    assert not (tmp_path / "again").exists()


def test_damaged_results_do_not_hide_the_model(here, caplog):
    (here / "run" / "results.json").write_text("{")
    logging.use_python_logging(quiet=True)
    with caplog.at_level("WARNING"):
        assert vae_jax.load(here / "run").results == {}
    assert "remove it, and run the same command again" in caplog.text
    with pytest.raises(ValueError, match="remove it, and run the same command again"):
        train.complete(config(data=of(here)), here / "run", figures=False)


def test_results_that_are_not_finite_can_be_shown(here):
    file = here / "run" / "results.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"test/log_prob": None, "test/elbo": None}))
    run = vae_jax.load(here / "run")
    assert "8 steps; in run" in repr(run)
    assert "nan nats" in report.table(run.results)


@pytest.mark.slow
def test_fit_extends_a_run(here):
    x = np.load(here / "data" / "x.npy")
    options = {"config": "vae_digits:smoke", "workdir": here / "fit", "batch_size": 20, "progress": False}
    vae_jax.fit(x, num_steps=2, **options)
    with pytest.raises(ValueError, match="`extend=True`, makes a run longer"):
        vae_jax.fit(x, num_steps=4, **options)
    assert vae_jax.fit(x, num_steps=4, extend=True, **options).results["train/steps"] == 4


def test_lines_that_were_lost_are_missed(tmp_path, caplog):
    logging.use_python_logging(quiet=True)
    (tmp_path / "metrics.jsonl").write_text('{"step": 5}\n{"step": 10}\n')
    for step, lost in ((10, False), (15, False), (40, True)):
        caplog.clear()
        with caplog.at_level("WARNING"):
            writer = Writer(tmp_path)
            writer.start(step)
            writer.close()
        assert ("has no lines between step 10 and step 40" in caplog.text) == lost


# ---------------------------------------------------------------------------------------------------------- sweeps


@pytest.fixture(scope="module")
def swept(runs):
    """A finished sweep of three seeds."""
    rows = sweep.complete(config(data=of(runs)), SEEDS, runs / "swept")
    assert not (runs / "swept" / "programs").exists()
    return runs / "swept", rows


@pytest.mark.slow
def test_a_stopped_sweep_continues_on_other_devices_and_with_other_groups(runs, swept, monkeypatch, tmp_path):
    """It goes on as it began: no step is repeated, and the members are those of a sweep that was not stopped."""
    with devices(monkeypatch, 2), stopped(monkeypatch):
        sweep.complete(config(data=of(runs)), SEEDS, tmp_path / "sweep", members_per_program=3)
    before = read_metrics(tmp_path / "sweep" / "members" / "seed=0" / "metrics.jsonl")
    with devices(monkeypatch, 1):
        rows = sweep.complete(config(data=of(runs)), SEEDS, tmp_path / "sweep", members_per_program=1)
    after = read_metrics(tmp_path / "sweep" / "members" / "seed=0" / "metrics.jsonl")
    assert [line["step"] for line in after] == [2, 4, 6, 8] and after[0] == before[0]
    np.testing.assert_allclose(rows[0]["test/log_prob"], swept[1][0]["test/log_prob"], rtol=1e-4)


@pytest.mark.slow
def test_a_member_that_was_lengthened_is_left_out_and_does_not_stop_a_lost_one(runs, swept, tmp_path):
    folder = shutil.copytree(swept[0], tmp_path / "sweep")
    longer = config(data=of(runs), train={"num_steps": 10}, seed=0)
    train.complete(longer, folder / "members" / "seed=0", figures=False, extend=True)
    shutil.rmtree(folder / "members" / "seed=1")
    row = sweep.complete(config(data=of(runs)), SEEDS, folder)[0]
    assert row["members"] == ["seed=1", "seed=2"]
    assert len(read_metrics(folder / "members" / "seed=0" / "metrics.jsonl")) == 5
    alone = json.loads((swept[0] / "members" / "seed=1" / "results.json").read_text())
    again = json.loads((folder / "members" / "seed=1" / "results.json").read_text())
    np.testing.assert_allclose(again["test/log_prob"], alone["test/log_prob"], rtol=1e-4)
    with pytest.raises(ValueError, match=r"there 8, now 9 \(a sweep cannot be made longer"):
        sweep.complete(config(data=of(runs), train={"num_steps": 9}), SEEDS, folder)


@pytest.mark.slow
def test_members_without_finite_parameters_have_diverged(runs, tmp_path):
    rates = "seed=0:2,optimizer.learning_rate=1e-3|1e30"
    rows = sweep.complete(config(data=of(runs)), rates, tmp_path / "sweep")
    assert [row["diverged"] for row in rows] == [0, 2] and rows[1]["test/log_prob"] is None
    file = tmp_path / "sweep" / "members" / rows[0]["members"][0] / "results.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"test/log_prob": None}))
    axes = json.loads((tmp_path / "sweep" / "config.json").read_text())["sweep"]
    folders = [tmp_path / "sweep" / "members" / name for row in rows for name in row["members"]]
    assert sweep_table.by_setting(folders, axes)[0]["diverged"] == 1
