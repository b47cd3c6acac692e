"""The list of configs, and the page of one config with the meaning of its keys."""

import re

import pytest

from vae_jax.runs import comments, configs, manual


@pytest.mark.parametrize("name", configs.names())
def test_every_config_has_a_subject_of_a_line_and_a_result_with_its_figure(name):
    file = configs.file_of(name)
    subject, result = manual.first_line(file), manual.result(manual.docstring(file))
    assert subject and len(subject) <= 120 and not subject.endswith((",", ";", "of", "a")), subject
    assert result and (
        result == "not yet measured" or re.search(r"-?\d[\d.]* .*(nats|bits/dim|bits a sample|modes)$", result)
    )
    assert len(result) <= 80, result


def test_the_list_has_every_config_in_columns_that_fit():
    lines = manual.table().splitlines()
    assert max(map(len, lines)) < 120
    assert [line.split()[0] for line in lines[2:-2] if not line.startswith(" ")] == configs.names()
    row = next(line for line in lines if line.startswith("vae_digits "))
    assert row.split("  ")[-1].strip() == "test IW-5000 log p(x) -23.03 ± 0.21"


@pytest.mark.parametrize(
    ("text", "figure"),
    [
        ("A.\n\nResult (seed 0): -1.0 ± 0.1 nats, ELBO -2 nats.", "-1.0 ± 0.1 nats"),
        ("A.\n\nResult (a: b (c); d): at most 5.6 bits a sample\nof all.", "at most 5.6 bits a sample"),
        ("A.\n\nResult of the LSTM (seed 0): the Bible,\n10 verses, 3 nats", "the Bible, 10 verses, 3 nats"),
        ("A.\n\nResult: not yet measured.", "not yet measured"),
        ("A.\n\nResult: good.", None),
        ("A.\n\nThe Result: 1 nats.", None),
    ],
)
def test_the_figure_of_a_result(text, figure):
    assert manual.result(text) == figure


def test_a_page_shows_keys_values_and_what_they_mean():
    page = manual.config("vae_digits")
    lines = page.splitlines()
    assert max(map(len, lines)) <= 120 and page.startswith("--config=vae_digits: VAE on scikit-learn's digits")
    (line,) = (line for line in lines if line.startswith("  data.transform "))
    assert re.fullmatch(r"  data\.transform +'binarize' +a function of vae_jax\.data\.transforms", line)
    keys = [line.split()[0] for line in lines if re.match(r"  [a-z_]+(\.| )", line)]
    expected = [".".join(path) for path, _ in comments.leaves(configs.find("vae_digits").to_dict())]
    assert set(expected) <= set(keys)
    with pytest.raises(ValueError, match="did you mean 'vae_digits'"):
        manual.config("vae_digitz")


def meanings(name):
    return comments.of_config(configs.file_of(name), configs.find(name).to_dict())


def test_meanings_come_from_the_config_then_from_those_it_builds_on_then_from_arguments():
    wavenet, gaussians = meanings("wavenet_audio"), meanings("bernoulli_mixture_digits")
    assert wavenet["data", "batch_size"].startswith("examples a batch")  # an argument of the reader
    assert wavenet["data", "max_value"].startswith("the largest value that a stored pixel")  # vae_digits
    assert wavenet["data", "audio"].startswith("Samples a second and a window; 256 levels")  # of its own dict
    assert wavenet["data", "audio", "companding"].startswith('"mu_law" for 256 levels')
    assert wavenet["data", "context", "name"].startswith("what the model is conditional on")  # of a dict with a name
    assert gaussians["data", "batch_size"].startswith("a third of the training images")  # beside an assignment
    assert gaussians["model", "revive_below"].startswith("a component with fewer examples")
    assert meanings("vae_mnist")["model", "latent_dim"] == "D, the size of z"


def test_a_comment_on_a_value_is_not_shown_for_another_value(tmp_path):
    (tmp_path / "own.py").write_text(
        "from vae_jax.configs import bernoulli_mixture_digits\n"
        "def get_config(arg=''):\n"
        "    config = bernoulli_mixture_digits.get_config()\n"
        "    config.data.batch_size = 7\n"
        "    config.seed = 3  # ours\n"
        "    return config\n"
    )
    name = str(tmp_path / "own.py")
    own = comments.of_config(configs.file_of(name), configs.get(name).to_dict())
    assert own["data", "batch_size"].startswith("examples a batch") and own["seed",] == "ours"


def test_every_comment_of_the_first_config_is_shown():
    page = " ".join(manual.config("vae_digits").split())
    text = configs.file_of("vae_digits").read_text()
    stated = re.findall(r'^            "\w+":.*?,  # (.*)$', text, re.MULTILINE)
    assert len(stated) > 15
    for comment in stated:
        assert set(comment.split()[:4]) <= set(page.split()), comment
