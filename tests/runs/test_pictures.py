"""Figures of what there is: odd images, few of them, numbers that are none; and what is said of one that fails."""

import importlib
import json
import logging as python_logging

import jax
import numpy as np
import pytest
from absl import logging
from matplotlib.image import imread

from vae_jax.data import sources, transforms, values
from vae_jax.distributions import Normal, is_standard_normal
from vae_jax.runs import build, pictures, train

THREE = lambda n: np.arange(n) % 3  # noqa: E731
FEW = {"num_steps": 2, "log_every": 1, "eval_every": 2, "checkpoint_every": 2}
ALWAYS = {"reconstructions", "reconstruction_samples", "samples", "samples_of_pixels", "latents"}
ALWAYS |= {"rate_per_dimension", "training"}


OTHERS = [  # three with -m slow, the others with -m every
    ((1, 9, 1), 3, np.zeros, True, 1),
    ((4, 3, 2), 11, THREE, True, 3),
    ((9, 1, 3), 11, THREE, False, 2),
    ((4, 4, 1), 2, None, False, 1),
    ((4, 4, 1), 120, np.arange, False, 2),
    ((4, 4, 1), 120, lambda n: np.arange(n) // 2 + 100, True, 2),
]


@pytest.fixture
def said(caplog):
    """The lines that a user sees."""
    logger = python_logging.getLogger("absl")
    logger.propagate, before = True, logger.propagate
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.WARNING)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno >= python_logging.WARNING]
    logging.set_verbosity(verbosity)
    logger.propagate = before


def config_of(family="vae_digits", *, context=False, latent_dim=3, **model):
    config = importlib.import_module(f"vae_jax.configs.{family}").get_config("smoke").to_dict()
    config["data"] |= {"context": context, "batch_size": 4}
    network = {"name": "mlp", "hidden": (8,), "activation": "relu"}
    config["model"] |= {"latent_dim": latent_dim, "encoder": network, "decoder": network, **model}
    config["train"] |= FEW
    config["eval"] |= {"num_samples": 2, "num_test": 0}
    return config


def dataset(shape=(4, 4, 1), num_test=12, label=THREE):
    rng = np.random.default_rng(0)

    def images(n):
        names = None if label is None else label(n).astype(np.int32)
        return values.Split(rng.integers(0, 256, (n, *shape)).astype(np.uint8), names)

    return values.Dataset("odd", images(8), images(8), images(num_test), 255, None if label is None else 200)


@pytest.fixture
def opened(monkeypatch):
    """(config, data) -> the experiment and parameters as NumPy arrays."""

    def open_experiment(config, data):
        monkeypatch.setattr(sources, "load", lambda *_, **__: data)
        experiment = build.build(config)
        batch = jax.tree.map(lambda a: a[:4], experiment.split("valid"))
        return experiment, jax.device_get(jax.jit(experiment.model.init)(jax.random.key(0), batch))

    return open_experiment


@pytest.fixture
def drawn(opened, tmp_path, said):
    """(config, data) -> the names of the figures, all of which can be read, and what was said. `prepare(params)` may
    spoil the parameters.
    """

    def draw(config, data, prepare=lambda params: params):
        experiment, params = opened(config, data)
        (tmp_path / "metrics.jsonl").write_text('{"step": 1, "train/bound": -1.0, "valid/bound": null}\n')
        folder = pictures.figures(experiment, prepare(params), tmp_path)
        assert all(imread(path).min() < 1.0 for path in folder.iterdir())
        return {path.stem for path in folder.iterdir()}, said()

    return draw


def maker(experiment, params, name):
    """The function that draws one figure of images."""
    return pictures._image_figures(experiment, params, jax.random.key(0))[name]


@pytest.mark.parametrize(
    ("shape", "num_test", "label", "context", "latent_dim"),
    [
        ((3, 4, 4), 2, None, False, 3),
        *(pytest.param(*case, marks=pytest.mark.slow) for case in OTHERS[:3]),
        *(pytest.param(*case, marks=pytest.mark.every) for case in OTHERS[3:]),
    ],
)
def test_what_there_is_is_drawn(shape, num_test, label, context, latent_dim, drawn):
    names, said = drawn(config_of(context=context, latent_dim=latent_dim), dataset(shape, num_test, label))
    manifold = {"manifold", "manifold_quantiles"} if latent_dim == 2 else set()
    assert names == ALWAYS | manifold | {"interpolations"} and not said


@pytest.mark.slow
@pytest.mark.parametrize("context", [False, True])
def test_a_path_needs_two_images(context, drawn):
    names, said = drawn(config_of(context=context), dataset(num_test=3 if context else 1))
    reason = (
        "two test images of one class, and no class has two" if context else "two test images, and the test set has 1"
    )
    assert names == ALWAYS and len(said) == 2
    assert said[0].startswith("figure interpolations was not drawn: a path ") and reason in said[0]
    assert "python -m experiments.evaluate --workdir=" in said[1]


def test_numbers_that_are_none_spoil_their_own_figures_only(drawn):
    spoil = lambda params: jax.tree.map(lambda a: np.full_like(a, np.nan), params)  # noqa: E731
    names, said = drawn(config_of(), dataset(), spoil)
    assert "figure latents was not drawn: no code is finite" in said
    assert names >= ALWAYS - {"latents"}


@pytest.mark.parametrize(
    ("family", "model", "standard"),
    [
        ("vae_digits", {"latent_dim": 2}, True),
        ("autoencoder_digits", {"latent_dim": 2}, False),
        (
            "vae_digits",
            {
                "latent_dim": 2,
                "prior": {"name": "vamp", "num_components": 3},
                "objective": {"name": "elbo_sampled_kl", "num_samples": 1, "beta": 1.0},
            },
            False,
        ),
    ],
    ids=["vae", "autoencoder", "vamp"],
)
def test_only_a_standard_normal_prior_is_drawn(family, model, standard, opened):
    experiment, params = opened(config_of(family, **model), dataset())
    makers = pictures._image_figures(experiment, params, jax.random.key(0))
    assert ({"manifold", "manifold_quantiles"} <= set(makers)) == standard
    circles = pictures._codes(experiment, params).axes[0].patches
    assert [circle.radius for circle in circles] == ([1, 2] if standard else [])
    *_, plane, norms = makers["interpolations"]().axes
    assert len(plane.patches) == standard and len(norms.patches) == standard  # the circle, the band
    labels = [text.get_text() for text in norms.get_legend().get_texts()]
    assert labels == [*(["prior, middle 90 %", r"$\sqrt{D}$"] if standard else []), "linear", "spherical"]


def test_standard_is_a_property_of_the_distribution():
    assert is_standard_normal(Normal.standard((3,)))
    assert not is_standard_normal(Normal(np.zeros(3), np.full(3, 0.1)))
    assert not is_standard_normal(Normal(np.ones(3), np.zeros(3)))


def test_a_conditional_model_goes_from_image_to_image_of_one_class(opened):
    data = dataset(label=lambda n: np.resize([4, 7, 7, 1, 4, 1, 1, 7, 2, 0, 5, 9], n))
    experiment, params = opened(config_of(context=True, latent_dim=2), data)
    blocks = maker(experiment, params, "interpolations")().axes
    assert [block.get_ylabel() for block in blocks[:-2:3]] == ["class 4", "class 7", "class 1"]
    assert maker(experiment, params, "manifold")().axes[0].get_title() == "class 4"  # that of the first image
    shown = transforms.fixed_draw(data.test.x, 255, "test")[..., 0]
    for block, (a, b) in zip(range(3), ((0, 4), (1, 2), (3, 5)), strict=True):
        for axes, index in ((blocks[3 * block], a), (blocks[3 * block + 2], b)):
            sheet = axes.images[0].get_array()
            scale = len(sheet) // 4
            np.testing.assert_array_equal(sheet[scale // 2 :: scale, scale // 2 :: scale, 0], 255 * shown[index])


def test_pairs_of_one_class_are_the_first_that_there_are():
    left, right = pictures._same_class(np.array([5, 3, 5, 5, 3, 1]), 4)
    assert (left.tolist(), right.tolist()) == ([0, 1], [2, 4])
    left, right = pictures._same_class(np.arange(20) % 5, 2)
    assert (left.tolist(), right.tolist()) == ([0, 1], [5, 6])
    with pytest.raises(ValueError, match="no class has two"):
        pictures._same_class(np.arange(3), 4)


def test_a_figure_that_fails_loses_neither_results_nor_the_others(tmp_path, monkeypatch, said):
    def fail(*_):
        raise RuntimeError("\nlatex could not be found\nand a page of reasons")

    monkeypatch.setattr(pictures, "_pixel_samples", fail)
    config = importlib.import_module("vae_jax.configs.chow_liu_digits").get_config("smoke").to_dict()
    results = train.complete(config, tmp_path)
    expected = "figure samples_of_pixels was not drawn: RuntimeError: latex could not be found"
    assert said() == [expected, f"to draw them again: python -m experiments.evaluate --workdir={tmp_path}"]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["training.png"]
    assert train.complete(config, tmp_path) == results and len(said()) == 2  # complete: nothing is done again


def test_a_folder_that_cannot_be_written_is_one_line_a_figure(tmp_path, said):
    (tmp_path / "figures").write_text("a file, not a folder")
    assert not pictures.drawn(
        "a", lambda: importlib.import_module("matplotlib.figure").Figure(), tmp_path / "figures/a"
    )
    assert len(said()) == 1 and "figure a was not drawn: " in said()[0] and "\n" not in said()[0]


def test_metrics_of_no_line_and_of_null():
    assert pictures.curves([]) == ({}, {})
    train, valid = pictures.curves([{"step": 1, "train/bound": None}, {"step": 2, "train/bound": -3.0}])
    np.testing.assert_array_equal(train["bound"], [[1, 2], [np.nan, -3.0]])
    assert not valid


@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (5, 1), (1, 1), (7, 4)])
def test_codes_of_any_number_have_two_coordinates(shape):
    codes = np.random.default_rng(0).normal(size=shape)
    plane, _ = pictures.to_plane(codes)
    assert plane.shape == (shape[0], 2) and np.isfinite(plane).all()
    spoiled = np.concatenate([codes, np.full((1, shape[1]), np.nan)])
    np.testing.assert_allclose(pictures.to_plane(spoiled)[0][:-1], plane)
