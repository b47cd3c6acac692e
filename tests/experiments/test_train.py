"""The launchers as a user meets them: separate processes, killed without warning."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

ALONE = os.environ | {"XLA_FLAGS": os.environ["VAE_JAX_TESTS_XLA_FLAGS"]}  # a process with one device
SMOKE = "--config=experiments/configs/vae_digits.py:smoke"
KEYS = (
    "test/elbo test/rate test/distortion test/log_prob test/log_prob_se test/num_samples test/bits_per_dim "
    "test/active_units train/steps train/seconds train/images_per_s train/first_step_s"
).split()
# Training alone, from the launcher's own functions: no figures, no evaluation.
TRAIN_ONLY = """
import sys
from pathlib import Path
from absl import flags
from vae_jax.runs import train, build
from vae_jax.configs import vae_digits
from vae_jax.runs.workdir import open_workdir
flags.FLAGS(sys.argv[:1])
config = vae_digits.get_config("smoke")
config.train.update({"num_steps": 3000, "log_every": 10, "eval_every": 100, "checkpoint_every": 50})
workdir = open_workdir(sys.argv[1], config.to_dict())
print("steps", int(train.train(build.build(config.to_dict()), workdir).state.step))
"""


def launch(*arguments, module="experiments.train"):
    command = [sys.executable, "-m", module, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=ALONE)


def metrics(workdir):
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.endswith(("_per_s", "_seconds"))} for line in lines]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("run")
    done = launch(SMOKE, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr[-2000:]
    return workdir, done.stdout


@pytest.mark.slow
def test_a_member_of_a_sweep_is_left_as_a_lone_run_would_be(trained, tmp_path):
    sweep = "--sweep=seed=0:2,optimizer.learning_rate=1e-3|1e2"
    done = launch(SMOKE, sweep, f"--workdir={tmp_path}", module="experiments.sweep")
    assert done.returncode == 0, done.stderr[-2000:]
    member = tmp_path / "members" / "seed=0,optimizer.learning_rate=0.001"
    results, alone = (json.loads((folder / "results.json").read_text()) for folder in (member, trained[0]))
    for name in KEYS:
        if name.startswith("test/"):
            assert results[name] == pytest.approx(alone[name], rel=1e-4), name
    assert json.loads((member / "config.json").read_text()) == json.loads((trained[0] / "config.json").read_text())
    for ours, theirs in zip(metrics(member), metrics(trained[0]), strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    rows = json.loads((tmp_path / "results.json").read_text())
    assert [row["diverged"] for row in rows] == [0, 2] and [row["best"] for row in rows] == [True, False]
    assert "learning_rate=100.0" in done.stdout and (tmp_path / "figures" / "sweep.png").exists()
    again = launch(f"--workdir={member}", "--num_samples=5", "--nofigures", module="experiments.evaluate")
    assert again.returncode == 0, again.stderr[-2000:]
    refused = launch(f"--workdir={tmp_path}", module="experiments.evaluate")
    assert refused.returncode == 1 and "holds a sweep" in refused.stderr


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cold cache, one core", "warm cache, all cores"])
def test_the_same_command_elsewhere_leaves_the_same_bits(trained, tmp_path, how):
    """Metrics, results and figures, but for timings."""
    cold = how.startswith("cold")
    environment = ALONE | ({"JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache")} if cold else {})
    command = ["taskset", "-c", "0"] * cold + [sys.executable, "-m", "experiments.train", SMOKE]
    workdir = tmp_path / "run"
    done = subprocess.run([*command, f"--workdir={workdir}"], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert metrics(workdir) == metrics(trained[0])
    results, others = (json.loads((folder / "results.json").read_text()) for folder in (workdir, trained[0]))
    timed = ("train/first", "train/seconds", "train/images", "train/compile", "train/gflop", "train/frac", "train/peak")
    untimed = {name: value for name, value in results.items() if not name.startswith(timed)}
    assert untimed == {name: others[name] for name in untimed} and len(untimed) > 10
    for figure in (trained[0] / "figures").iterdir():
        assert (workdir / "figures" / figure.name).read_bytes() == figure.read_bytes(), figure.name


def test_train_leaves_results_metrics_figures_and_checkpoints(trained):
    workdir, printed = trained
    results = json.loads((workdir / "results.json").read_text())
    assert set(KEYS) <= set(results)
    assert results["train/steps"] == 20 and results["test/num_samples"] == 10
    assert results["test/elbo"] <= results["test/log_prob"] < 0
    assert results["test/elbo"] == pytest.approx(-results["test/rate"] - results["test/distortion"], abs=1e-3)
    assert f"{results['test/log_prob']:.2f}" in printed
    assert [line["step"] for line in metrics(workdir)] == [5, 10, 15, 20]
    assert "valid/bound" in metrics(workdir)[1]
    assert len(list((workdir / "figures").glob("*.png"))) >= 8
    assert len(list((workdir / "checkpoints").iterdir())) >= 1


def test_the_same_command_again_only_prints(trained):
    workdir, _ = trained
    before = (workdir / "results.json").read_bytes()
    done = launch(SMOKE, f"--workdir={workdir}")
    assert done.returncode == 0 and "is complete" in done.stderr
    assert (workdir / "results.json").read_bytes() == before


def test_another_config_in_the_workdir_is_refused(trained):
    workdir, _ = trained
    before = (workdir / "config.json").read_bytes()
    done = launch(SMOKE, f"--workdir={workdir}", "--config.model.latent_dim=3")
    assert done.returncode == 1
    assert "model.latent_dim: there 8, now 3" in done.stderr and "Traceback" not in done.stderr
    assert (workdir / "config.json").read_bytes() == before


def test_evaluate_measures_again(trained):
    workdir, _ = trained
    done = launch(f"--workdir={workdir}", "--num_samples=20", "--nofigures", module="experiments.evaluate")
    assert done.returncode == 0, done.stderr[-2000:]
    again = json.loads((workdir / "evaluation.json").read_text())
    results = json.loads((workdir / "results.json").read_text())
    assert again["test/num_samples"] == 20
    assert again["test/elbo"] == results["test/elbo"]  # the same parameters, the same noise


def test_an_unknown_key_on_the_command_line_is_named(tmp_path):
    done = launch(SMOKE, f"--workdir={tmp_path / 'w'}", "--config.model.latnt_dim=2")
    assert done.returncode != 0
    assert "latnt_dim" in done.stderr and "latent_dim" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "w").exists()


def test_a_divergent_learning_rate_stops_with_one_line(tmp_path):
    done = launch(
        SMOKE, f"--workdir={tmp_path}", "--config.optimizer.learning_rate=1e30", "--config.train.max_skipped=3"
    )
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: step") and "learning_rate" in last and "Traceback" not in done.stderr
    assert not (tmp_path / "results.json").exists()


@pytest.mark.slow
def test_kill_9_at_any_moment_and_run_again_is_the_uninterrupted_run(tmp_path):
    command = [sys.executable, "-c", TRAIN_ONLY]
    whole = subprocess.run([*command, str(tmp_path / "whole")], capture_output=True, text=True, env=ALONE)
    assert whole.stdout.strip() == "steps 3000", whole.stderr[-2000:]
    killed = tmp_path / "killed"
    kills = 0
    for delay in (0.1, 0.4):
        process = subprocess.Popen([*command, str(killed)], stderr=subprocess.DEVNULL, env=ALONE)
        reached = len(list((killed / "checkpoints").glob("[0-9]*"))) if killed.exists() else 0
        while process.poll() is None and reached < 1:  # until there is something to lose
            time.sleep(0.02)
            reached = len(list((killed / "checkpoints").glob("[0-9]*"))) if killed.exists() else 0
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
    assert kills >= 1
    again = subprocess.run([*command, str(killed)], capture_output=True, text=True, env=ALONE)
    assert again.stdout.strip() == "steps 3000", again.stderr[-2000:]
    assert metrics(killed) == metrics(tmp_path / "whole")
