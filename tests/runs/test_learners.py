"""How a config chooses what is learned, from where, and in which order."""

import json

import jax
import numpy as np
import pytest

from vae_jax.configs import (
    bernoulli_mixture_digits,
    chow_liu_digits,
    ex_post_prior_digits,
    ngram_text,
    vae_digits,
)
from vae_jax.runs import build, train
from vae_jax.training import loop
from vae_jax.training.checkpoint import Checkpoints


def moved(before, after):
    """The parts of the parameters that differ."""
    return {part for part in before if not jax.tree.all(jax.tree.map(np.array_equal, before[part], after[part]))}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    config = vae_digits.get_config("smoke").to_dict()
    (workdir / "config.json").write_text(json.dumps(config))
    experiment, checkpoints = build.build(config), Checkpoints(workdir / "checkpoints")
    fitted = loop.fit(
        experiment.learner,
        experiment.stream,
        key=experiment.key,
        num_steps=3,
        checkpoints=checkpoints,
        progress=False,
    )
    checkpoints.close()
    return workdir, fitted.params


def test_a_prior_is_fitted_afterwards(trained):
    workdir, params = trained
    config = ex_post_prior_digits.get_config("smoke").to_dict() | {"start_from": str(workdir)}
    experiment = build.build(config)
    start, _, _ = loop.start(experiment.learner, experiment.stream, experiment.key)
    assert moved(params, start.params) == set()
    assert set(start.opt_state[0].mu) == {"prior"}
    fitted = loop.fit(experiment.learner, experiment.stream, key=experiment.key, num_steps=3, progress=False)
    assert moved(start.params, fitted.params) == {"prior"}
    other = config | {"model": {**config["model"], "latent_dim": 3}}
    with pytest.raises(ValueError, match=r"config\.start_from: '(en|de)coder' of .* is not that of this model"):
        loop.start(*build.build(other)[4:6], experiment.key)


def test_a_part_that_does_not_exist_is_named():
    config = vae_digits.get_config("smoke").to_dict() | {"learner": {"name": "gradient", "only": ("decodr",)}}
    with pytest.raises(ValueError, match="has no part 'decodr'; did you mean 'decoder'"):
        build.build(config)


def test_em_goes_on_from_another_run(tmp_path):
    """What a run by sums starts from is what the other had fitted, on the data of either's own config."""
    config = chow_liu_digits.get_config("smoke").to_dict()
    (tmp_path / "config.json").write_text(json.dumps(config))
    experiment, checkpoints = build.build(config), Checkpoints(tmp_path / "checkpoints")
    options = {"key": experiment.key, "num_steps": 3, "checkpoints": checkpoints, "progress": False}
    fitted = loop.fit(experiment.learner, experiment.stream, **options)
    checkpoints.close()
    later = build.build(config | {"start_from": str(tmp_path)})
    start, _, _ = loop.start(later.learner, later.stream, later.key)
    assert moved(fitted.params, start.params) == set()


def test_a_mixture_may_have_more_components_than_there_are_validation_images():
    """It starts from a training batch, 399 images here, and is checked against as many, not against the 300."""
    config = bernoulli_mixture_digits.get_config().to_dict()
    config["model"]["num_components"] = 350
    assert build.build(config).stream.batch_size == 399
    config["model"]["num_components"] = 400
    with pytest.raises(ValueError, match="num_components must be at most the 399 examples of the first batch"):
        build.build(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learner": {"name": "gradient"}}, "'ngram' needs 'whole_data', got 'gradient'"),
        ({"family": "chow_liu", "model": {"smoothing": 1.0}}, "'chow_liu' is a model of images"),
        ({"data": {"tokens": {"lvl": "word"}}}, r"config\.data\.tokens: unknown key 'lvl'; did you mean 'level'"),
        ({"data": {"name": "digits"}}, r"config\.data\.tokens must be empty for digits"),
    ],
)
def test_a_mistake_with_text_gets_one_clear_error_and_leaves_no_folder(change, message, tmp_path):
    config = ngram_text.get_config("smoke").to_dict()
    data = config["data"] | change.get("data", {})
    with pytest.raises(ValueError, match=message):
        train.complete(config | change | {"data": data}, tmp_path / "run")
    assert not (tmp_path / "run").exists()  # where it may go once it is mended
