"""What a text VAE writes, and what is said of its perplexity."""

import jax
import numpy as np
import pytest
from absl import logging

from vae_jax.configs import language_model_text, text_vae_text
from vae_jax.runs import build, configs, pictures, report, sentences


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    experiment = build.build(text_vae_text.get_config("smoke").to_dict())
    shapes = jax.eval_shape(experiment.model.init, jax.random.key(0), {"x": experiment.split("valid")["x"][:2]})
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: rng.normal(scale=0.5, size=a.shape).astype(a.dtype), shapes)  # the host's
    folder = tmp_path_factory.mktemp("figures")
    for write in sentences.pages(experiment, params, jax.random.key(1), folder).values():
        write()
    decode, x = experiment.dataset.vocabulary.decode, experiment.split("test")["x"]
    lines = {path.stem: path.read_text().splitlines() for path in folder.iterdir()}
    return lines, [decode(row) for row in x[: sentences.EXAMPLES]]


def test_every_page_has_its_sentences(pages):
    pages, test = pages
    assert set(pages) == {"samples", "reconstructions", "neighbours", "interpolations", "interpolations_drawn"}
    assert len(pages["samples"]) == sentences.DRAWS
    assert pages["reconstructions"][::4] == pages["neighbours"][:: sentences.NEIGHBOURS + 2] == test
    assert [line.partition(" ")[0] for line in pages["reconstructions"][1:4]] == ["greedy", "beam", ""]
    greedy = [line.removeprefix("greedy").strip() for line in pages["reconstructions"][1::4]]
    assert len(set(greedy)) > 5
    paths = [pages["interpolations"][n :: sentences.STEPS + 3] for n in range(sentences.STEPS + 2)]
    assert paths[0] == test and paths[-1] == test[1:] + test[:1]
    assert [pages["interpolations_drawn"][n :: sentences.STEPS + 3] for n in (0, sentences.STEPS + 1)] == [*paths[::8]]
    assert sum(a != b for a, b in zip(pages["interpolations_drawn"], pages["interpolations"], strict=True)) > 40
    assert [line.strip() for line in paths[1]] == greedy and [line.strip() for line in paths[-2]] == greedy[
        1:
    ] + greedy[:1]


def test_the_rest_of_a_sentence_is_drawn_given_its_beginning():
    changes = {"data.context": {"name": "prefix", "length": 2}}
    experiment = build.build(configs.with_changes(language_model_text.get_config("smoke").to_dict(), changes))
    batch = jax.tree.map(lambda a: a[:2], experiment.split("valid"))
    params = experiment.model.init(jax.random.key(0), batch)
    assert len(sentences.draws(experiment, params, jax.random.key(1))) == sentences.DRAWS


def test_a_perplexity_from_a_bound_is_said_to_be_one():
    exact = {"log_prob": -8.0, "log_prob_se": 0.1, "num_examples": 10, "num_tokens": 80}
    exact |= {"perplexity": 2.7, "bits_per_token": 1.4}
    assert "1.4000 bits a token; 80 tokens" in report.table(exact)
    assert "1.4000 bits a token, at most; 80 tokens" in report.table(
        {**exact, "num_samples": 5, "effective_samples": 3.0}
    )


def test_a_remedy_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match="unknown value 'cyclic'; did you mean 'cyclical'"):
        text_vae_text.get_config("cyclic")
    assert text_vae_text.get_config("aggressive,smoke").learner.name == "aggressive"


def test_one_test_sentence_has_no_path_and_loses_no_other_page(tmp_path, monkeypatch):
    experiment = build.build(text_vae_text.get_config("smoke").to_dict())
    test = experiment.dataset.test
    experiment = experiment._replace(dataset=experiment.dataset._replace(test=test._replace(x=test.x[:1])))
    batch = {"x": experiment.split("valid")["x"][:2]}
    params = jax.device_get(jax.jit(experiment.model.init)(jax.random.key(0), batch))
    monkeypatch.setattr(sentences, "DRAWS", 3)
    lines = []
    monkeypatch.setattr(logging, "warning", lambda message, *args: lines.append(message % args))
    folder = pictures.figures(experiment, params, tmp_path)
    reason = "was not drawn: a path needs two test sentences, and there is only one"
    assert lines[:2] == [f"figure interpolations {reason}", f"figure interpolations_drawn {reason}"]
    names = {path.name for path in folder.iterdir()}
    assert names >= {"samples.txt", "reconstructions.txt", "neighbours.txt", "latents.png"}
    assert len((folder / "reconstructions.txt").read_text(encoding="utf-8").splitlines()) == 4
