"""The folder of a run: one config, one process, whole files."""

import json
import os
import signal
import subprocess
import sys
import time
from typing import ClassVar

import jax
import numpy as np
import pytest

from vae_jax import files
from vae_jax.runs import workdir, writers

CONFIG = {"seed": 0, "family": "vae", "model": {"hidden": (3, 4), "latent_dim": 2}, "data": {"path": "here"}}


def config(**changes):
    return {**CONFIG, **changes}


class TestConfig:
    def test_the_same_config_may_come_back(self, tmp_path):
        assert workdir.open_workdir(tmp_path / "w", CONFIG) == tmp_path / "w"
        assert workdir.open_workdir(tmp_path / "w", CONFIG) == tmp_path / "w"  # tuples and lists alike

    def test_another_config_is_refused_with_the_difference(self, tmp_path):
        workdir.open_workdir(tmp_path, CONFIG)
        before = (tmp_path / "config.json").read_bytes()
        with pytest.raises(ValueError, match=r"model.latent_dim: there 2, now 5") as refused:
            workdir.open_workdir(tmp_path, config(model={"hidden": (3, 4), "latent_dim": 5}))
        assert "\n" not in str(refused.value)
        assert (tmp_path / "config.json").read_bytes() == before

    def test_nan_that_an_earlier_version_wrote_is_read(self, tmp_path):
        there = json.dumps(config(optimizer={"learning_rate": float("nan")}))
        (tmp_path / "config.json").write_text(there)
        workdir.open_workdir(tmp_path, config(optimizer={"learning_rate": float("nan")}))
        assert (tmp_path / "config.json").read_text() == there

    @pytest.mark.parametrize("path", workdir.SAME_RUN)
    def test_options_that_change_no_number_of_the_training_make_no_other_run(self, tmp_path, path):
        part, _, name = path.partition(".")
        one, other = ({part: {**CONFIG.get(part, {}), name or "num_samples": value}} for value in (1, 2))
        workdir.open_workdir(tmp_path, config(**one))
        workdir.open_workdir(tmp_path, config(**other))
        assert workdir.read_config(tmp_path)[part][name or "num_samples"] == 1  # whoever has the lock may change it
        workdir.update_config(tmp_path, config(**other))
        assert workdir.read_config(tmp_path)[part][name or "num_samples"] == 2

    def test_another_number_of_steps_is_refused_with_the_flag_that_extends(self, tmp_path):
        workdir.open_workdir(tmp_path, config(train={"num_steps": 5}))
        with pytest.raises(ValueError, match=r"train.num_steps: there 5, now 6 \(`vae-jax train --extend`"):
            workdir.open_workdir(tmp_path, config(train={"num_steps": 6}))
        workdir.open_workdir(tmp_path, config(train={"num_steps": 6}), longer=True)
        for longer in (False, True):
            with pytest.raises(ValueError, match=r"train.num_steps: there 5, now 4 \(a run cannot be made shorter\)"):
                workdir.open_workdir(tmp_path, config(train={"num_steps": 4}), longer=longer)
        with pytest.raises(ValueError, match=r"seed: there 0, now 1$"):
            workdir.open_workdir(tmp_path, config(seed=1, train={"num_steps": 6}), longer=True)

    @pytest.mark.parametrize("new", [{"dropout": 0.0}, {"penalties": {}}, {"corruption": ""}])
    def test_a_new_option_that_is_empty_is_no_difference(self, tmp_path, new):
        workdir.open_workdir(tmp_path, CONFIG)
        assert not list(workdir.config_differences(CONFIG, config(model=CONFIG["model"] | new)))
        with pytest.raises(ValueError, match=r"\(absent\), now 7"):
            workdir.open_workdir(tmp_path, config(model=CONFIG["model"] | dict.fromkeys(new, 7)))

    @pytest.mark.parametrize("there", ["[1, 2]", "3", "null", '"a"', "{}", '{"model_type": "bert"}', "{", "[" * 10**5])
    def test_what_is_no_config_of_a_run_is_refused(self, tmp_path, there):
        (tmp_path / "config.json").write_text(there)
        with pytest.raises(ValueError, match=r"config.json is not") as refused:
            workdir.open_workdir(tmp_path, CONFIG)
        assert "\n" not in str(refused.value) and (tmp_path / "config.json").read_text() == there


class TestFolder:
    def test_a_path_that_is_a_file_is_refused(self, tmp_path):
        (tmp_path / "w").write_text("mine")
        with pytest.raises(ValueError, match="cannot be written"):
            workdir.open_workdir(tmp_path / "w", CONFIG)
        assert (tmp_path / "w").read_text() == "mine"

    @pytest.mark.parametrize("name", ["results.json", "metrics.jsonl", "thesis.tex", "checkpoints/1"])
    def test_a_folder_of_foreign_files_is_refused(self, tmp_path, name):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match="holds files but no config"):
            workdir.open_workdir(tmp_path, CONFIG)
        assert [p.name for p in tmp_path.iterdir()] == [name.split("/")[0]]

    def test_a_log_that_a_queue_has_put_there_is_none(self, tmp_path):
        (tmp_path / "slurm-1.out").write_text("job 1")
        workdir.open_workdir(tmp_path, CONFIG)
        assert workdir.read_config(tmp_path)["family"] == "vae"

    @pytest.mark.parametrize("name", workdir.FILES[1:])
    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to(path)])
    def test_what_is_no_file_where_a_run_writes_one_is_refused(self, tmp_path, name, make):
        """A pipe would be waited for without end."""
        workdir.open_workdir(tmp_path, CONFIG)
        make(tmp_path / name)
        with pytest.raises(ValueError, match=f"{name} is no regular file"):
            workdir.open_workdir(tmp_path, CONFIG)

    @pytest.mark.parametrize("name", workdir.FOLDERS)
    def test_a_file_where_a_run_needs_a_folder_is_refused(self, tmp_path, name):
        workdir.open_workdir(tmp_path, CONFIG)
        (tmp_path / name).write_text("mine")
        with pytest.raises(ValueError, match=f"{name} is a file"):
            workdir.open_workdir(tmp_path, CONFIG)

    def test_home_is_home(self, tmp_path, monkeypatch):
        monkeypatch.setenv("HOME", str(tmp_path))
        assert workdir.open_workdir("~/x", CONFIG) == tmp_path / "x"

    def test_of_two_configs_at_once_one_is_refused(self, tmp_path):
        """Of many folders opened at the same moment, each accepts one config, and every opener of that config."""
        piped = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        racers = [subprocess.Popen([sys.executable, "-c", RACE, str(tmp_path), seed], **piped) for seed in "01"]
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        start = time.time() + 0.1
        accepted = [json.loads(racer.communicate(f"{start}\n")[0]) for racer in racers]
        for number in range(100):
            winner = workdir.read_config(tmp_path / str(number))["seed"]
            assert [accepted[racer][number] for racer in (0, 1)] == ([0, None] if winner == 0 else [None, 1])


RACE = """
import json, sys, time
from vae_jax.runs import workdir
seed, accepted = int(sys.argv[2]), []
print("ready", flush=True)
start = float(sys.stdin.readline())
for number in range(100):
    while time.time() < start + number * 0.01:
        pass
    try:
        config = {"seed": seed, "family": "vae", "data": {}}
        workdir.open_workdir(f"{sys.argv[1]}/{number}", config)
        accepted.append(seed)
    except ValueError as error:
        assert "another config" in str(error), error
        accepted.append(None)
print(json.dumps(accepted))
"""
HOLD = """
import sys
from vae_jax.runs import workdir
with workdir.locked(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


class TestLock:
    def test_a_second_process_is_refused_and_told_which_is_the_first(self, tmp_path):
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(ValueError, match=f"in use by process {holder.pid} on .*, since 20"),
            workdir.locked(tmp_path),
        ):
            pass
        member = tmp_path / "members" / "seed=0"
        member.mkdir(parents=True)
        with pytest.raises(ValueError, match=f"the sweep of process {holder.pid} on"), workdir.locked(member):
            pass
        holder.send_signal(signal.SIGKILL)  # the lock survives no process
        holder.wait()
        for folder in (tmp_path, member):
            with workdir.locked(folder):
                pass

    def test_this_process_may_not_hold_it_twice(self, tmp_path):
        with workdir.locked(tmp_path):
            with pytest.raises(ValueError, match="by this process"), workdir.locked(tmp_path):
                pass
            with pytest.raises(ValueError, match="by this process"), workdir.locked(tmp_path / "."):
                pass
        with workdir.locked(tmp_path):
            pass

    def test_a_file_system_without_locks_is_said(self, tmp_path, monkeypatch, caplog):
        def refuse(*_):
            raise OSError(38, "Function not implemented")

        monkeypatch.setattr(workdir.fcntl, "lockf", refuse)
        with workdir.locked(tmp_path):
            assert "this file system has no locks" in caplog.text

    def test_a_lock_that_is_a_link_is_not_followed(self, tmp_path):
        (tmp_path / "mine").write_text("mine")
        (tmp_path / ".lock").symlink_to(tmp_path / "mine")
        with pytest.raises(ValueError, match=r"\.lock cannot be opened .*; remove it"), workdir.locked(tmp_path):
            pass
        assert (tmp_path / "mine").read_text() == "mine"


class TestEnvironment:
    def test_every_new_environment_is_recorded_and_the_difference_said(self, tmp_path, monkeypatch, caplog):
        workdir.record_environment(tmp_path)
        workdir.record_environment(tmp_path)
        assert len(json.loads((tmp_path / "environment.json").read_text())) == 1 and not caplog.text
        there = workdir.environment()
        assert there["jax"] == jax.__version__ and there["x64"] is False
        monkeypatch.setattr(workdir, "environment", lambda: there | {"jax": "9.9"})
        workdir.record_environment(tmp_path)
        assert f"jax was '{jax.__version__}', now '9.9'" in caplog.text
        assert [start["jax"] for start in json.loads((tmp_path / "environment.json").read_text())][1] == "9.9"

    @pytest.mark.parametrize("name", workdir.RANDOM)
    def test_other_random_numbers_are_refused(self, tmp_path, monkeypatch, name):
        workdir.record_environment(tmp_path)
        there = workdir.environment()
        monkeypatch.setattr(workdir, "environment", lambda: there | {name: "other"})
        with pytest.raises(ValueError, match=f"was trained with {name}=.* and would continue with {name}=other"):
            workdir.record_environment(tmp_path)

    @pytest.mark.parametrize("there", ["{}", "[3]", "[", "3"])
    def test_a_damaged_record_is_named(self, tmp_path, there):
        (tmp_path / "environment.json").write_text(there)
        with pytest.raises(ValueError, match=r"is not (a list of environments|readable as JSON)"):
            workdir.record_environment(tmp_path)


class TestFiles:
    def test_write_json_leaves_the_old_file_when_it_fails(self, tmp_path):
        files.write_json(tmp_path / "r.json", {"a": 1})
        with pytest.raises(TypeError):
            files.write_json(tmp_path / "r.json", {"a": object()})
        assert json.loads((tmp_path / "r.json").read_text()) == {"a": 1}
        assert [p.name for p in tmp_path.iterdir()] == ["r.json"]

    @pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
    def test_what_json_does_not_have_becomes_null(self, tmp_path, value):
        files.write_json(tmp_path / "r.json", {"a": [value, 1.5], "b": {"c": value}})
        strict = json.loads((tmp_path / "r.json").read_text(), parse_constant=pytest.fail)
        assert strict == {"a": [None, 1.5], "b": {"c": None}}

    def test_a_link_is_replaced_and_never_written_through(self, tmp_path):
        folder, victim = tmp_path / "w", tmp_path / "victim"
        folder.mkdir()
        victim.write_text("mine")
        for name in ("r.json", "metrics.jsonl", "metrics.partial", ".r.json.1"):
            (folder / name).symlink_to(victim)
        files.write_json(folder / "r.json", {})
        writer = writers.Writer(folder)
        writer.start(0)
        writer.write(1, {"train/loss": 1.0})
        writer.close()
        assert victim.read_text() == "mine" and not (folder / "metrics.jsonl").is_symlink()

    def test_metrics_that_are_nan_are_null_in_the_file_and_nan_when_read(self, tmp_path):
        writer = writers.Writer(tmp_path)
        writer.start(0)
        writer.write(1, {"train/loss": np.nan, "train/bound": -1.0})
        writer.close()
        line = (tmp_path / "metrics.jsonl").read_text()
        assert json.loads(line, parse_constant=pytest.fail) == {"step": 1, "train/loss": None, "train/bound": -1.0}
        assert np.isnan(writers.read_metrics(tmp_path / "metrics.jsonl")[0]["train/loss"])

    @pytest.mark.parametrize("line", ["{", "3", "[]", "{}", '{"step": null}', '{"step": "a"}', "\xff"])
    def test_a_damaged_line_of_metrics_is_named_and_a_last_one_is_left_out(self, tmp_path, line):
        file = tmp_path / "metrics.jsonl"
        file.write_text('{"step": 1}\n' + line, encoding="latin-1")
        assert writers.read_metrics(file) == [{"step": 1}]
        file.write_text(f'{line}\n{{"step": 1}}\n', encoding="latin-1")
        with pytest.raises(ValueError, match="line 1: not the metrics of a step"):
            writers.read_metrics(file)


class TestTensorBoard:
    calls: ClassVar = []

    def test_event_files_do_not_run_back_in_time(self, tmp_path, monkeypatch):
        """A resumed run purges what was written after the step from which it continues."""

        class SummaryWriter:
            def __init__(self, folder, purge_step):
                TestTensorBoard.calls.append(purge_step)

            def close(self):
                pass

        monkeypatch.setitem(sys.modules, "tensorboardX", type(os)("tensorboardX"))
        sys.modules["tensorboardX"].SummaryWriter = SummaryWriter
        writer = writers.Writer(tmp_path, ("tensorboard",))
        writer.start(120)
        writer.close()
        assert TestTensorBoard.calls == [121]
