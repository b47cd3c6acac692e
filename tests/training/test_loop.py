"""The loop with a learner whose every number is known: θ counts the batches it has seen."""

import itertools
import json
import os
import signal
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from vae_jax.core import Learner
from vae_jax.data.pipeline import Stream
from vae_jax.training import loop, writers
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
        assert "checkpoint of step 3 is damaged" in caplog.text

    def test_where_none_can_be_read_the_run_does_not_start_over_unasked(self, tmp_path):
        self.write(tmp_path, steps=(1,))
        for file in (tmp_path / "1").rglob("*"):
            if file.is_file():
                file.write_bytes(b"")
        with pytest.raises(ValueError, match=r"no checkpoint under .* can be read"):
            self.read(tmp_path)

    def test_a_half_written_folder_is_not_a_checkpoint(self, tmp_path):
        self.write(tmp_path)
        (tmp_path / "4.orbax-checkpoint-tmp").mkdir()
        assert self.read(tmp_path)[0] == 3


class TestWorkdir:
    config: ClassVar = {"seed": 0, "model": {"hidden": (3, 4), "latent_dim": 2}}

    def test_the_same_config_may_come_back(self, tmp_path):
        assert writers.open_workdir(tmp_path / "w", self.config) == tmp_path / "w"
        assert writers.open_workdir(tmp_path / "w", self.config) == tmp_path / "w"  # tuples and lists alike

    def test_another_config_is_refused_with_the_difference(self, tmp_path):
        writers.open_workdir(tmp_path, self.config)
        before = (tmp_path / "config.json").read_bytes()
        with pytest.raises(ValueError, match=r"model.latent_dim: there 2, now 5"):
            writers.open_workdir(tmp_path, {"seed": 0, "model": {"hidden": (3, 4), "latent_dim": 5}})
        assert (tmp_path / "config.json").read_bytes() == before

    def test_a_path_that_is_a_file_is_refused(self, tmp_path):
        (tmp_path / "w").write_text("mine")
        with pytest.raises(ValueError, match="cannot be written"):
            writers.open_workdir(tmp_path / "w", self.config)
        assert (tmp_path / "w").read_text() == "mine"

    def test_write_json_leaves_the_old_file_when_it_fails(self, tmp_path):
        writers.write_json(tmp_path / "r.json", {"a": 1})
        with pytest.raises(TypeError):
            writers.write_json(tmp_path / "r.json", {"a": object()})
        assert json.loads((tmp_path / "r.json").read_text()) == {"a": 1}
        assert [p.name for p in tmp_path.iterdir()] == ["r.json"]


class SigtermAt:
    """A writer during whose writing SIGTERM arrives."""

    def __init__(self, step):
        self._step = step

    def start(self, step):
        pass

    def write(self, step, metrics):
        if step == self._step:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.parametrize("step", [6, 12])  # 12 is the last: an evaluation that follows may take long
def test_sigterm_at_any_step_saves_and_ends_and_the_same_call_goes_on(tmp_path, step):
    before = signal.getsignal(signal.SIGTERM)
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(loop.Preempted) as stopped:
        fit(checkpoints=checkpoints, writer=SigtermAt(step))
    checkpoints.close()
    assert stopped.value.code == 75 and f"saved at step {step}" in stopped.value.message
    assert signal.getsignal(signal.SIGTERM) is before
    checkpoints = Checkpoints(tmp_path)
    assert loop.restore(counting(), stream(), checkpoints).state.step == step
    again = fit(checkpoints=checkpoints)
    checkpoints.close()
    np.testing.assert_array_equal(again.params["theta"], fit().params["theta"])


def test_what_fails_on_the_devices_is_no_damage_to_a_checkpoint(tmp_path, monkeypatch):
    checkpoints = Checkpoints(tmp_path)
    fit(checkpoints=checkpoints, checkpoint_every=6)

    def lost(*_):
        raise jax.errors.JaxRuntimeError("UNKNOWN: Gloo AllGather failed: connection closed by peer")

    monkeypatch.setattr(Checkpoints, "_read", lost)
    with pytest.raises(jax.errors.JaxRuntimeError, match="Gloo"):  # else a whole checkpoint would be removed
        fit(checkpoints=checkpoints)
    checkpoints.close()
