"""New kinds of families, each one file, through everything: train, evaluate, compare, sweep, outliers.

No other file of the library, of runs or of the launchers knows of them.
"""

import json
import math
from pathlib import Path

import jax
import numpy as np
import pytest
from toy_models import exact_bound

from vae_jax import models
from vae_jax.configs import vae_digits
from vae_jax.runs import build, compare, evaluate, ladder, outliers, report, sweep, train

FAMILIES = Path(__file__).parents[1] / "families"
ADAM = {"name": "adam", "learning_rate": 0.01}
CONFIGS = {
    "bound_only": {"model": {"num_steps": 4}},
    "sample_only": {
        "model": {"penalty": 0.1},
        "optimizer": {"default": ADAM, "critic": {"name": "sgd", "learning_rate": 0.1}},
    },
    "codebook": {"model": {"num_codes": 4, "decay": 0.9}},
}


@pytest.fixture(autouse=True)
def a_folder_of_families(monkeypatch):
    """A family is a file of a folder: here of one more."""
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(FAMILIES)])


def config_of(family):
    config = vae_digits.get_config("smoke").to_dict()
    config |= {"family": family, "optimizer": ADAM} | CONFIGS[family]
    config["data"] |= {"transform": "dequantize"}
    config["eval"] |= {"num_samples": 50}
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One trained workdir of each kind."""
    folder = tmp_path_factory.mktemp("kinds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(models, "__path__", [*models.__path__, str(FAMILIES)])
        results = {family: train.complete(config_of(family), folder / family, figures=False) for family in CONFIGS}
    return folder, results


def test_every_kind_has_its_number(runs):
    _, results = runs
    assert {family: found["test/kind"] for family, found in results.items()} == {
        "bound_only": "≥, dequantised",
        "sample_only": "-",
        "codebook": "-",
    }
    found = results["bound_only"]
    assert math.isfinite(found["test/log_prob"]) and math.isfinite(found["test/bits_per_dim"])
    assert "valid/best_bound" in found and "test/log_prob" not in results["sample_only"]
    assert math.isfinite(results["codebook"]["test/distortion"])


def test_the_bound_is_that_in_closed_form(runs):
    folder, results = runs
    experiment = build.build_trained(folder / "bound_only")
    params = build.restore(folder / "bound_only", experiment).params
    test = report.test_examples(experiment, experiment.config["eval"]["num_test"])
    x = np.asarray(test["x"]).reshape(len(test["x"]), -1)
    exact = exact_bound({"scale": params["scale"], "shift": np.reshape(params["shift"], (4, -1))}, x)
    spread = report.measure(experiment, params, test, num_samples=50).terms["se"]
    error = np.sqrt(np.sum(np.square(spread))) / len(x)
    assert abs(results["bound_only"]["test/log_prob"] - (exact.mean() - 64 * math.log(17))) < 5 * error < 60


def test_a_ladder_measures_every_bound(runs):
    folder, results = runs
    experiment = build.build_trained(folder / "bound_only")
    params = build.restore(folder / "bound_only", experiment).params
    looser = lambda *args: experiment.model.bound(*args) - 1.0  # noqa: E731
    model = experiment.model._replace(bounds=(("looser", looser),))
    record = ladder.measure(experiment._replace(model=model), params, num_samples=50, num_test=32)
    np.testing.assert_allclose(record["ladder/bound/log_prob"] - record["ladder/looser/log_prob"], 1.0, atol=1e-3)
    assert abs(record["ladder/bound/log_prob"] - results["bound_only"]["test/log_prob"]) < 60
    lines = ladder.table(record).splitlines()
    assert len(lines) == 3 and "≥ bound" in lines[1] and "≥ looser" in lines[2] and "bits/dim" in lines[1]


def test_a_ladder_of_one_bound_is_refused(runs):
    with pytest.raises(ValueError, match="--ladder: this model has no further bounds"):
        evaluate.again(runs[0] / "bound_only", all_bounds=True, figures=False)


def test_the_players_have_optimisers_of_their_own(runs):
    folder, _ = runs
    experiment = build.build_trained(folder / "sample_only")
    state = build.restore(folder / "sample_only", experiment).state
    moved = jax.tree.map(lambda a: float(np.abs(a).max()), state.params["critic"])
    assert min(moved.values()) > 0
    shapes = [np.shape(leaf) for leaf in jax.tree.leaves(state.opt_state)]
    assert shapes.count((8, 8, 1)) == 4  # Adam's two moments of the generator's two arrays, and none of the critic's


def test_the_codebook_is_state_and_no_optimiser_sees_it(runs):
    folder, _ = runs
    experiment = build.build_trained(folder / "codebook")
    fitted = build.restore(folder / "codebook", experiment)
    assert set(fitted.params) == {"decoder", "state"} and fitted.params["state"]["total"].shape == (4, 8, 8, 1)
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(fitted.state.opt_state)}
    assert shapes == {(), (8, 8, 1)}  # a count, and moments of the decoder


def test_a_table_holds_them_all(runs, tmp_path):
    folder, _ = runs
    table = compare.compare({family: folder / family for family in CONFIGS}, tmp_path)
    lines = {line.split("|")[1].strip(): line for line in table.splitlines() if line.startswith("| ")}
    assert "≥, dequantised" in lines["bound_only"] and " - | - | - " in lines["sample_only"]
    assert (tmp_path / "samples.png").exists()


def test_their_lines_for_a_person(runs):
    _, results = runs
    assert "bound, mean of 50 estimates" in report.table(results["bound_only"])
    assert "only draws" in report.table(results["sample_only"])


def test_outliers_are_scored_by_the_bound(runs):
    folder, _ = runs
    options = {"num_images": 10, "num_samples": 4, "num_steps": 1, "learning_rate": 0.1, "coder": "zlib"}
    found = outliers.measure(folder / "bound_only", "digits", **options)
    assert found["log_prob"] == "bound, mean of 4 estimates" and "surprise" in found["scores"]


@pytest.mark.slow
@pytest.mark.parametrize("family", ["bound_only", "sample_only"])
def test_a_sweep_of_them(family, tmp_path):
    config = config_of(family)
    sweep.complete(config, "seed=0:2", tmp_path / "sweep")
    rows = json.loads((tmp_path / "sweep" / "results.json").read_text())
    assert len(rows) == 1 and len(rows[0]["members"]) == 2
    assert (rows[0]["test/log_prob"] is None) == (family == "sample_only")
