"""The loop with a learner whose every number is known: θ counts the batches it has seen."""

import errno
import itertools
import json
import os
import re
import shutil
import signal
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from vae_jax.core import Learner
from vae_jax.data.pipeline import Stream
from vae_jax.runs import writers
from vae_jax.runs.workdir import origin_difference
from vae_jax.training import checkpoint, loop, signals
from vae_jax.training.checkpoint import Checkpoints


@struct.dataclass
class State:
    step: jax.Array
    key: jax.Array
    params: dict
    skipped: jax.Array
    skipped_in_row: jax.Array


def counting(bad_from=10**9, explode_from=10**9):
    """θ ← θ + noise(key, step) + step; its loss is NaN from `bad_from` on and huge from `explode_from` on."""

    def init(key, batch):
        zero = jnp.zeros((), jnp.int32)
        return State(zero, key, {"theta": jnp.zeros(3)}, zero, zero)

    def step(state, batch):
        noise = jax.random.normal(jax.random.fold_in(state.key, state.step), (3,))
        bad = state.step >= bad_from
        loss = jnp.where(bad, jnp.nan, jnp.where(state.step >= explode_from, 1e9, 1.0))
        skip = bad.astype(jnp.int32)
        params = jax.tree.map(lambda p: jnp.where(bad, p, p + noise + batch["x"][0, 0]), state.params)
        metrics = {"loss": loss, "bound": -loss, "rate": loss * 0.9, "distortion": loss * 0.1}
        state = State(state.step + 1, state.key, params, state.skipped + skip, (state.skipped_in_row + 1) * skip)
        return state, {**metrics, "skipped": skip.astype(jnp.float32)}

    return Learner(init, step, lambda state: state.params)


def stream():
    def batch(feed, step, i):
        return {"x": jnp.full((2, 1), 1.0) * step}

    return Stream(lambda step, length: {"key": np.zeros((2, 2), np.uint32), "stored": {}}, batch, 2, 10)


def fit(learner=None, **options):
    options = {"num_steps": 12, "log_every": 3, "progress": False, **options}
    return loop.fit(learner or counting(), stream(), key=jax.random.key(0), **options)


def test_every_step_sees_its_own_batch_and_key():
    fitted = fit()
    noise = [jax.random.normal(jax.random.fold_in(jax.random.key(0), t), (3,)) for t in range(12)]
    np.testing.assert_allclose(fitted.params["theta"], sum(noise) + sum(range(12)), rtol=1e-5)
    assert fitted.record["steps"] == 12


def test_chunks_of_any_length_give_the_same_run():
    a, b = fit(log_every=3).params["theta"], fit(log_every=5).params["theta"]
    np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_resumed_run_is_the_same_run_bit_for_bit(tmp_path):
    whole = fit()
    checkpoints = Checkpoints(tmp_path / "c")
    fit(num_steps=6, checkpoints=checkpoints, checkpoint_every=6)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path / "c")
    resumed = fit(checkpoints=checkpoints, checkpoint_every=6)
    checkpoints.close()
    jax.tree.map(
        np.testing.assert_array_equal,
        jax.tree.leaves((whole.params, whole.state.step)),
        jax.tree.leaves((resumed.params, resumed.state.step)),
    )


def test_metrics_after_the_checkpoint_are_written_again_not_twice(tmp_path):
    writer = writers.Writer(tmp_path)
    checkpoints = Checkpoints(tmp_path / "c")
    fit(num_steps=6, checkpoints=checkpoints, checkpoint_every=6, writer=writer)
    writer.write(9, {"train/loss": 7.0})  # logged by a run that was killed before its next checkpoint
    writer.close()
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 12, "tra')  # and cut short in the middle of a line
    fit(checkpoints=checkpoints, writer=writers.Writer(tmp_path))
    checkpoints.close()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [3, 6, 9, 12]
    assert all(line["train/loss"] == 1.0 for line in lines)


def test_every_log_has_the_seconds_of_all_starts(tmp_path):
    def validate(params, step):
        began = time.process_time()
        while time.process_time() < began + 0.05:  # validations count
            pass
        return {"bound": 0.0}

    for num_steps in (6, 12):
        checkpoints, writer = Checkpoints(tmp_path / "c"), writers.Writer(tmp_path)
        fit(num_steps=num_steps, checkpoints=checkpoints, writer=writer, validate=validate, eval_every=6)
        checkpoints.close()
        writer.close()
    lines = writers.read_metrics(tmp_path / "metrics.jsonl")
    cpu, wall = ([line[f"{name}_seconds"] for line in lines] for name in ("cpu", "wall"))
    assert [line["step"] for line in lines] == [3, 6, 9, 12] and min(*np.diff([0.0, *cpu]), *np.diff([0.0, *wall])) > 0
    assert cpu[1] - cpu[0] > 0.05 and cpu[3] - cpu[2] > 0.05


def test_a_run_of_an_earlier_version_has_no_seconds(tmp_path):
    checkpoints, writer = Checkpoints(tmp_path / "c"), writers.Writer(tmp_path)
    state, best, record = loop.start(counting(), stream(), jax.random.key(0))
    counted = {name: value.tolist() for name, value in record.items() if name not in ("cpu_seconds", "wall_seconds")}
    checkpoints.save(0, (state, best), counted)
    fit(checkpoints=checkpoints, writer=writer)
    checkpoints.close()
    assert np.isnan([line["cpu_seconds"] for line in writers.read_metrics(tmp_path / "metrics.jsonl")]).all()


def test_early_stopping_keeps_the_best_parameters():
    bounds = iter([-3.0, -1.0, -2.0, -2.0, -0.5])
    seen = []

    def validate(params, step):
        seen.append(np.array(params["theta"]))
        return {"bound": next(bounds)}

    fitted = fit(num_steps=100, eval_every=3, patience=2, validate=validate)
    assert fitted.record["steps"] == 12  # two validations without a better bound after the second
    assert fitted.record["best_step"] == 6
    np.testing.assert_array_equal(fitted.params["theta"], seen[1])


def test_the_last_step_may_be_the_best_checkpoint(tmp_path):
    bounds = iter([-3.0, -2.0, -1.0, -0.5])
    checkpoints = Checkpoints(tmp_path, keep=1)
    options = {"eval_every": 3, "validate": lambda params, step: {"bound": next(bounds)}}
    fit(checkpoints=checkpoints, checkpoint_every=3, **options)
    assert loop.restore(counting(), stream(), checkpoints, step="best").state.step == 12
    checkpoints.close()


def test_a_stopped_run_stays_stopped_when_resumed(tmp_path):
    bounds = itertools.chain([-1.0, -2.0, -2.0], itertools.repeat(5.0))
    options = {"num_steps": 100, "eval_every": 3, "patience": 2, "validate": lambda p, s: {"bound": next(bounds)}}
    for _ in range(2):
        checkpoints = Checkpoints(tmp_path / "c")
        fitted = fit(checkpoints=checkpoints, **options)
        checkpoints.close()
        assert int(fitted.state.step) == 9


def test_non_finite_steps_in_a_row_stop_the_run_and_name_step_and_term(tmp_path):
    checkpoints = Checkpoints(tmp_path / "c")
    with pytest.raises(loop.Diverged, match=r"step 8: .*loss.* not finite, 5 steps in a row"):
        fit(counting(bad_from=7), max_skipped=5, checkpoints=checkpoints, checkpoint_every=3)
    checkpoints.close()
    checkpoints = Checkpoints(tmp_path / "c")
    fitted = loop.restore(counting(), stream(), checkpoints)
    checkpoints.close()
    assert int(fitted.state.skipped_in_row) < 5 and np.isfinite(fitted.params["theta"]).all()


def test_an_exploded_loss_stops_the_run_and_names_the_term():
    with pytest.raises(loop.Diverged, match=r"steps 7 to 9: the loss has grown from 1 to 1e\+09 nats.*'rate'"):
        fit(counting(explode_from=6))


def test_a_skipped_step_is_counted_and_no_explosion(tmp_path):
    def step(state, batch):
        state, metrics = counting().step(state, batch)
        skip = state.step == 8
        return state, {**metrics, "loss": jnp.where(skip, 1e9, 1.0), "skipped": skip.astype(jnp.float32)}

    fit(counting()._replace(step=step), writer=writers.Writer(tmp_path))
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["train/loss"] for line in lines] == [1.0] * 4
    np.testing.assert_allclose([line["train/skipped"] for line in lines], [0, 0, 1 / 3, 0])


@pytest.mark.parametrize("name", ["num_steps", "log_every", "eval_every"])
def test_a_number_of_steps_below_one_is_refused(name):
    with pytest.raises(ValueError, match=f"^{name} must be at least 1, got 0"):
        fit(**{name: 0})


class TestCheckpoints:
    def write(self, directory, steps=(1, 2, 3)):
        checkpoints = Checkpoints(directory, keep=3)
        for step in steps:
            checkpoints.save(step, self.tree(step), {"note": step})
        checkpoints.close()

    def tree(self, value):
        return {"a": jnp.full((200, 30), value, jnp.float32), "key": jax.random.key(value), "n": jnp.int32(value)}

    def read(self, directory):
        checkpoints = Checkpoints(directory, keep=3)
        try:
            return checkpoints.restore(self.tree(0))
        finally:
            checkpoints.close()

    def test_round_trip_with_keys(self, tmp_path):
        self.write(tmp_path)
        step, tree, record = self.read(tmp_path)
        assert (step, record["note"]) == (3, 3)
        np.testing.assert_array_equal(tree["a"], 3.0)
        assert jax.random.uniform(tree["key"]) == jax.random.uniform(jax.random.key(3))

    def test_only_the_last_few_are_kept(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, keep=2)
        for step in range(5):
            checkpoints.save(step, self.tree(step), {})
        checkpoints.close()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["3", "4"]

    def test_the_best_is_kept_beside_the_last_few_and_can_be_asked_for(self, tmp_path):
        checkpoints = Checkpoints(tmp_path, keep=2)
        for step, bound in enumerate((-3.0, -1.0, -2.0, None, -2.5)):
            checkpoints.save(step, self.tree(step), {}, bound=bound)
        checkpoints.close()
        assert sorted(p.name for p in tmp_path.iterdir()) == ["1", "3", "4"]
        checkpoints = Checkpoints(tmp_path, keep=2)
        assert [checkpoints.restore(self.tree(0), step=asked)[0] for asked in ("best", 3, None)] == [1, 3, 4]
        with pytest.raises(ValueError, match=r"holds no checkpoint 2; there are \[1, 3, 4\]"):
            checkpoints.restore(self.tree(0), step=2)
        checkpoints.close()

    def damaged(self, tmp_path, damage):
        self.write(tmp_path)
        for file in (tmp_path / "3").rglob("*"):
            if file.is_file() and "/d/" in str(file):
                damage(file)

    @pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
    def test_a_damaged_checkpoint_is_passed_over_and_named(self, tmp_path, damage, caplog):
        def hurt(file):
            data = bytearray(file.read_bytes())
            if damage == "truncate":
                file.write_bytes(data[: len(data) // 2])
            elif damage == "flip":
                data[len(data) // 2] ^= 0xFF
                file.write_bytes(data)
            else:
                os.remove(file)

        self.damaged(tmp_path, hurt)
        step, tree, _ = self.read(tmp_path)
        assert step == 2
        np.testing.assert_array_equal(tree["a"], 2.0)
        assert "a damaged checkpoint is skipped: step 3" in caplog.text

    def test_where_none_can_be_read_the_run_does_not_start_over_unasked(self, tmp_path):
        self.write(tmp_path, steps=(1,))
        for file in (tmp_path / "1").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
        with pytest.raises(ValueError, match=r"all 1 checkpoints under .* are damaged; nothing was removed"):
            self.read(tmp_path)

    @pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESTALE, errno.EMFILE])
    @pytest.mark.parametrize("where", ["Orbax", "the files"])
    def test_what_cannot_be_read_now_is_no_damage(self, tmp_path, monkeypatch, number, where):
        """Orbax may raise the error itself, or anything, while a plain read of the files raises it."""
        self.write(tmp_path)

        def fails(*_):
            raise OSError(number, "") if where == "Orbax" else ValueError("a page of Orbax")

        monkeypatch.setattr(Checkpoints, "_read", fails)
        if where == "the files":
            monkeypatch.setattr(checkpoint, "_first_unreadable", lambda folder: OSError(number, ""))
        with pytest.raises(OSError, match=f"step 3 under .* cannot be read now: {os.strerror(number)}; nothing was ch"):
            self.read(tmp_path)
        monkeypatch.undo()
        assert self.read(tmp_path)[0] == 3  # all of it is still there

    def test_what_fails_once_is_read_again(self, tmp_path, monkeypatch):
        """A disk may fail for a moment and say so through Orbax, as a ValueError, while all files can be read."""
        self.write(tmp_path)
        read, failures = Checkpoints._read, [ValueError("EIO: input/output error")]

        def fails_once(self, *arguments):
            if failures:
                raise failures.pop()
            return read(self, *arguments)

        monkeypatch.setattr(Checkpoints, "_read", fails_once)
        assert self.read(tmp_path)[0] == 3

    def test_a_plain_read_finds_what_cannot_be_read(self, tmp_path):
        (tmp_path / "fine").write_text("x")
        assert checkpoint._first_unreadable(tmp_path) is None
        (tmp_path / "loop").symlink_to(tmp_path / "loop")  # which root cannot read either
        assert checkpoint._first_unreadable(tmp_path).errno == errno.ELOOP

    def test_memory_that_runs_out_is_no_damage(self, tmp_path, monkeypatch):
        def fails(*_):
            raise MemoryError

        self.write(tmp_path)
        monkeypatch.setattr(Checkpoints, "_read", fails)
        with pytest.raises(MemoryError):
            self.read(tmp_path)

    def test_damaged_ones_are_set_aside_and_none_is_deleted(self, tmp_path):
        self.write(tmp_path / "checkpoints")
        for _ in range(2):  # the second time in the same place
            shutil.copytree(tmp_path / "checkpoints" / "2", tmp_path / "checkpoints" / "9")
            content = {
                p.relative_to(tmp_path / "checkpoints" / "9") for p in (tmp_path / "checkpoints" / "9").rglob("*")
            }
            checkpoints = Checkpoints(tmp_path / "checkpoints", keep=3)
            checkpoints.set_aside_after(3)
            checkpoints.save(9, self.tree(9), {})
            checkpoints.close()
            shutil.rmtree(tmp_path / "checkpoints" / "9")
        assert sorted(p.name for p in (tmp_path / "damaged").iterdir()) == ["9-0", "9-1"]
        for place in (tmp_path / "damaged").iterdir():
            assert {p.relative_to(place) for p in place.rglob("*")} == content

    def test_a_record_is_strict_json(self, tmp_path):
        checkpoints = Checkpoints(tmp_path)
        checkpoints.save(1, self.tree(1), {"best_bound": -np.inf, "first_loss": [np.nan, 1.0]}, bound=np.nan)
        checkpoints.close()
        text = next((tmp_path / "1" / "record").rglob("metadata")).read_text()
        assert json.loads(text, parse_constant=pytest.fail)["first_loss"] == [None, 1.0]
        assert not (tmp_path / "1" / "metrics").exists()

    def made_by(self, learning_rate=0.1, data="a", keep=2):
        return {"config": {"optimizer": {"learning_rate": learning_rate}, "train": {"keep": keep}}, "data": data}

    @pytest.mark.parametrize(
        ("now", "message"),
        [
            ({"learning_rate": 0.2}, "made with another config.*optimizer.learning_rate: there 0.1, now 0.2"),
            ({"data": "b"}, "trained on other data.*fingerprint a, now b"),
        ],
    )
    def test_a_checkpoint_of_another_run_is_refused_and_left(self, tmp_path, now, message):
        checkpoints = Checkpoints(tmp_path, made_by=self.made_by(), difference=origin_difference)
        checkpoints.save(1, self.tree(1), {"note": 1})
        checkpoints.close()
        checkpoints = Checkpoints(tmp_path, made_by=self.made_by(**now), difference=origin_difference)
        with pytest.raises(ValueError, match=message):
            checkpoints.restore(self.tree(0))
        checkpoints.close()
        checkpoints = Checkpoints(tmp_path, made_by=self.made_by(keep=5), difference=origin_difference)  # the same run
        assert checkpoints.restore(self.tree(0))[2] == {"note": 1}
        checkpoints.close()

    @pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[1]", b"{}", b"null", b'{"bound": null}'])
    def test_damaged_metrics_do_not_hide_the_others(self, tmp_path, content):
        """Orbax reads the metrics of all checkpoints before anything else."""
        checkpoints = Checkpoints(tmp_path / "checkpoints", keep=3)
        for step in (1, 2):
            checkpoints.save(step, self.tree(step), {"note": step}, bound=-step)
        checkpoints.close()
        (tmp_path / "checkpoints" / "2" / "metrics" / "metrics").write_bytes(content)
        reader = Checkpoints(tmp_path / "checkpoints", read_only=True)
        assert reader.restore(self.tree(0), step=1)[2] == {"note": 1}
        reader.close()
        assert not (tmp_path / "damaged").exists()
        assert self.read(tmp_path / "checkpoints")[0] == 1
        assert [p.name for p in (tmp_path / "damaged").iterdir()] == ["2-0"]

    def test_a_file_in_the_place_of_the_folder_is_refused(self, tmp_path):
        (tmp_path / "checkpoints").write_text("mine")
        with pytest.raises(ValueError, match="checkpoints is a file"):
            Checkpoints(tmp_path / "checkpoints")

    def test_reading_changes_nothing_and_survives_that_a_run_removes_what_is_read(self, tmp_path, monkeypatch):
        self.write(tmp_path)
        (tmp_path / "4.orbax-checkpoint-tmp-0").mkdir()  # being written at this moment
        before = sorted(tmp_path.rglob("*"))
        reader, read, removed = Checkpoints(tmp_path, read_only=True), Checkpoints._read, []

        def read_while_trained(self, step, *arguments):
            if not removed:
                removed.append(step)
                shutil.rmtree(self.directory / str(step))
            return read(self, step, *arguments)

        monkeypatch.setattr(Checkpoints, "_read", read_while_trained)
        assert reader.restore(self.tree(0))[0] == 2 and removed == [3]
        reader.close()
        assert [p for p in before if p.exists()] == sorted(tmp_path.rglob("*"))
        with pytest.raises(ValueError, match="holds no checkpoint yet"):
            Checkpoints(tmp_path / "none" / "checkpoints", read_only=True)
        assert not (tmp_path / "none").exists()

    def test_a_half_written_folder_is_not_a_checkpoint(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "4.orbax-checkpoint-tmp").mkdir()
        assert self.read(tmp_path)[0] == 3


class SignalAt:
    """A writer during whose writing a signal arrives."""

    def __init__(self, step, number=signal.SIGTERM):
        self._step, self._number = step, number

    def start(self, step):
        pass

    def write(self, step, metrics):
        if step == self._step:
            os.kill(os.getpid(), self._number)


@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGTERM, 6), (signal.SIGTERM, 12), (signal.SIGHUP, 6), (signal.SIGINT, 6)],  # 12 is the last
)
def test_a_signal_at_any_step_saves_and_ends_and_the_same_call_goes_on(tmp_path, number, step):
    before = {number: signal.getsignal(number) for number in signals.EXIT_CODES}
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(signals.Preempted) as stopped:
        fit(checkpoints=checkpoints, writer=SignalAt(step, number))
    assert checkpoints._manager.all_steps() == [step]  # on disk when the signal's exception is raised
    checkpoints.close()
    assert stopped.value.code == (130 if number == signal.SIGINT else 75)
    assert stopped.value.message.startswith(f"{number.name}: stopped and saved at step {step}")
    assert {number: signal.getsignal(number) for number in signals.EXIT_CODES} == before
    checkpoints = Checkpoints(tmp_path)
    assert loop.restore(counting(), stream(), checkpoints).state.step == step
    again = fit(checkpoints=checkpoints)
    checkpoints.close()
    np.testing.assert_array_equal(again.params["theta"], fit().params["theta"])


def test_a_signal_that_is_ignored_stays_ignored(tmp_path):
    """As by nohup: the run continues to its end."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        checkpoints = Checkpoints(tmp_path)
        assert fit(checkpoints=checkpoints, writer=SignalAt(6, signal.SIGHUP)).record["steps"] == 12
        checkpoints.close()
    finally:
        signal.signal(signal.SIGHUP, before)


def test_without_checkpoints_ctrl_c_is_an_interrupt_as_ever():
    with pytest.raises(KeyboardInterrupt):
        fit(writer=SignalAt(6, signal.SIGINT))


def test_a_run_all_of_whose_steps_were_skipped_is_no_result():
    with pytest.raises(loop.Diverged, match="all 12 steps were skipped"):
        fit(counting(bad_from=0), max_skipped=100)


def test_a_run_whose_parameters_are_not_finite_is_no_result():
    learner = counting(bad_from=10)
    broken = learner._replace(params=lambda state: {"theta": state.params["theta"] + jnp.inf})
    assert fit(learner, max_skipped=100).record["skipped"] == 2
    with pytest.raises(loop.Diverged, match="the parameters are not finite after 12 steps"):
        fit(broken, max_skipped=100)


@pytest.mark.slow
def test_nothing_grows_over_a_hundred_thousand_steps(tmp_path):
    """Memory, open files and checkpoints; the log has a line for every log, no more."""
    sizes = []

    class Watch(writers.Writer):
        def write(self, step, metrics):
            super().write(step, metrics)
            if step % 20_000 == 0:
                memory = int(re.search(r"VmRSS:\s+(\d+)", Path("/proc/self/status").read_text())[1])
                kept = [p for p in (tmp_path / "c").iterdir() if p.name.isdecimal()]
                sizes.append((memory, len(os.listdir("/proc/self/fd")), len(kept)))

    checkpoints = Checkpoints(tmp_path / "c", keep=2)
    options = {"num_steps": 100_000, "log_every": 100, "checkpoint_every": 2_000, "eval_every": 10_000}
    fit(checkpoints=checkpoints, writer=Watch(tmp_path), validate=lambda p, s: {"bound": -1.0 / s}, **options)
    checkpoints.close()
    memory, handles, kept = zip(*sizes, strict=True)
    assert memory[-1] - memory[1] < 20_000  # kB
    assert handles[-1] - handles[1] < 20 and max(kept) <= 5  # 30 checkpoints later; one being written holds a few
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 1000


def test_what_fails_on_the_devices_is_no_damage_to_a_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    fit(checkpoints=checkpoints, checkpoint_every=6)

    def lost(*_):
        raise jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllGather failed: connection closed by peer")

    monkeypatch.setattr(Checkpoints, "_read", lost)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Gloo"):  # else a whole checkpoint would be removed
        fit(checkpoints=checkpoints)
    checkpoints.close()


def test_hooks_are_called_at_the_logs_that_are_due_and_at_the_last_step():
    calls = {4: [], 6: [], 100: []}
    fit(hooks=[(every, lambda params, step, every=every: calls[every].append(step)) for every in calls])
    assert calls == {4: [6, 9, 12], 6: [6, 12], 100: [12]}  # logs are at 3, 6, 9, 12


def test_a_hook_sees_the_parameters_of_its_step():
    seen = []
    whole = fit(hooks=[(3, lambda params, step: seen.append(np.asarray(params["theta"])))])
    np.testing.assert_array_equal(seen[-1], whole.params["theta"])
    np.testing.assert_array_equal(seen[1], fit(num_steps=6).params["theta"])
