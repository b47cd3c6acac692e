"""The cost of draws of autoregressive families: with caches, and with the whole network for every pixel.

    python -m experiments.benchmarks.sampling [--configs=pixel_cnn_mnist] [--draws=1,16] [--pixels=28] [--rounds=5]

    python -m experiments.benchmarks.sampling --configs=wavenet_audio --shape=16000     # a second of sound
    python -m experiments.benchmarks.sampling --configs=language_model_text --shape=33 --vocabulary=3663 # sentences

A row is a config whose density has a draw without caches (`uncached` of `distributions.RasterScan`, `Series` and
`Sentence`), and how many are drawn side by side (vmapped). Parameters are random, compilation is left out. Seconds are
CPU time of all cores *per draw*, the minimum over the rounds, which excludes waiting and most of the cost of other work
on the machine. `times` is the median over the rounds of the ratio of the two; both are measured in every round.

Each pixel of an uncached draw is one pass over the network, and all cost the same. Therefore only the last `pixels` of
them are timed, given the pixels before. Both draws have the same keys: `agree` is the share of these pixels that are
equal. A pass for every pixel needs H W times the arithmetic of a draw with caches. `times` is about as large if one
pixel of all draws together is enough work. For a single draw it is far less: then a pixel is a hundred tiny operations,
and to start them takes most of the time.
"""

import statistics
import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from vae_jax import models
from vae_jax.core import Event
from vae_jax.distributions import RasterScan, Sentence, Series
from vae_jax.runs import configs
from vae_jax.runs.launching import launched, parse_flags
from vae_jax.support import Levels, Tokens

CONFIGS = flags.DEFINE_list("configs", ["pixel_cnn_mnist"], "Configs; NAME:ARGUMENT.")
SHAPE = flags.DEFINE_list("shape", ["28", "28", "1"], "Of an event.")
VOCABULARY = flags.DEFINE_integer("vocabulary", 0, "Of the words of a text.")
DRAWS = flags.DEFINE_list("draws", ["1", "16"], "How many are drawn together, a row each.")
PIXELS = flags.DEFINE_integer("pixels", 28, "How many of an uncached draw are timed.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "How often every measurement takes its turn.", lower_bound=1)


class Measured(NamedTuple):
    cached: float  # seconds of CPU time, of one draw
    uncached: float
    times: float
    agree: float  # share of the compared pixels


def densities(config, event_shape, vocabulary_size=0):
    """Return random params and the function from params to the density of a config.

    Raises `ValueError` if no draw is cached, and for a vocabulary without text or text without a vocabulary.
    """
    built = configs.find(config).to_dict()
    if (built["data"]["transform"] == "tokens") != bool(vocabulary_size):
        raise ValueError(f"{config}: --vocabulary={vocabulary_size}; text needs the number of words, other data 0")
    support = Tokens(vocabulary_size) if vocabulary_size else Levels(256)
    model = models.from_config(built["family"], built["model"], event=Event(tuple(event_shape), support))
    x = jnp.zeros((1, *event_shape), jnp.int32 if vocabulary_size else jnp.float32)
    shapes = jax.eval_shape(model.init, jax.random.key(0), {"x": x})
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: jnp.asarray(0.1 * rng.normal(size=a.shape), a.dtype), shapes)
    if not isinstance(model.density and model.density(params), (RasterScan, Series, Sentence)):
        raise ValueError(
            f"{config}: no density of {built['family']!r} has cached draws; give pixel_cnn, wavenet or language_model"
        )
    return params, model.density


def measure(config, event_shape, draws, pixels, rounds, vocabulary_size=0) -> Measured:
    """Measure a draw with and without caches. For sentences, all words are measured.

    Args:
      config: the name of a config, NAME or NAME:ARGUMENT.
      event_shape: the shape of an example.
      draws: how many are drawn together.
      pixels: how many pixels of an uncached draw are measured.
      rounds: how often both are measured.
      vocabulary_size: the number of words of a text; 0 for other data.
    """
    params, density = densities(config, event_shape, vocabulary_size)
    keys = jax.random.split(jax.random.key(2), draws)
    num_pixels = event_shape[0] if vocabulary_size else density(params).uncached().event_shape[0]
    pixels = num_pixels if vocabulary_size else min(pixels, num_pixels)

    @jax.jit
    def cached(params, keys):
        return jax.vmap(density(params).sample)(keys)

    @jax.jit
    def uncached(params, keys, x):
        plain = density(params).uncached()
        if vocabulary_size:
            return jax.vmap(plain.sample)(keys)
        complete = lambda key, x: plain.complete(key, x.reshape(plain.event_shape), num_pixels - pixels)  # noqa: E731
        return jax.vmap(complete)(keys, x)

    x = cached(params, keys)
    last = uncached(params, keys, x)[:, num_pixels - pixels :]
    agree = jnp.mean(last.reshape(draws, -1) == x.reshape(draws, num_pixels, -1)[:, -pixels:].reshape(draws, -1))
    turns = [(cpu_seconds(cached, params, keys), cpu_seconds(uncached, params, keys, x)) for _ in range(rounds)]
    once, whole = (min(seconds) / draws for seconds in zip(*turns, strict=True))
    all_pixels = num_pixels / pixels
    times = statistics.median(theirs * all_pixels / ours for ours, theirs in turns)
    return Measured(once, whole * all_pixels, times, float(agree))


def cpu_seconds(function, *args):
    start = time.process_time()
    jax.block_until_ready(function(*args))
    return time.process_time() - start


@launched
def main(argv):
    del argv
    print(f"{'config':32s}{'draws':>6s}{'s a draw':>12s}{'uncached':>12s}{'times':>8s}{'agree':>8s}")
    for config in CONFIGS.value:
        for draws in map(int, DRAWS.value):
            row = measure(config, tuple(map(int, SHAPE.value)), draws, PIXELS.value, ROUNDS.value, VOCABULARY.value)
            numbers = f"{row.cached:12.4f}{row.uncached:12.4f}{row.times:8.1f}{row.agree:8.4f}"
            print(f"{config:32s}{draws:6d}{numbers}", flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
