"""The benchmark of draws measures two ways of drawing the same images."""

import pytest

from experiments.benchmarks.sampling import densities, measure


@pytest.mark.parametrize(
    ("config", "shape", "vocabulary"),
    [
        ("pixel_cnn_digits:smoke", (3, 2, 1), 0),
        ("wavenet_audio:smoke", (9,), 0),
        ("language_model_text:smoke", (6,), 7),
    ],
)
def test_both_ways_draw_the_same_and_take_time(config, shape, vocabulary):
    row = measure(config, shape, draws=3, pixels=100, rounds=3, vocabulary_size=vocabulary)
    assert row.agree == 1.0 and min(row) > 0
    assert 0.1 < row.times / (row.uncached / row.cached) < 10  # a median of ratios, a ratio of least


@pytest.mark.parametrize("config", ["belief_network_digits", "vae_digits"])
def test_what_keeps_nothing_is_refused(config):
    with pytest.raises(ValueError, match=f"{config}: no density of .* has cached draws; give pixel_cnn"):
        densities(config, (3, 2, 1))


@pytest.mark.parametrize(("config", "vocabulary"), [("language_model_text", 0), ("pixel_cnn_digits", 7)])
def test_a_vocabulary_is_of_text_alone(config, vocabulary):
    with pytest.raises(ValueError, match=f"{config}: --vocabulary={vocabulary}; text needs the number of words"):
        densities(config, (6,), vocabulary)


def test_an_ngram_has_no_cache_to_do_without():
    with pytest.raises(ValueError, match="no cache to do without"):
        measure("ngram_text", (6,), draws=1, pixels=1, rounds=1, vocabulary_size=7)
