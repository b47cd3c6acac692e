"""One run in its workdir: what is refused, what continues, and what a checkpoint knows of its origin."""

import json
import shutil
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from vae_jax import files
from vae_jax.configs import vae_digits
from vae_jax.data import idx, sources, text
from vae_jax.data.fingerprint import fingerprint
from vae_jax.runs import build, configs, sweep, train, workdir
from vae_jax.runs.migrate import migrate

SPLITS = ("train", "valid", "test")


def config(**changes):
    """A run of a second; `changes` are dotted paths with __ for the dots."""
    small = vae_digits.get_config("smoke")
    small.train.update({"num_steps": 4, "log_every": 2, "eval_every": 4, "checkpoint_every": 2})
    small.eval.update({"num_samples": 2, "num_test": 8})
    return configs.with_values(
        migrate(small.to_dict()), {path.replace("__", "."): value for path, value in changes.items()}
    )


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("images")
    digits = load_digits()
    x = np.round(digits.images * 255 / 16).astype(np.uint8)
    for prefix, part in (("train", slice(0, 200)), ("t10k", slice(200, 260))):
        idx.write(folder / f"{prefix}-images-idx3-ubyte", x[part])
        idx.write(folder / f"{prefix}-labels-idx1-ubyte", digits.target[part].astype(np.uint8))
    return folder


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    """A finished run on images in a folder, without figures."""
    folder = tmp_path_factory.mktemp("runs") / "trained"
    train.complete(config(data__name="idx", data__path=str(images)), folder, figures=False)
    return folder


@pytest.fixture
def copy(trained, tmp_path):
    """A copy of it that has not been measured yet."""
    shutil.copytree(trained, tmp_path / "run")
    (tmp_path / "run" / "results.json").unlink()
    return tmp_path / "run"


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def test_other_options_of_the_evaluation_are_no_other_run(copy, images):
    """Neither before the results are there nor afterwards; then they say what they were measured with."""
    same = {"data__name": "idx", "data__path": str(images)}
    results = train.complete(config(**same, eval__num_samples=3, train__keep=5), copy, figures=False)
    assert results["test/num_samples"] == 3 and results["train/steps"] == 4
    before = contents(copy)
    again = train.complete(config(**same, eval__num_samples=4), copy, figures=False)
    assert again == json.loads((copy / "results.json").read_text()) and contents(copy) == before


def test_images_that_were_changed_in_place_are_told_from_those_of_the_run(copy, images, tmp_path):
    moved = shutil.copytree(images, tmp_path / "images")
    same = config(data__name="idx", data__path=str(moved))
    build.build(same)
    file = moved / "train-images-idx3-ubyte"
    content = bytearray(file.read_bytes())
    content[500] ^= 16  # one grey level of one pixel
    file.write_bytes(content)
    before = contents(copy)
    with pytest.raises(ValueError, match="was trained on other data"):
        train.complete(same, copy, figures=False)
    assert {path: content for path, content in contents(copy).items() if path in before and path.suffix != ".json"} == {
        path: content for path, content in before.items() if path.suffix != ".json"
    }
    files.write_json(copy / "config.json", same)
    with pytest.raises(ValueError, match="was trained on other data"):
        build.restore(copy, build.build_trained(copy))


def test_the_same_images_elsewhere_are_the_same_data(copy, images, tmp_path):
    moved = shutil.copytree(images, tmp_path / "images")
    results = train.complete(config(data__name="idx", data__path=str(moved)), copy, figures=False)
    assert results["train/steps"] == 4


def test_a_complete_run_is_not_the_result_of_other_data(trained, images, tmp_path):
    """Neither of files elsewhere nor of a data set in memory; the same files elsewhere are no other data."""
    moved = shutil.copytree(images, tmp_path / "images")
    elsewhere = config(data__name="idx", data__path=str(moved))
    results, dataset = train.complete(elsewhere, trained, figures=False), build.build(elsewhere).dataset
    assert train.complete(elsewhere, trained, figures=False, dataset=dataset) == results
    file = moved / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-1] + b"\x07")
    with pytest.raises(ValueError, match=r"--workdir=.*trained holds a complete run on other data \(fingerprint"):
        train.complete(elsewhere, trained, figures=False)
    other = dataset._replace(train=dataset.train._replace(x=255 - np.asarray(dataset.train.x)))
    with pytest.raises(ValueError, match=r"--workdir=.*trained holds a complete run on other data \(fingerprint"):
        train.complete(elsewhere, trained, figures=False, dataset=other)


def test_numbers_that_only_the_data_have_need_a_program_of_their_own():
    """Members of one program share their data, and nothing fails if a learner never reads a number."""
    experiment = build.build(
        config(data__name="table", data__transform="columns", model__likelihood={"name": "columns"})
    )
    experiment = experiment._replace(config=configs.with_values(experiment.config, {"data.files": {"hide": 0.1}}))
    assert not sweep._is_traceable(experiment, "data.files.hide", [0.1, 0.6])
    assert sweep._is_traceable(experiment, "optimizer.learning_rate", [0.1, 0.6])


@pytest.mark.parametrize("best_step, patience, bound", [(5, 0, None), (15, 0, -1.0), (5, 3, -1.0)])
def test_the_last_state_of_a_member_is_only_called_the_best_if_it_is(best_step, patience, bound):
    saved, record = [], {"steps": 15, "best_step": best_step, "best_bound": -1.0}
    member = SimpleNamespace(state=None, params=None, record=record)
    checkpoints = SimpleNamespace(save=lambda *_, bound: saved.append(bound), close=lambda: None)
    sweep._save(member, checkpoints, best=bool(patience))
    assert saved == [bound]


def test_where_the_operations_of_a_step_are_not_counted_the_rest_is_reported(copy, images, monkeypatch):
    """As plugins of accelerators do where JAX may not use the CPU."""
    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", lambda lowered: None)
    results = train.complete(config(data__name="idx", data__path=str(images)), copy, figures=False)
    assert results["train/steps"] == 4 and results["train/seconds"] > 0
    assert not {"train/gflop_per_s", "train/fraction_of_peak"} & set(results)


def test_without_its_config_a_workdir_is_refused(copy, images):
    (copy / "config.json").unlink()
    with pytest.raises(ValueError, match="holds files but no config"):
        train.complete(config(data__name="idx", data__path=str(images)), copy)


def test_a_checkpoint_knows_its_config(copy, images):
    other = config(data__name="idx", data__path=str(images), optimizer__learning_rate=0.5)
    files.write_json(copy / "config.json", other)  # somebody has put another one there
    with pytest.raises(ValueError, match=r"made with another config.*optimizer.learning_rate: there 0.001, now 0.5"):
        train.complete(other, copy)


def test_a_run_does_not_start_from_itself(tmp_path):
    with pytest.raises(ValueError, match="is the workdir of this run"):
        train.complete(config(start_from=str(tmp_path / "w"), learner__only=("encoder",)), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_a_start_from_that_leads_back_to_itself_is_read_without_end(copy):
    """`start_from` is where a run began: to read what it became, that run is not needed."""
    files.write_json(copy / "config.json", workdir.read_config(copy) | {"start_from": str(copy)})
    assert "encoder" in jax.device_get(build.build_trained(copy).model.init(jax.random.key(0), _batch(copy)))


def _batch(folder):
    experiment = build.build_trained(folder)
    return {"x": experiment.split("valid")["x"][:8]}


def test_a_dequantised_density_is_reported_as_the_bound_on_its_levels(tmp_path):
    """One kind of number under one name: test, validation and training are all of the levels."""
    normal = config(data__transform="dequantize", model__likelihood={"name": "normal"}, data__name="digits")
    results = train.complete(normal, tmp_path / "w", figures=False)
    offset = 64 * np.log(17)
    assert results["test/log_prob"] == pytest.approx(results["test/log_density"] - offset)
    assert results["test/bits_per_dim"] == pytest.approx(-results["test/log_prob"] / (64 * np.log(2)))
    assert results["test/elbo"] == pytest.approx(-results["test/rate"] - results["test/distortion"], abs=1e-2)
    lines = [json.loads(line) for line in (tmp_path / "w" / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        assert line["train/bound"] == pytest.approx(-line["train/loss"], abs=1e-2)
        assert -1e4 < line["train/bound"] < -100  # an untrained density is worse than five bits a pixel
    assert lines[-1]["valid/bound"] == results["valid/best_bound"] < -100


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"data__transform": "binarize", "model__likelihood": {"name": "normal"}},
            "100% of the values occur more than",
        ),
        ({"data__transform": "levels", "model__likelihood": {"name": "normal"}}, r"17 distinct ones.*dequantize"),
        ({"data__transform": "unit", "model__likelihood": {"name": "normal"}}, r"17 distinct ones.*dequantize"),
        (
            {"data__transform": "unit", "model__likelihood": {"name": "normal_fixed_scale", "scale": 0.1}},
            "density over the reals",
        ),
    ],
)
def test_a_density_over_the_reals_is_refused_on_any_grid(changes, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        train.complete(config(**changes), tmp_path / "w")
    assert not (tmp_path / "w").exists()


def test_continuous_data_are_no_grid():
    data = {"data__name": "four_by_four", "data__transform": "unit"}
    experiment = build.build(config(**data, model__likelihood={"name": "normal"}))
    assert not build.is_mass(experiment)  # and no bits/dim are printed


class TestFingerprint:
    def test_one_value_one_label_or_one_type_is_enough(self):
        digits = build.load_data(config()["data"])
        names = {fingerprint(digits)}
        for split in ("train", "valid", "test"):
            images = getattr(digits, split)
            x, label = images.x.copy(), images.label.copy()
            x[-1, 0, 0, 0] ^= 1
            label[0] += 1
            for changed in (images._replace(x=x), images._replace(label=label), images._replace(label=None)):
                names.add(fingerprint(digits._replace(**{split: changed})))
        names.add(fingerprint(digits._replace(train=digits.train._replace(x=digits.train.x.astype(np.int16)))))
        assert len(names) == 11
        assert fingerprint(digits) == fingerprint(build.load_data(config()["data"]))

    def test_a_large_array_is_sampled(self, monkeypatch):
        monkeypatch.setattr("vae_jax.data.fingerprint.WHOLE", 1000)
        monkeypatch.setattr("vae_jax.data.fingerprint.SAMPLED", 3)
        digits = build.load_data(config()["data"])
        for row, is_seen in ((0, True), (1, False), (-1, True)):
            x = digits.train.x.copy()
            x[row] ^= 1
            changed = digits._replace(train=digits.train._replace(x=x))
            assert (fingerprint(changed) != fingerprint(digits)) == is_seen

    def test_what_the_values_mean_belongs_to_it(self):
        """Each word replaced by another: the same ids, and another text."""
        lines = ["a b", "b c", "c a"] * 30
        names = set()
        for swap in ("abc", "xyz"):
            ids, words = text.of_lines(
                {s: [" ".join(line.translate(str.maketrans("abc", swap)).split()) for line in lines] for s in SPLITS},
                "x",
            )
            names.add(fingerprint(sources._of_tokens("x", ids, words)))
        assert len(names) == 2


@pytest.mark.parametrize("impl", ["rbg", "unsafe_rbg"])
def test_pixels_are_drawn_with_every_kind_of_key(impl):
    with jax.default_prng_impl(impl):
        experiment = build.build(config())
        feed = experiment.stream.feed(0, 2)
        a, b = (np.asarray(experiment.stream.batch(feed, step, 0)["x"]) for step in (0, 1))
    assert set(np.unique(a)) == {0.0, 1.0} and not np.array_equal(a, b)
    grey = experiment.dataset.train.x / 16
    assert abs(np.mean([a, b]) - grey.mean()) < 0.05
