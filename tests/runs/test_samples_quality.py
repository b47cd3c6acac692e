"""The quality of samples through the launcher's function: every kind of model, its record, its column in the table."""

import json

import jax
import numpy as np
import pytest

from vae_jax.core import Model, by_loss
from vae_jax.data.values import Dataset, Split
from vae_jax.runs import build, compare, configs, evaluate, quality, train
from vae_jax.spec import BadOption

FEW = {**quality.RECIPE, "steps": 60}


@pytest.fixture(autouse=True)
def a_short_training(monkeypatch, tmp_path_factory):
    monkeypatch.setattr(quality, "RECIPE", FEW)
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path_factory.getbasetemp() / "quality_cache"))


def smoke(name, **values):
    return configs.with_values(configs.find(f"{name}:smoke").to_dict(), values)


@pytest.mark.slow
def test_a_run_gets_a_record_and_lines(tmp_path):
    train.complete(smoke("multivariate_normal_digits"), tmp_path / "normal", figures=False)
    text = evaluate.again(tmp_path / "normal", num_test=200, figures=False, samples_quality=True)
    record = json.loads((tmp_path / "normal" / "evaluation.json").read_text())
    assert record["quality/num_images"] == 200 and record["test/num_examples"] == 200
    for kind in ("pixels", "classes"):
        of = {
            name.removeprefix(f"quality/{kind}/"): v
            for name, v in record.items()
            if name.startswith(f"quality/{kind}/")
        }
        assert of["frechet"] > of["frechet_floor"] > 0 and of["frechet_se"] > 0
        assert all(0 <= of[share] <= 1 for share in ("precision", "recall", "coverage"))
    assert record["quality/classifier/accuracy"] > 0.3
    assert "Fréchet distance on features of a classifier" in text and record["quality/classifier/hash"] in text
    distances, _ = compare.frechet_distances({"normal": tmp_path / "normal"})
    assert distances["normal"]["frechet"] == record["quality/classes/frechet"]
    with pytest.raises(BadOption, match="--quality measures on the run's own test split"):
        evaluate.again(tmp_path / "normal", samples_quality=True, source={"name": "", "split": "train"})


def test_a_table_has_a_column_of_distances_that_can_be_compared(tmp_path, caplog):
    def write(name, number=100, digest="abc", step=None):
        record = {"quality/num_images": number, "quality/classifier/hash": digest, "quality/classifier/accuracy": 0.98}
        for kind, distance in (("classes", 3.0), ("pixels", 5.0)):
            record |= {f"quality/{kind}/frechet{of}": distance + n for n, of in enumerate(("", "_se", "_floor"))}
        record |= {} if step is None else {"test/step": step}
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "evaluation.json").write_text(json.dumps(record))

    folders = {name: tmp_path / name for name in ("a", "b", "c")}
    assert compare.frechet_distances(folders) == ({}, "")
    write("a"), write("b")
    distances, note = compare.frechet_distances(folders)
    assert distances == {name: {"frechet": 3.0, "frechet_se": 4.0} for name in ("a", "b")}
    assert "features of a classifier (abc, accuracy 0.980)" in note and note.endswith("it is 5.00.")
    row = compare.Row("a", "=", -1.0, 0.1, 2.0, 3, 4.0, 5.0)
    table = compare.markdown([row._replace(**distances["a"]), row])
    assert "| Fréchet |" in table and "| 3.00 ± 4.00 |" in table and table.endswith("| - |")
    assert "Fréchet" not in compare.markdown([row])
    results = {"train/steps": 20, "valid/best_step": 10, "train/seconds": 1.0, "test/num_examples": 9}
    (tmp_path / "a" / "results.json").write_text(json.dumps(results))
    (tmp_path / "a" / "config.json").write_text(json.dumps(smoke("multivariate_normal_digits")))
    for step, names in ((20, {"a", "b"}), (10, {"b"})):  # 10: of an earlier checkpoint than the results
        write("a", step=step)
        assert set(compare.frechet_distances(folders)[0]) == names
    assert "a: evaluation.json is of step 10, so it is left out" in caplog.text
    write("a")
    write("b", digest="other")  # another classifier: its features cannot be compared
    assert compare.frechet_distances(folders)[0]["a"]["frechet"] == 5.0
    write("b", number=7)
    assert compare.frechet_distances(folders) == ({}, "") and "different numbers of images" in caplog.text


def test_the_same_seed_gives_the_same_weights(monkeypatch, tmp_path):
    experiment = build.build(smoke("multivariate_normal_digits"))
    first = quality.Classifier(experiment)
    monkeypatch.setenv("VAE_JAX_CACHE", str(tmp_path))  # an empty one
    again = quality.Classifier(experiment)
    assert first.hash == again.hash and first.accuracy == again.accuracy
    monkeypatch.setattr(quality, "RECIPE", {**FEW, "seed": 1})
    assert quality.Classifier(experiment).hash != first.hash


@pytest.mark.slow
def test_modes_of_stacked_digits_are_counted():
    """A model whose draws are test images has nearly all their modes, and one of a single image has one."""
    digits = build.build(smoke("vae_digits"))
    rng = np.random.default_rng(0)

    def stack(split, size):
        x, label = np.asarray(split.x)[..., 0], np.asarray(split.label)
        chosen = rng.integers(len(x), size=(size, 3))
        return Split(np.stack([x[c] for c in chosen.T], axis=-1), (label[chosen] @ [100, 10, 1]).astype(np.int32))

    parts = {name: stack(getattr(digits.dataset, name), 400) for name in ("train", "valid", "test")}
    dataset = Dataset("stacked_mnist", **parts, max_value=16, num_classes=1000)
    config = smoke("vae_digits", **{"data.transform": "levels"})
    config["model"]["likelihood"] = {"name": "categorical", "num_levels": 17}
    experiment = build.build(config, dataset)
    test = np.asarray(parts["test"].x, np.float32)

    def model(sample):
        loss = lambda params, key, batch, step: None  # noqa: E731
        return experiment._replace(model=Model(lambda key, batch: {}, loss, by_loss(loss), sample=sample))

    every = model(lambda params, key, context=None: jax.random.choice(key, jax.numpy.asarray(test)))
    one = model(lambda params, key, context=None: jax.numpy.asarray(test[0]))
    many, single = (quality.measure(e, {}) for e in (every, one))
    assert many["quality/modes"] > 100 and single["quality/modes"] == 1
    np.testing.assert_allclose(single["quality/modes_kl"], np.log(1000))
    assert many["quality/modes_kl"] < single["quality/modes_kl"]
    assert many["quality/classes/frechet"] < single["quality/classes/frechet"]
    assert "of 1000, KL from uniform" in quality.table(many)


def test_other_data_are_refused():
    with pytest.raises(BadOption, match=r"--quality: it compares images \[H, W, C\]"):
        quality.measure(build.build(smoke("vae_table")), {})
