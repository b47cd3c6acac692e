"""The benchmark of the time to a likelihood reads the logs of runs, and gives runs of its own a budget."""

import json
import shutil

import numpy as np
import pytest

from experiments.benchmarks import likelihood
from vae_jax.runs import build, configs, workdir
from vae_jax.runs import train as training

BUDGET = {"minutes": 0.3, "path": "", "num_valid": 50}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "vae_digits-smoke"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(likelihood, "LEAST_SECONDS", 0.0)  # one measurement of the cost is enough here
        likelihood.train("vae_digits:smoke", folder, **BUDGET)
    return folder


@pytest.fixture
def copied(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoints"))


def change_lines(folder, change):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    (folder / "metrics.jsonl").write_text("".join(f"{json.dumps(change(line))}\n" for line in lines))


def without(*names):
    return lambda line: {name: value for name, value in line.items() if name not in names}


def test_a_budget_ends_all_schedules_with_the_run_and_a_second_call_changes_nothing(trained):
    config, curve = build.load_config(trained), likelihood.read(trained)
    whole = configs.find("vae_digits:smoke")
    times = config["train"]["num_steps"] / whole.train.num_steps
    assert config["optimizer"]["schedule"]["decay_steps"] == round(whole.optimizer.schedule.decay_steps * times)
    assert likelihood.FEWEST <= len(curve.nats) <= likelihood.MOST and (np.diff(curve.seconds) > 0).all()
    assert (curve.kind, curve.clock, curve.data) == ("≥", "CPU", "digits, binarize") and curve.nats[-1] < 50
    before = (trained / "metrics.jsonl").read_text()
    likelihood.train("vae_digits:smoke", trained, **BUDGET)
    assert (trained / "metrics.jsonl").read_text() == before


def test_steps_are_those_that_the_budget_leaves():
    config = configs.find("iwae_mnist_1layer").to_dict()
    short = likelihood.for_budget(config, step=0.01, valid=0.1, compilation=10.0, budget=110.0)
    assert short["train"]["num_steps"] == 40 * 240  # of 100 s, 40 validations take 4
    times = 9600 / config["train"]["num_steps"]
    ends = [max(1, round(int(step) * times)) for step in config["optimizer"]["schedule"]["boundaries_and_scales"]]
    assert list(map(int, short["optimizer"]["schedule"]["boundaries_and_scales"])) == ends
    warm = configs.find("vae_mnist").to_dict()
    warm = likelihood.for_budget(warm, step=0.01, valid=0.1, compilation=10.0, budget=110.0)
    assert warm["model"]["objective"]["beta"]["steps"] == 800 and warm["optimizer"]["schedule"]["decay_steps"] == 9600
    with pytest.raises(ValueError, match=r"--minutes=0.1 is too short: compilation takes 10 s .*; give more"):
        likelihood.for_budget(config, step=0.01, valid=0.1, compilation=10.0, budget=6.0)


def test_the_table_says_when_a_bound_is_reached_and_by_which_clock(copied):
    curve = likelihood.Curve("a", "", "=", 1, np.array([1.0, 5.0, 9.0]), "CPU", np.array([120.0, 88.0, 89.0]))
    assert [curve.time_to(nats) for nats in (100, 90, 85)] == [5.0, 5.0, None]
    assert "| `a` | = | 1 | 5 | 5 | – | – | 88.00 | 9 | CPU |" in likelihood.table([curve])
    change_lines(copied, without("cpu_seconds"))
    curve = likelihood.read(copied)
    assert curve.clock == "wall, steps only" and (np.diff(curve.seconds) > 0).all()


def test_a_figure_has_runs_of_one_data_set(trained, copied, tmp_path):
    curves = [likelihood.read(trained), likelihood.read(copied)]
    likelihood.draw(curves, tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 5000
    with pytest.raises(ValueError, match=r"different data .*other has mnist, binarize"):
        likelihood.draw([curves[0], curves[1]._replace(data="mnist, binarize")], tmp_path / "b.png")
    with pytest.raises(ValueError, match="two of the workdirs have the same name"):
        likelihood.draw([curves[0], curves[0]], tmp_path / "b.png")


def test_a_folder_without_a_curve_is_refused(copied, tmp_path):
    with pytest.raises(ValueError, match=r"config.json does not exist: give a folder in which"):
        likelihood.read(tmp_path)
    change_lines(copied, without("valid/bound"))
    with pytest.raises(ValueError, match=r"other: no validation in its metrics has log p.x. or a bound"):
        likelihood.read(copied)
    (copied / "metrics.jsonl").unlink()
    with pytest.raises(ValueError, match="other has no metrics yet: train first"):
        likelihood.read(copied)


@pytest.mark.slow
def test_the_average_of_a_run_with_itself_is_the_run_and_other_runs_are_refused(trained, tmp_path):
    config = configs.get("pixel_cnn_digits:smoke").to_dict()
    training.train(build.build(config), workdir.open_workdir(tmp_path / "a", config), progress=False)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    rows = [line.split("|")[1:-1] for line in likelihood.of_average([tmp_path / "a", tmp_path / "b"]).splitlines()[2:]]
    nats = {name.strip(" `"): float(value) for name, value, *_ in rows}
    assert list(nats) == ["a", "b", "mixture", "average of the conditionals"]
    np.testing.assert_allclose(list(nats.values()), nats["a"], atol=2e-3)
    assert -200.0 < nats["a"] < -64.0  # 64 pixels of 17 levels
    config["model"]["turns"] = 2  # the same network, which scans images from the other end
    training.train(build.build(config), workdir.open_workdir(tmp_path / "c", config), progress=False)
    rows = likelihood.of_average([tmp_path / name for name in "acb"]).splitlines()[2:]
    nats = {row.split("|")[1].replace("`", "").strip(): float(row.split("|")[2]) for row in rows}
    mixed = "mixture of the orders, each its average"
    assert list(nats) == [*"acb", "mixture", "average of the conditionals of a, b", mixed]
    two = nats["a"], nats["c"]  # a mixture is above the mean of its parts
    assert np.mean(two) <= nats[mixed] <= np.max(two) + np.log(2)
    with pytest.raises(ValueError, match=r"different data: .*a has digits, levels; .*vae_digits-smoke has digits, bin"):
        likelihood.of_average([tmp_path / "a", trained])
    with pytest.raises(ValueError, match=r"vae_digits-smoke has no exact P.x. of discrete pixels, and cannot be"):
        likelihood.of_average([trained, trained])
