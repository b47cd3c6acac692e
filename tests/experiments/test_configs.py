"""One contract over every config: finite, deterministic, one trace, and what the launchers make of it."""

import importlib
import json
import re
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from absl import logging
from sklearn.datasets import load_digits

from vae_jax.data import idx
from vae_jax.distributions import Deterministic
from vae_jax.evaluation import likelihood
from vae_jax.runs import build, pictures, report, scene, train
from vae_jax.training import loop, sharding

CONFIGS = sorted(p.stem for p in Path("experiments/configs").glob("*.py") if not p.stem.startswith("_"))


def kind(name):
    """What decides how a batch is cut over devices."""
    config = importlib.import_module(f"vae_jax.configs.{name}").get_config()
    return config.family, config.learner.name, config.model.get("objective", {}).get("name")


QUICKEST_LAST = sorted(CONFIGS, key=lambda name: "digits" in name)  # the last of a kind stands for the others
SPREAD = sorted({kind(name): name for name in QUICKEST_LAST}.values())
FAMILIES = {kind(name)[:2]: name for name in QUICKEST_LAST}.values()  # one of each family and learner
MARK = {True: pytest.mark.slow, False: pytest.mark.every}
OF_FAMILIES = [name if name in FAMILIES else pytest.param(name, marks=pytest.mark.every) for name in CONFIGS]


@pytest.fixture(scope="session")
def images(tmp_path_factory):
    """scikit-learn's digits as 28x28 IDX files: real images in MNIST's clothes."""
    folder = tmp_path_factory.mktemp("idx")
    digits = load_digits()
    x = np.kron(digits.images, np.ones((3, 3)))  # 24 x 24
    x = np.pad(np.round(x * 255 / 16), ((0, 0), (2, 2), (2, 2))).astype(np.uint8)
    label = digits.target.astype(np.uint8)
    for prefix, part in (("train", slice(0, 300)), ("t10k", slice(300, 400))):
        idx.write(folder / f"{prefix}-images-idx3-ubyte", x[part])
        idx.write(folder / f"{prefix}-labels-idx1-ubyte", label[part])
    colour = np.pad(x[:100], ((0, 0), (2, 2), (2, 2)))[..., None] // np.array([1, 2, 3], np.uint8)
    np.savez(folder / "colour.npz", x=colour, is_test=np.arange(100) % 4 == 0)
    return folder


def smoke(name, images):
    config = importlib.import_module(f"vae_jax.configs.{name}").get_config("smoke")
    without_file = ("digits", "text", "audio", "table", "counts", "dsprites_by_rule", "faces_by_rule", "strokes")
    if config.data.name not in without_file:
        config.data.path = str(images / "colour.npz" if config.data.name == "arrays" else images)
    return config.to_dict()


def equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def chunk_of(experiment, mesh=None):
    """The first state, its data and the compiled chunk of three steps."""
    state, _, _ = loop.start(experiment.learner, experiment.stream, experiment.key, mesh=mesh)
    feed = loop.feed_of(experiment.stream, 0, 3, mesh)
    return state, feed, loop.compile_chunk(experiment.learner, experiment.stream, state, feed, 3, mesh)


@pytest.mark.parametrize("name", OF_FAMILIES)
def test_contract(name, images):
    state, feed, chunk = chunk_of(build.build(smoke(name, images)))
    keep = jax.tree.map(lambda a: a.copy(), state)
    first, metrics = chunk(state, feed)  # the one compiled program takes every chunk: same shapes, same types
    for metric, values in metrics.items():
        assert np.isfinite(values).all(), metric
    assert np.all(np.asarray(metrics.get("grad_norm", 1.0)) > 0)
    again, metrics_again = chunk(keep, feed)
    equal(metrics, metrics_again)
    equal(first.params, again.params)
    later, _ = chunk(first, feed)
    assert int(later.step) == 6
    if {"bound", "rate"} <= set(metrics):
        terms = metrics["bound"] + metrics["rate"] + metrics["distortion"]
        assert np.all(np.asarray(terms) > -1e-2)  # a bound is at least the ELBO


OF_KINDS = [name if name in SPREAD else pytest.param(name, marks=pytest.mark.every) for name in CONFIGS]


@pytest.mark.parametrize("name", OF_KINDS)
def test_a_training_step_is_lowered_for_every_platform(name, images):
    """The program of one step, for machines that are not here; nothing is computed."""
    experiment = build.build(smoke(name, images))
    stream, step = experiment.stream, experiment.stream.without_padding(experiment.learner.step)
    program = jax.jit(lambda state, feed: step(state, stream.batch(feed, state.step, 0)))
    state, feed = loop.state_shapes(experiment.learner, stream), stream.feed(0, 1)
    platforms = ("cpu", "cuda", "tpu")
    exported = jax.export.export(program, platforms=platforms)(state, feed)
    assert exported.platforms == platforms
    assert not re.search(r"[<x](f64|c128)>|callback", exported.mlir_module()), "accelerators have neither"
    leaves = jax.tree.leaves(state)
    assert [a.shape for a in exported.out_avals[: len(leaves)]] == [a.shape for a in leaves]


@pytest.mark.parametrize("name", [pytest.param(name, marks=MARK[name in FAMILIES]) for name in SPREAD])
def test_eight_devices_learn_what_one_does(name, images):
    experiment = build.build(smoke(name, images))
    batch_size = experiment.stream.batch_size
    mesh = sharding.make_mesh(data=4 if batch_size % 4 == 0 else -1, model=2, batch_size=batch_size)
    losses = []
    for over in (None, mesh):
        state, feed, chunk = chunk_of(experiment, over)
        losses.append(chunk(state, feed)[1]["loss"])
    np.testing.assert_allclose(losses[1][0], losses[0][0], rtol=1e-5)
    # Where a gradient cancels to rounding Adam takes a whole step of either sign, by which a bit of z may flip.
    bits = experiment.config["model"].get("posterior", {}).get("name") == "bernoulli"
    np.testing.assert_allclose(*losses, rtol=2e-3 if bits else 1e-5)


def test_bfloat16_trains_to_the_bound_of_float32():
    bounds = []
    for dtype in ("float32", "bfloat16"):
        config = importlib.import_module("vae_jax.configs.vae_digits").get_config().to_dict()
        config["model"]["compute_dtype"] = dtype
        config["optimizer"]["average_decay"] = 0.0
        experiment = build.build(config)
        options = {"key": experiment.key, "num_steps": 400, "log_every": 200, "progress": False}
        fitted = loop.fit(experiment.learner, experiment.stream, **options)
        assert {leaf.dtype for leaf in jax.tree.leaves(fitted.state.params)} == {np.dtype("float32")}
        terms = likelihood.elbo_terms(experiment.model, fitted.params, jax.random.key(0), experiment.split("valid"))
        bounds.append(terms["bound"].mean())
    assert bounds[0] > -30  # nats; a fair coin a pixel is at -44
    np.testing.assert_allclose(*bounds, atol=0.2)


def test_pairs_are_of_different_classes_where_there_are_such():
    label = np.array([0, 0, 1, 0, 0, 2, 1, 1])
    left, right = scene.different_classes(label, 2, len(label))
    assert left.tolist() == [0, 1] and np.all(label[left] != label[right])
    for label in (np.zeros(8, int), None):
        left, right = scene.different_classes(label, 2, 8)
        assert left.tolist() == [0, 1] and right.tolist() == [2, 3]


def test_every_config_states_its_command():
    for name in CONFIGS:
        text = importlib.import_module(f"vae_jax.configs.{name}").__doc__
        assert f"vae-jax train --config={name}" in text, name
        assert "arXiv" in text or "doi:" in text or "as `vae_mnist`" in text, name


@pytest.mark.slow
def test_a_conditional_vae_is_a_switch(images, tmp_path):
    config = smoke("vae_mnist_2d", images)
    config["data"]["context"] = {"name": "label"}
    experiment = build.build(config)
    state, _, _ = loop.start(experiment.learner, experiment.stream, experiment.key)
    results = report.evaluate(experiment, state.params, num_samples=10, num_test=20, progress=False)
    assert "collapsed" in results.pop("test/verdict") and results.pop("test/kind") == "≥ IW-10"
    assert np.isfinite(list(results.values())).all()
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "train/bound": -1.0, "valid/bound": -1.0}) + "\n")
    folder = pictures.figures(experiment, state.params, tmp_path)
    assert {p.stem for p in folder.iterdir()} == {
        "nearest",
        "reconstructions",
        "reconstruction_samples",
        "samples",
        "samples_of_pixels",
        "interpolations",
        "manifold",
        "manifold_quantiles",
        "latents",
        "rate_per_dimension",
        "training",
        "traversals",
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.latnt_dim": 3}, "config.model: unknown key 'latnt_dim'; did you mean 'latent_dim'"),
        ({"model.latent_dim": 0}, "config.model.latent_dim must be at least 1, got 0"),
        ({"model.encoder.hiden": (3,)}, "config.model.encoder: unknown key 'hiden'; did you mean 'hidden'"),
        ({"model.encoder.hidden": ("(3,)*2",)}, r"config.model.encoder.hidden: '\(3,\)\*2' is no list of values"),
        ({"model.objective.num_samples": 0}, "num_samples must be at least 1, got 0"),
        ({"family": "vea"}, "config.family: unknown value 'vea'"),
        ({"data.transform": "binarise"}, "config.data.transform: unknown value 'binarise'"),
        ({"data.transform": "unit"}, r"a Bernoulli likelihood is a density of 0 and 1 only.*binarize"),
        ({"data.transform": "levels"}, r"the data range over \[0, 16\]"),
        ({"data.batch_size": 10**6}, "config.data.batch_size must be between 1 and the 1197"),
        ({"data.name": "digitz"}, "digitz"),
        ({"data.name": "mnist", "data.path": "no/such/folder"}, "no/such/folder"),
        ({"optimizer.name": "adamm"}, "config.optimizer.name: 'adamm'"),
        ({"optimizer.skip_above": 0.5}, "config.optimizer.skip_above must be above 1"),
        ({"model.compute_dtype": "float16"}, "config.model.compute_dtype: unknown value 'float16'"),
        ({"optimizer.lr": 1.0}, "unknown key 'lr'"),
    ],
)
def test_a_mistake_in_the_config_gets_one_clear_error(change, message, images):
    config = smoke("vae_digits", images)
    for path, value in change.items():
        *parents, key = path.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        place[key] = value
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        experiment = build.build(config)
        state, _, _ = loop.start(experiment.learner, experiment.stream, experiment.key)
        jax.eval_shape(experiment.learner.step, state, experiment.split("valid"))


def everything(model, params, key, x, context):
    """All that a model draws, and every density and mean of it."""
    keys = iter(jax.random.split(key, 8))

    def of(distribution, x=None):
        z = distribution.sample(next(keys))
        point = isinstance(distribution, Deterministic)
        log_prob = () if point else distribution.log_prob(z if x is None else x)
        return z, log_prob, distribution.mean() if hasattr(distribution, "mean") else ()

    values = [model.sample(params, next(keys), context)] if model.sample else []
    values += [model.log_prob(params, x, context)] if model.log_prob else []
    values += [model.bound(params, next(keys), x, context)] if model.bound else []
    values += [of(model.density(params, context), x)] if model.density else []
    if model.latent:
        posterior = model.latent.posterior(params, x, context)
        values += [of(posterior), of(model.latent.likelihood(params, posterior.mean(), context), x)]
        values += [of(model.latent.prior(params, context))] if model.latent.prior else []
    return values


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_may_be_numpy_arrays(name, images):
    """As a file or `jax.device_get` gives them, while a key or an image is traced; and the other way round."""
    experiment = build.build(smoke(name, images))
    model, batch = experiment.model, jax.tree.map(np.asarray, experiment.split("valid"))
    batch = jax.tree.map(lambda a: a[: experiment.stream.batch_size], batch)
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    params = jax.tree.map(lambda a: np.zeros(a.shape, a.dtype), shapes)
    x, context, key = batch["x"][0], batch.get("context", [None])[0], jax.random.key(0)
    held = jax.eval_shape(lambda key, x, context: everything(model, params, key, x, context), key, x, context)
    traced = jax.eval_shape(lambda params: everything(model, params, key, x, context), params)
    assert held == traced and held


QUICK = ("multivariate_normal_digits", "ngram_text")  # two that compile little
SLOW = ("autoencoder_digits", "chow_liu_digits", "vae_mnist_2d")


def marked(name):
    if name in QUICK:
        return name
    return pytest.param(name, marks=MARK[name in SLOW])


@pytest.mark.parametrize("name", map(marked, CONFIGS))
def test_every_config_comes_to_its_results_and_all_its_figures(name, images, tmp_path, monkeypatch):
    """`train.complete`, which draws from NumPy arrays, and its measurements once more from the checkpoint."""
    failures = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: failures.append(message % args))
    config = smoke(name, images)
    config["eval"].update({"num_samples": 2, "num_test": 8})
    results = train.complete(config, tmp_path)
    assert json.loads((tmp_path / "results.json").read_text()) == json.loads(json.dumps(results))
    figures = {path.name for path in (tmp_path / "figures").iterdir()}
    experiment = build.build_trained(tmp_path)
    expected = expected_figures(experiment, config)
    assert expected is None or figures == expected
    fitted = build.restore(tmp_path, experiment)
    params = jax.device_get(fitted.params)
    again = report.evaluate(experiment, params, **config["eval"], progress=False)
    measured = {key: value for key, value in results.items() if key.startswith("test/")}
    assert again.keys() == measured.keys()
    numbers = {key for key, value in measured.items() if not isinstance(value, str)}
    for key in numbers:
        np.testing.assert_allclose(again[key], measured[key], rtol=1e-3, atol=1e-3, err_msg=key)
    assert not [message for message in failures if message.startswith("figure ")]


def expected_figures(experiment, config):
    """The names of all files that a config's figures are, by what its model and data have."""
    model, names = experiment.model, {"training.png"}
    images = not (experiment.dataset.vocabulary or experiment.dataset.encoding)
    if experiment.dataset.vocabulary:
        names |= {"samples.txt"}
        if model.latent:
            names |= {f"{page}.txt" for page in ("reconstructions", "neighbours", "interpolations")}
            names |= {"interpolations_drawn.txt"}
    elif experiment.dataset.encoding and model.sample:
        names |= {"sounds", "sounds.png"}
    of_integers = config["family"] == "vq_vae"  # codes between which there is nothing
    if of_integers:
        names |= {"code_use.png", "code_maps.png", "reconstructions.png", "samples.png"}
    elif model.latent:
        names |= {"latents.png"}
    of_vectors = images and experiment.event.shape[2:] == ()
    if of_vectors:  # their figures have a test of their own in runs/test_pictures.py
        return None
    prior = model.latent and model.latent.prior
    if images and model.latent and not of_integers:
        names |= {"reconstructions.png", "interpolations.png"}
        is_flow = config["family"] == "flow"
        names |= {"reconstruction_samples.png", "samples.png"} if prior and not is_flow else set()
        pixels = config["model"].get("likelihood", {}).get("name", "").startswith("pixel")
        discrete = config["model"].get("posterior", {}).get("name") in ("bernoulli", "categorical", "one_hot")
        is_hierarchy = "levels" in config["model"] or config["family"] == "deep_vae"
        names |= set() if pixels or discrete or is_flow or is_hierarchy else {"traversals.png"}
    if images and model.sample:
        names |= {"samples_of_pixels.png", "nearest.png"}
    if images and (model.log_prob or model.bound or prior):
        names |= {"best_and_worst.png"}
    if config["family"] in ("mixture", "naive_bayes"):
        names |= {"components.png"}
    if config["family"] == "deep_vae":
        names |= {"rate_per_level.png"}
    diagonal = config["model"].get("posterior", {}).get("name") == "normal" and "levels" not in config["model"]
    standard = config["model"].get("prior", {"name": "standard"})["name"] == "standard"
    if model.latent and model.latent.prior and diagonal and standard:
        names |= {"rate_per_dimension.png"}
        if images and config["model"]["latent_dim"] == 2:
            names |= {"manifold.png", "manifold_quantiles.png"}
    return names
