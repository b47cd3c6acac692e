"""A trained model in the user's hands: `vae_jax.load`, `vae_jax.fit` and the methods of `Run`."""

import gc
import shutil
import types

import jax
import numpy as np
import pytest

import vae_jax
from vae_jax.data import sources, transforms
from vae_jax.files import read_json, write_json
from vae_jax.runs import build, configs, inputs
from vae_jax.runs.run import Run


@pytest.fixture(scope="module")
def digits():
    return sources.load("digits")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A trained workdir that was copied, and whose original is gone."""
    folder = tmp_path_factory.mktemp("runs")
    vae_jax.fit("digits", "vae_digits:smoke", workdir=folder / "there", num_test=0)
    shutil.copytree(folder / "there", folder / "here")
    shutil.rmtree(folder / "there")
    return folder / "here"


@pytest.fixture
def run(trained, monkeypatch):
    """The run in its copy, on a machine that does not have the training data."""

    def no_data(*args, **options):
        raise AssertionError("the training data were read")

    monkeypatch.setattr(sources, "load", no_data)
    return vae_jax.load(trained)


def untrained(config, folder, **changes):
    """A `Run` with initial parameters."""
    experiment = build.build(configs.with_changes(configs.find(config).to_dict(), changes))
    batch = jax.tree.map(lambda a: a[:4], experiment.split("valid"))
    return Run(experiment, experiment.model.init(jax.random.key(0), batch), folder, {})


# ------------------------------------------------------------------------------------------ without the training data


def test_the_test_set_has_the_log_prob_of_the_run(run, digits):
    measured = run.log_prob(digits.test.x)
    assert measured.kind == run.results["test/kind"] == "≥ IW-10"
    assert measured.log_prob.shape == (300,)
    assert abs(measured.log_prob.mean() - run.results["test/log_prob"]) < 1e-5


def test_an_export_decodes_as_the_run_does(run, trained, tmp_path):
    exported = vae_jax.load_exported(run.export(tmp_path / "model", platforms=("cpu",), num_samples=2))
    z = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    np.testing.assert_allclose(exported.decoder(z)["mean"], run.decode(z), rtol=1e-5)
    assert exported.dataset == read_json(trained / "dataset.json")


def test_one_example_is_an_example_of_a_batch(run, digits):
    x = digits.test.x[:5]
    many = run.encode(x), run.reconstruct(x), run.decode(run.encode(x)), *run.encode(x, with_scale=True)
    assert [a.shape for a in many] == [(5, 8), x.shape, x.shape, (5, 8), (5, 8)]
    z = run.encode(x[0])
    one = z, run.reconstruct(x[0]), run.decode(z), *run.encode(x[0], with_scale=True)
    for a, b in zip(many, one, strict=True):
        np.testing.assert_allclose(a[0], b, rtol=1e-5, atol=1e-5)


def test_a_channel_of_one_may_be_left_out_and_numbers_may_be_of_any_type(run, digits):
    x = digits.test.x[:3]
    for same in (x[..., 0], x.astype(np.float64), x.astype(np.int64), jax.numpy.asarray(x), x.tolist()):
        np.testing.assert_array_equal(run.encode(same), run.encode(x))


def test_codes_are_the_means_of_the_posterior(run, digits):
    x = digits.test.x.astype(np.float32) / 16  # the mean of the bits that are drawn
    q = jax.vmap(run.model.latent.posterior, (None, 0))(run.params, x)
    np.testing.assert_allclose(run.encode(digits.test.x), q.loc, atol=1e-5)
    np.testing.assert_allclose(run.encode(digits.test.x[7]), q.loc[7], atol=1e-5)


def test_results_are_on_the_scale_of_the_data(run, digits):
    means = run.reconstruct(digits.test.x)
    assert 1 < means.max() <= 16 and means.min() >= 0
    draws = run.sample(7, seed=1)
    assert draws.dtype == np.uint8 and set(np.unique(draws)) == {0, 16}
    np.testing.assert_array_equal(draws, run.sample(7, seed=1))
    assert (draws != run.sample(7, seed=2)).any()
    assert run.sample(2, mean=True).dtype == np.float32


def test_paths_begin_and_end_at_their_examples(run, digits):
    a, b = digits.test.x[:2]
    for path in ("linear", "spherical"):
        images = run.interpolate(a, b, num_steps=5, path=path)
        assert images.shape == (5, 8, 8, 1)
        np.testing.assert_allclose(images[[0, -1]], run.reconstruct(np.stack([a, b])), atol=1e-4)
    along = run.traverse(a, 3, values=[-1.0, run.encode(a)[3], 1.0])
    np.testing.assert_allclose(along[1], run.reconstruct(a), atol=1e-4)
    assert np.abs(along[0] - along[2]).max() > 1e-3


def test_a_training_example_is_its_own_nearest_neighbour(run, digits):
    x = digits.train.x[[5, 700, 1196]]
    indices, distances = run.neighbours(x, 2, among=x)
    assert indices[:, 0].tolist() == [0, 1, 2] and distances[:, 0].max() < 1e-5
    indices, distances = run.neighbours(x, 3)
    assert indices[:, 0].tolist() == [5, 700, 1196] and distances[:, 0].max() < 1e-4
    assert indices.shape == (3, 3) and (np.diff(distances, axis=1) >= 0).all() and indices.max() < 1197


def test_scores_are_larger_for_noise(run, digits):
    noise = np.random.default_rng(0).integers(0, 17, (20, 8, 8, 1))
    for method in ("surprise", "negative_elbo", "distortion", "typicality"):
        scores = run.score(digits.test.x[:20], method=method, num_samples=5)
        assert scores.shape == (20,) and run.score(noise, method=method, num_samples=5).mean() > scores.mean()
    assert run.score(noise[0], method="surprise") == pytest.approx(-run.log_prob(noise[0], num_samples=100).log_prob)


def test_history_results_and_repr(run):
    history = run.history()
    assert history["step"].tolist() == [5, 10, 15, 20]
    assert np.isfinite(history["train/bound"]).all() and np.isnan(history["valid/bound"]).tolist() == [1, 0, 1, 0]
    assert run.results["train/steps"] == 20
    text = repr(run)
    assert "vae of digits (8x8x1, binarize)" in text and "20 steps" in text and "(≥ IW-10)" in text


def test_a_saved_run_is_the_run(run, digits, tmp_path):
    again = vae_jax.load(run.save(tmp_path / "saved"))
    np.testing.assert_array_equal(again.encode(digits.test.x), run.encode(digits.test.x))
    assert again.results == run.results and again.history().keys() == run.history().keys()
    with pytest.raises(ValueError, match="no empty folder; nothing was written"):
        run.save(tmp_path / "saved")
    with pytest.raises(ValueError, match="is inside the run itself; nothing was written"):
        again.save(tmp_path / "saved" / "checkpoints" / "copy")
    assert sorted(path.name for path in (tmp_path / "saved" / "checkpoints").iterdir()) == ["10", "20"]


@pytest.mark.parametrize("damage", [lambda b: b[:50], lambda b: b"", lambda b: b"junk" * 9])
def test_damaged_codes_are_one_line(run, digits, tmp_path, damage):
    again = vae_jax.load(run.save(tmp_path / "saved"))
    again = Run(again.experiment, again.params, tmp_path / "saved", {})
    (tmp_path / "saved" / "codes.npz").write_bytes(damage((run.folder / "codes.npz").read_bytes()))
    with pytest.raises(ValueError, match=r"codes.npz is damaged .*; give among="):
        again.neighbours(digits.test.x[:2], 1)


def test_half_precision_and_devices(run, digits):
    x = digits.test.x[:4]
    half = run.to("bf16")
    assert half.config["model"]["compute_dtype"] == "bfloat16"
    np.testing.assert_allclose(half.encode(x), run.encode(x), atol=0.1)
    assert (half.encode(x) != run.encode(x)).any()
    np.testing.assert_allclose(half.to("float32").encode(x), run.encode(x), atol=1e-5)
    np.testing.assert_allclose(run.to("cpu").encode(x), run.encode(x), atol=1e-5)
    with pytest.raises(ValueError, match="'gpux' is neither"):
        run.to("gpux")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda run, x: run.encode(x[:, :4]), r"has the shape \(8, 8, 1\); give one or \[N, ...\], got \(3, 4, 8, 1\)"),
        (lambda run, x: run.encode(x / 16), "x holds fractions, and digits has integers 0..16"),
        (lambda run, x: run.encode(x + 1.0), "x must lie in 0..16"),
        (lambda run, x: run.encode(x[:0]), "x holds no example"),
        (lambda run, x: run.encode(["a"]), "x must hold numbers"),
        (lambda run, x: run.encode(np.full((2, 8, 8, 1), np.nan)), "x holds NaN or infinity"),
        (lambda run, x: run.decode(np.full((2, 8), np.nan)), "codes must be finite"),
        (lambda run, x: run.sample(2, seed="a"), "seed must be"),
        (lambda run, x: run.encode(x, [1, 2, 3]), "takes no context"),
        (lambda run, x: run.sample(2, 1), "takes no context"),
        (lambda run, x: run.decode(np.zeros((2, 9))), r"codes of this model have the shape \[8\].*got \[2, 9\]"),
        (lambda run, x: run.sample(0), "n must be at least 1"),
        (lambda run, x: run.interpolate(x, x[0]), "a must be one example, got 3"),
        (lambda run, x: run.interpolate(x[0], x[1], path="curved"), "path: unknown value 'curved'"),
        (lambda run, x: run.traverse(x[0], 8), "dim must be between 0 and 7, got 8"),
        (lambda run, x: run.neighbours(x, 5000), "k must be between 1 and 1197"),
        (lambda run, x: run.score(x, method="regret"), "method: unknown value 'regret'"),
        (lambda run, x: run.log_prob(x, num_samples=0), "num_samples must be"),
    ],
)
def test_what_cannot_be_done_is_one_line(run, digits, call, words):
    with pytest.raises(ValueError, match=words) as error:
        call(run, digits.test.x[1:4])
    assert "\n" not in str(error.value)


def test_counts_and_real_numbers_have_no_largest_value():
    counts = sources.load("counts")
    experiment = types.SimpleNamespace(dataset=counts, transform=transforms.counts)
    given = counts.test.x[:2].astype(np.int64) + 10 * counts.max_value
    np.testing.assert_array_equal(inputs.examples(experiment, given)[0], given)
    with pytest.raises(ValueError, match=r"x must lie in 0\.\."):
        inputs.examples(experiment, given - 20 * counts.max_value)
    np.testing.assert_array_equal(
        inputs.examples(types.SimpleNamespace(dataset=counts, transform=transforms.real), -given)[0], -given
    )


def test_what_is_no_run_is_one_line(trained, tmp_path):
    with pytest.raises(ValueError, match="does not exist"):
        vae_jax.load(tmp_path)
    copy = shutil.copytree(trained, tmp_path / "copy")
    write_json(copy / "dataset.json", {**read_json(copy / "dataset.json"), "splits": {}})
    with pytest.raises(ValueError, match=r"dataset.json: this is not the description of a data set \(KeyError"):
        vae_jax.load(copy)
    (copy / "dataset.json").unlink()  # as in a workdir of an earlier version: the data are read
    assert vae_jax.load(copy).dataset.stands_for is None
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(ValueError, match="train first"):
        vae_jax.load(copy)


# ---------------------------------------------------------------------------------------------- every kind of family


def test_a_conditional_model_takes_numbers_names_or_one_class(tmp_path, digits):
    run = untrained("vae_digits:smoke", tmp_path, **{"data.context": {"name": "label"}})
    names = tuple("zero one two three four five six seven eight nine".split())
    run = Run(run.experiment._replace(dataset=run.dataset._replace(class_names=names)), run.params, tmp_path, {})
    x, label = digits.test.x[:3], digits.test.label[:3]
    np.testing.assert_array_equal(run.encode(x, label), run.encode(x, [names[i] for i in label]))
    np.testing.assert_array_equal(run.encode(x, [4, 4, 4]), run.encode(x, 4))
    np.testing.assert_allclose(run.encode(x[0], "four"), run.encode(x, 4)[0], atol=1e-5)
    assert run.sample(12).shape == (12, 8, 8, 1) and run.sample(2, "nine").shape == (2, 8, 8, 1)
    assert (
        run.interpolate(x[0], x[1], context=3).shape == (9, 8, 8, 1) and run.traverse(x[0], 0, context=3).shape[0] == 9
    )
    assert run.log_prob(x, label, num_samples=2).log_prob.shape == (3,)
    for context, words in (
        (None, r"conditional: give context=, one of 10 classes"),
        ("ten", r"unknown class 'ten'"),
        ([10, 1, 2], r"classes 0..9, got \[10"),
        ([1, 2], r"must be one \(\) or \(3,\) of them, got \(2,\)"),
    ):
        with pytest.raises(ValueError, match=words):
            run.encode(x, context)


def test_a_context_that_is_made_of_x_has_the_scale_of_x(tmp_path, digits):
    """Grey levels 0..16, as the images are; the model of bits sees them in [0, 1]."""
    run = untrained("vae_digits:smoke", tmp_path, **{"data.context": {"name": "image", "size": (4, 4)}})
    x = digits.test.x[:3]
    small = x.reshape(3, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    z = np.asarray(run.encode(x))
    likelihood = run.model.latent.likelihood
    expected = [np.asarray(likelihood(run.params, z[n], small[n] / 16).mean()) * 16 for n in range(3)]
    np.testing.assert_allclose(run.decode(z, small), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(run.reconstruct(x), expected, rtol=1e-4, atol=1e-4)
    assert not np.allclose(run.decode(z, small / 16), expected, atol=1e-2)


def test_a_hierarchy_has_codes_by_level(tmp_path, digits):
    changes = {"data.name": "digits", "data.context": {"name": "none"}}
    run = untrained("iwae_mnist_2layers:smoke", tmp_path, **changes)
    z = run.encode(digits.test.x[:3])
    assert isinstance(z, tuple) and [len(level) for level in z] == [3] * len(z)
    assert run.decode(z).shape == (3, 8, 8, 1)
    assert run.interpolate(*digits.test.x[:2], num_steps=4).shape == (4, 8, 8, 1)
    assert run.neighbours(digits.test.x[:2], 1, among=digits.test.x[:9])[0].tolist() == [[0], [1]]


def test_a_model_without_a_prior_reconstructs_and_does_not_sample(tmp_path, digits):
    run = untrained("autoencoder_digits:smoke", tmp_path)
    x = digits.test.x[:3]
    assert run.reconstruct(x).shape == x.shape and run.log_prob(x).kind == "-" and run.log_prob(x).log_prob is None
    assert run.score(x, method="distortion").shape == (3,)
    with pytest.raises(ValueError, match="the surprise requires log p"):
        run.score(x)
    with pytest.raises(ValueError, match="sample requires a model with `sample`, and the family autoencoder has none"):
        run.sample(1)


def test_a_density_has_no_codes(tmp_path, digits):
    run = untrained("pixel_cnn_digits:smoke", tmp_path)
    x = digits.test.x[:3]
    assert run.log_prob(x[0]).kind == "=" and run.sample(2).shape == (2, 8, 8, 1) and run.score(x).shape == (3,)
    for call in (run.encode, run.reconstruct, run.neighbours, lambda x: run.traverse(x[0], 0)):
        with pytest.raises(
            ValueError, match="requires a model with `latent`, and the family pixel_cnn has none; it has sample"
        ):
            call(x)
    with pytest.raises(ValueError, match="mean is for models with"):
        run.sample(1, mean=True)


def test_sentences_go_in_and_come_out(tmp_path):
    run = untrained("text_vae_text:smoke", tmp_path)
    lines = run.experiment.to_stored(run.experiment.split("valid")["x"][:2])
    assert all(isinstance(line, str) for line in lines)
    z = run.encode(lines)
    np.testing.assert_allclose(run.encode(lines[1]), z[1], atol=1e-5)
    assert len(run.decode(z)) == 2 and len(run.sample(3)) == 3 and isinstance(run.reconstruct(lines[0]), str)
    assert np.isfinite(run.log_prob(lines, num_samples=2).log_prob).all()
    with pytest.raises(ValueError, match="has no token"):
        run.encode([" "])


def test_missing_values_are_filled_in_and_observed_ones_stay(tmp_path):
    run = untrained("vae_table:smoke", tmp_path)
    table = sources.load("table", files={"hide": 0.3})
    rows = table.columns.to_original(table.test.x[:6])
    gone = {name: np.isnan(values) for name, values in rows.items()}
    for proposal in ("laplace", "encoder"):
        filled = run.impute(rows, num_samples=20, proposal=proposal)
        for name, values in rows.items():
            assert np.isfinite(filled[name]).all()
            np.testing.assert_allclose(filled[name][~gone[name]], values[~gone[name]], rtol=1e-4)
    first = {name: values[0] for name, values in rows.items()}
    draws = run.impute(first, num_samples=20, num_draws=3)
    assert len(draws) == 3 and all(np.isfinite(draw[name]) for draw in draws for name in rows)
    mask = np.ones((6, len(rows)), bool)
    mask[2, 0] = False
    name = next(iter(rows))
    assert run.impute(filled, mask, num_samples=20)[name][2] != filled[name][2]
    with pytest.raises(ValueError, match=r"mask must hold True and False, \[6, 30\]"):
        run.impute(filled, mask[:3])


def test_paths_between_rows_of_a_table_begin_at_their_rows(tmp_path):
    run = untrained("vae_table:smoke", tmp_path)
    table = sources.load("table")
    first, last = (table.columns.to_original(table.test.x[i]) for i in (0, 1))
    path, ends = run.interpolate(first, last, num_steps=3), (run.reconstruct(first), run.reconstruct(last))
    for name in table.columns.names:
        np.testing.assert_allclose(path[name][[0, -1]], [ends[0][name][0], ends[1][name][0]], rtol=1e-4)
    along = run.traverse(first, 0, values=[run.encode(first)[0, 0]])
    np.testing.assert_allclose(along[table.columns.names[3]], ends[0][table.columns.names[3]], rtol=1e-4)


def test_a_model_of_complete_data_fills_nothing_in(run, digits):
    with pytest.raises(ValueError, match="impute requires a model that was trained with missing values"):
        run.impute(digits.test.x[:2])


# ------------------------------------------------------------------------------------------------------------- fit


def test_a_temporary_workdir_lasts_as_long_as_a_run_of_it(digits):
    run = vae_jax.fit(digits, "vae_digits:smoke", progress=False)
    folder, x = run.folder, digits.test.x[:2]
    half = run.to("bf16")
    del run
    gc.collect()
    assert folder.is_dir() and half.neighbours(x, 1)[0].shape == (2, 1)
    del half
    gc.collect()
    assert not folder.exists()


def test_changes_are_found_by_their_last_name():
    config = configs.find("vae_digits").to_dict()
    changed = configs.with_changes(config, {"latent_dim": 3, "train.num_steps": 7})
    assert changed["model"]["latent_dim"] == 3 and changed["train"]["num_steps"] == 7
    assert config["model"]["latent_dim"] == 8
    with pytest.raises(ValueError, match="name: the config has several"):
        configs.with_changes(config, {"name": "x"})
    with pytest.raises(ValueError, match="latent_dims: the config has no such value; did you mean 'latent_dim'"):
        configs.with_changes(config, {"latent_dims": 3})
