"""Pictures of a run while it trains."""

import importlib
import logging as python_logging

import jax
import numpy as np
import pytest
from matplotlib.image import imread

from vae_jax.data import sources, values
from vae_jax.runs import build, previews, train, workdir

FEW = {"num_steps": 4, "log_every": 2, "eval_every": 4, "checkpoint_every": 4, "preview_every": 2}


class Seen:
    """A writer that remembers what it is shown."""

    has_trackers = True

    def __init__(self):
        self.pictures, self.numbers = {}, {}

    def images(self, step, images):
        self.pictures[step] = images

    def histograms(self, step, histograms):
        self.numbers[step] = histograms


def config_of(family="vae_digits", **changes):
    config = importlib.import_module(f"vae_jax.configs.{family}").get_config("smoke").to_dict()
    config["train"] |= FEW
    for section, options in changes.items():
        config[section] |= options
    return config


def pictures_of(experiment, seed=0):
    batch = jax.tree.map(lambda a: a[:4], experiment.split("valid"))
    params = jax.jit(experiment.model.init)(jax.random.key(seed), batch)
    return previews.Preview(experiment, ".", None).pictures(params)


def test_the_same_images_and_noise_are_drawn_while_a_run_trains(tmp_path, monkeypatch):
    seen = Seen()
    hooks = previews.hooks
    monkeypatch.setattr(previews, "hooks", lambda e, folder, writer, every: hooks(e, folder, seen, every))
    workdir.open_workdir(tmp_path, config_of())
    train.train(build.build(config_of()), tmp_path)
    assert [path.name for path in sorted((tmp_path / "previews").iterdir())] == [
        "step_00000002.png",
        "step_00000004.png",
    ]
    assert set(seen.pictures) == {2, 4} and list(seen.numbers) == [4]
    first, last = (seen.pictures[step]["preview/reconstructions"] for step in (2, 4))
    scale, side = 8, 8
    height = scale * side + previews.GAP
    assert first.shape == (2 * height + previews.GAP, 10 * height + previews.GAP, 1)
    np.testing.assert_array_equal(first[:height], last[:height])  # the images
    assert (first[height:] != last[height:]).any()  # their reconstructions
    assert seen.numbers[4]["valid/rate_per_dimension"].shape == (8,)
    shown = imread(tmp_path / "previews" / "step_00000004.png")
    assert shown.shape[1] == last.shape[1]
    np.testing.assert_allclose(shown[: len(last), :, 0], last[..., 0] / 255, atol=1e-6)


def experiment_of(config, data, monkeypatch):
    if data is not None:
        monkeypatch.setattr(sources, "load", lambda *_, **__: data)
    return build.build(config)


def vectors(dim):
    rng = np.random.default_rng(0)
    splits = [values.Split(rng.normal(size=(n, dim)).astype(np.float32)) for n in (20, 12, 12)]
    return values.Dataset("vectors", *splits, 1)


REAL = {"data": {"transform": "real"}, "model": {"likelihood": {"name": "normal"}}}


@pytest.mark.parametrize(
    ("config", "data", "expected"),
    [
        (config_of("bernoulli_mixture_digits"), None, {"samples"}),
        (config_of("autoencoder_digits"), None, {"reconstructions"}),
        (config_of(**REAL), vectors(9), {"samples", "reconstructions"}),
        (config_of(**REAL), vectors(3), {"samples"}),
        pytest.param(config_of("pixel_vae_digits"), None, {"samples"}, marks=pytest.mark.slow),
        pytest.param(config_of("hvae_mnist"), None, {"samples", "reconstructions"}, marks=pytest.mark.slow),
    ],
    ids=["mixture", "autoencoder", "series", "table", "expensive", "hierarchy"],
)
def test_every_kind_has_the_previews_that_it_can_have(config, data, expected, monkeypatch):
    if config["data"]["name"] == "mnist":
        config["data"] |= {"name": "digits", "path": ""}
    pictures = pictures_of(experiment_of(config, data, monkeypatch))
    assert set(pictures) == expected
    for picture in pictures.values():
        assert picture.dtype == np.uint8 and picture.ndim == 3 and picture.min() < picture.max()


def test_text_and_sound_have_none(monkeypatch):
    experiment = experiment_of(config_of(), None, monkeypatch)
    assert len(previews.hooks(experiment, ".", None, 5)) == 1 and previews.hooks(experiment, ".", None, 0) == []
    for kind in ("vocabulary", "encoding"):
        other = experiment._replace(dataset=experiment.dataset._replace(**{kind: object()}))
        assert previews.hooks(other, ".", None, 5) == []


def test_a_preview_that_fails_is_one_line_and_the_run_goes_on(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(python_logging.getLogger("absl"), "propagate", True)
    experiment = experiment_of(config_of(), None, monkeypatch)
    (tmp_path / "previews").write_text("a file where the folder should be")
    ((_, hook),) = previews.hooks(experiment, tmp_path, None, 2)
    monkeypatch.setattr(hook, "pictures", lambda params: {"samples": np.zeros((4, 4, 1), np.uint8)})
    for step in (2, 4):
        hook({}, step)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= python_logging.WARNING]
    assert len(warnings) == 1 and warnings[0].startswith("there are no more previews: ")
