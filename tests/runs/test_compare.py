"""One table of many models: what its numbers are, and which do not stand in one."""

import csv
import importlib
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.image import imread
from toys import kind

from experiments import comparisons
from vae_jax import models
from vae_jax.evaluation import likelihood
from vae_jax.runs import build, compare, train


def smoke(name, **data):
    config = importlib.import_module(f"vae_jax.configs.{name}").get_config("smoke").to_dict()
    config["data"].update(data)
    return config


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """One of each kind of number: exact, a bound on dequantised pixels, a sampled bound, none."""
    folder = tmp_path_factory.mktemp("runs")
    normal = smoke("vae_digits", transform="dequantize")
    normal["model"]["likelihood"] = {"name": "normal"}
    softmax = smoke("vae_digits", transform="levels")
    softmax["model"]["likelihood"] = {"name": "categorical", "num_levels": 17}
    autoencoder = smoke("autoencoder_digits", transform="dequantize")
    autoencoder["model"]["likelihood"] = {"name": "normal_fixed_scale", "scale": 0.1}
    configs = {
        "gaussian": smoke("multivariate_normal_digits"),
        "normal": normal,
        "softmax": softmax,
        "autoencoder": autoencoder,
        "binary": smoke("vae_digits"),
    }
    for name, config in configs.items():
        config["eval"]["num_test"] = 32
        train.complete(config, folder / name, figures=False)
    return folder


@pytest.mark.slow
def test_every_kind_of_number_is_told_apart(runs, tmp_path):
    names = ("gaussian", "normal", "softmax", "autoencoder")
    text = compare.compare({name: runs / name for name in names}, tmp_path)
    with (tmp_path / "table.csv").open() as file:
        table = {row["model"]: row for row in csv.DictReader(file)}
    kinds = {name: row["kind"] for name, row in table.items()}
    assert kinds == {
        "gaussian": "≥, dequantised",
        "normal": "≥ IW-10, dequantised",
        "softmax": "≥ IW-10",
        "autoencoder": "-",
    }
    assert (tmp_path / "table.md").read_text() in f"{text}\n"
    assert table["autoencoder"]["log_prob"] == ""
    assert int(table["gaussian"]["parameters"]) == 64 + 64 * 64
    sheet = imread(tmp_path / "samples.png")
    assert sheet.shape[0] > 5 * 8 and sheet[..., :3].std() > 0.05  # the data and four models


@pytest.mark.slow
def test_nats_are_of_the_mass_of_the_levels(runs):
    """log p(levels) >= E_u[log p(levels + u)]: the density of 64 pixels in units of one level."""
    experiment = build.build_trained(runs / "gaussian")
    fitted = build.restore(runs / "gaussian", experiment)
    test = jax.tree.map(lambda a: a[:32], experiment.split("test"))
    density = likelihood.exact(experiment.model, fitted.params, test).mean(dtype=np.float64)
    results = json.loads((runs / "gaussian" / "results.json").read_text())
    row = compare.row_of("gaussian", experiment, fitted.params, results)
    assert row.log_prob == pytest.approx(density - 64 * math.log(17), rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("other", "change", "message"),
    [
        ("binary", {}, "not of the same test images.*digits as grey levels, 32 images: a; digits as binary"),
        ("gaussian", {"data": {"context": {"name": "label"}}}, "b is given the class"),
        ("gaussian", {"data": {"context": {"name": "degraded"}}}, "b is given the context 'degraded'"),
        ("gaussian", {"data": {"transform": "strokes"}}, "b is a model of drawings"),
        ("gaussian", {"eval": {"num_test": 7}}, "32 images: a; digits as grey levels, 7 images: b"),
        ("gaussian", {"data": {"leave_out": (3, 8)}}, "digits, no 3, no 8 as grey levels, 32 images: b"),
    ],
)
def test_numbers_of_another_kind_are_refused(runs, other, change, message):
    config = build.load_config(runs / other)
    for part, values in change.items():
        config[part] = config[part] | values
    with pytest.raises(ValueError, match=message):
        compare.check_comparable({"a": build.load_config(runs / "gaussian"), "b": config})


@pytest.mark.parametrize("name", comparisons.TABLES)
def test_the_tables_that_come_with_it_are_of_one_kind(name):
    configs = {model: config.to_dict() for model, config in comparisons.TABLES[name]().items()}
    compare.check_comparable(configs)
    side = 8 if name == "digits" else 28
    for model, config in configs.items():
        classes = 10 if config["data"]["context"]["name"] == "label" else 0
        built = models.from_config(config["family"], config["model"], **kind((side, side, 1), classes))
        batch = {"x": jnp.zeros((config["data"]["batch_size"], side, side, 1))}
        if classes:
            batch["context"] = jnp.zeros(len(batch["x"]), jnp.int32)
        assert jax.eval_shape(built.init, jax.random.key(0), batch), model


def test_a_density_of_real_values_has_no_place_in_a_table_of_levels():
    config = smoke("vae_digits", transform="unit")
    config["data"]["name"] = "four_by_four"
    config["model"]["likelihood"] = {"name": "normal"}
    with pytest.raises(ValueError, match=r"x: its log p.x. is a density of real values.*'dequantize'"):
        compare.check_mass("x", build.build(config))


def test_a_run_that_has_not_ended_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"is not complete: run its experiments\.train again"):
        compare.results_of(tmp_path)
    (tmp_path / "results.json").write_text(json.dumps({"train/diverged": True}))
    with pytest.raises(ValueError, match="has diverged"):
        compare.results_of(tmp_path)


def row(model, log_prob, kind="="):
    return compare.Row(model, kind, log_prob, 0.1, None if log_prob is None else 1.0, 10, 1.0, 1.0)


def test_bold_is_what_the_paired_difference_does_not_refute():
    """The images differ by 20 nats and the models by little: by the errors of the means alone nothing could be told."""
    rng = np.random.default_rng(0)
    easy, noise = rng.normal(-90, 20, 1000), rng.normal(size=(3, 1000))
    noise = (noise - noise.mean(1, keepdims=True)) / noise.std(1, ddof=1, keepdims=True)
    each = {
        "best": easy,
        "equal": easy - 1.9 / np.sqrt(1000) - noise[0],
        "worse": easy - 2.1 / np.sqrt(1000) - noise[1],
    }
    each |= {"bound": easy - 0.5 - noise[2] - 100.0}  # a density, 100 nats below the mass by its offset
    rows = [row(name, values.mean() + (100.0 if name == "bound" else 0.0)) for name, values in each.items()]
    rows += [row("autoencoder", None, "-")]
    assert compare.not_worse(rows, each) == {"best", "equal"}
    lines = compare.markdown(rows, compare.not_worse(rows, each)).splitlines()
    assert [line.split("|")[1].strip() for line in lines if "**" in line] == ["best", "equal"]
    assert lines[-1] == compare.NOTE
    same = {name: easy for name in ("a", "b")}
    assert compare.not_worse([row(name, -90.0) for name in same], same) == {"a", "b"}


def test_one_model_or_one_image_refutes_nothing():
    assert compare.not_worse([row("a", -1.0), row("b", None)], {"a": np.ones(5)}) == set()
    assert compare.not_worse([row("a", -1.0), row("b", -2.0)], {"a": np.ones(1), "b": np.ones(1)}) == set()
    table = compare.markdown([row("a|b\nc", -1.0)._replace(log_prob_se=None)])
    assert "**" not in table and r"| a\|b c | = | −1.00 ± ? |" in table
    with pytest.raises(ValueError, match=r"not of the same test images: \{'a': 2, 'b': 3\}"):
        compare.not_worse([row("a", -1.0), row("b", -2.0)], {"a": np.ones(2), "b": np.ones(3)})


def test_names_of_runs_are_short_where_that_is_clear(tmp_path, monkeypatch):
    for path in ("x/run", "y/run", "y/other"):
        (tmp_path / path).mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "y")
    named = compare.named(["../*/run", "other", "../y/other/", "../x/../y/run", "."])
    assert {name: path.resolve().relative_to(tmp_path).as_posix() for name, path in named.items()} == {
        "../x/run": "x/run",
        "../y/run": "y/run",
        "other": "y/other",
        "y": "y",
    }


@pytest.mark.slow
def test_log_p_of_every_image_is_what_the_results_average(runs, tmp_path, monkeypatch):
    for name in ("gaussian", "softmax"):
        experiment = build.build_trained(runs / name)
        results, params = compare.results_of(runs / name), build.restore(runs / name, experiment).params
        (runs / name / "log_prob.npy").unlink(missing_ok=True)
        values = compare.log_prob_of_images(runs / name, experiment, params, results)
        assert values.mean() == pytest.approx(results["test/log_prob"], rel=1e-6) and len(values) == 32
        np.testing.assert_array_equal(np.load(runs / name / "log_prob.npy"), values)
        monkeypatch.setattr(likelihood, "exact", None)  # the file will do
        monkeypatch.setattr(likelihood, "log_likelihood", None)
        again = compare.log_prob_of_images(runs / name, experiment, params, results)
        np.testing.assert_array_equal(again, values)
        np.save(runs / name / "log_prob.npy", values + 1.0)  # of another checkpoint: computed again
        with pytest.raises(TypeError):
            compare.log_prob_of_images(runs / name, experiment, params, results)
        monkeypatch.undo()


@pytest.mark.slow
def test_tables_are_written_where_the_sheet_cannot_be_drawn(runs, tmp_path, monkeypatch):
    monkeypatch.setattr("vae_jax.plotting.images.named_rows", lambda rows: 1 / 0)
    text = compare.compare({name: runs / name for name in ("gaussian", "softmax")}, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"table.md", "table.csv", "report.html"}
    assert (tmp_path / "table.md").read_text(encoding="utf-8") in f"{text}\n"
