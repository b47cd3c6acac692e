"""What a text VAE writes, and what is said of its perplexity."""

import jax
import pytest

from experiments import report, sentences, setup
from experiments.configs import text_vae_text


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    experiment = setup.build(text_vae_text.get_config("smoke").to_dict())
    batch = {"x": experiment.split("valid")["x"][:2]}
    folder = tmp_path_factory.mktemp("figures")
    sentences.write(experiment, jax.jit(experiment.model.init)(jax.random.key(0), batch), folder, jax.random.key(1))
    decode, x = experiment.dataset.vocabulary.decode, experiment.split("test")["x"]
    return {path.stem: path.read_text().splitlines() for path in folder.iterdir()}, [decode(row) for row in x[:20]]


def test_every_page_has_its_sentences(pages):
    pages, test = pages
    assert set(pages) == {"samples", "reconstructions", "neighbours", "interpolations"}
    assert len(pages["samples"]) == sentences.DRAWS
    assert [line[10:] for line in pages["reconstructions"][::4]] == test
    assert [line[:10].strip() for line in pages["reconstructions"][:4]] == ["test", "greedy", "beam", ""]
    assert pages["neighbours"][:: sentences.NEIGHBOURS + 2] == test
    block = sentences.STEPS + 3
    assert pages["interpolations"][::block] == test[: sentences.PAIRS]
    assert pages["interpolations"][block - 2 :: block] == test[sentences.PAIRS : 2 * sentences.PAIRS]


def test_a_perplexity_from_a_bound_is_said_to_be_one():
    exact = {"log_prob": -8.0, "log_prob_se": 0.1, "num_examples": 10, "num_tokens": 80}
    exact |= {"perplexity": 2.7, "bits_per_token": 1.4}
    assert "1.4000 bits a token, of 80 tokens" in report.table(exact)
    assert "at most, of 80 tokens" in report.table({**exact, "num_samples": 5, "effective_samples": 3.0})


def test_a_remedy_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"unknown remedy 'cyclic' \(allowed: free_bits, .*cyclical"):
        text_vae_text.get_config("cyclic")
    assert text_vae_text.get_config("aggressive,smoke").learner.name == "aggressive"
