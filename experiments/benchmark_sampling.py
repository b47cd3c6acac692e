"""Draws of autoregressive families: what is computed is kept, against the whole network for every pixel.

    python -m experiments.benchmark_sampling [--configs=pixel_cnn_mnist] [--draws=16] [--pixels=28] [--rounds=3]

A row is a config whose density has a draw without caches (`distributions.RasterScan.uncached`). Parameters are random,
draws vmapped, compilation left out; seconds are CPU time of all cores, medians. Each pixel of an uncached draw is one
pass over the network and costs what the others do, so only the last `pixels` of them are timed, given those before,
and stand for all. Both draws have the same keys: `agree` is the share of these pixels in which they do.
"""

import importlib
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from absl import app, flags

from experiments.setup import launched, parse_flags
from vae_jax import models
from vae_jax.distributions import RasterScan

CONFIGS = flags.DEFINE_list("configs", ["pixel_cnn_mnist"], "Configs, one a row; NAME:ARGUMENT.")
SHAPE = flags.DEFINE_list("shape", ["28", "28", "1"], "Of an event.")
DRAWS = flags.DEFINE_integer("draws", 16, "How many are drawn together.", lower_bound=1)
PIXELS = flags.DEFINE_integer("pixels", 28, "How many of an uncached draw are timed.", lower_bound=1)
ROUNDS = flags.DEFINE_integer("rounds", 3, "How often every measurement takes its turn.", lower_bound=1)


def densities(config, event_shape):
    """(params, params -> the density) of a config, no parameter zero."""
    name, _, argument = config.partition(":")
    config = importlib.import_module(f"experiments.configs.{name}").get_config(argument).to_dict()
    model = models.from_config(config["family"], config["model"], event_shape=event_shape, num_classes=0)
    shapes = jax.eval_shape(model.init, jax.random.key(0), {"x": jnp.zeros((1, *event_shape))})
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda a: jnp.asarray(0.1 * rng.normal(size=a.shape), a.dtype), shapes), model.density


def measure(config, event_shape, draws, pixels, rounds):
    """(seconds a draw, seconds an uncached draw, share of the compared pixels in which they agree)."""
    params, density = densities(config, event_shape)
    if not isinstance(density(params), RasterScan):
        raise ValueError(f"{config}: a {type(density(params)).__name__} has no cached draw; pixel_cnn has")
    keys = jax.random.split(jax.random.key(2), draws)
    num_pixels = density(params).uncached().event_shape[0]
    pixels = min(pixels, num_pixels)

    @jax.jit
    def cached(params, keys):
        return jax.vmap(density(params).sample)(keys)

    @jax.jit
    def uncached(params, keys, x):
        plain = density(params).uncached()
        complete = lambda key, x: plain.complete(key, x.reshape(plain.event_shape), num_pixels - pixels)  # noqa: E731
        return jax.vmap(complete)(keys, x)

    x = cached(params, keys)
    last = uncached(params, keys, x)[:, num_pixels - pixels :]
    agree = jnp.mean(last.reshape(draws, -1) == x.reshape(draws, num_pixels, -1)[:, -pixels:].reshape(draws, -1))
    turns = [(cpu_seconds(cached, params, keys), cpu_seconds(uncached, params, keys, x)) for _ in range(rounds)]
    once, whole = (statistics.median(times) / draws for times in zip(*turns, strict=True))
    return once, whole * num_pixels / pixels, float(agree)


def cpu_seconds(function, *args):
    start = time.process_time()
    jax.block_until_ready(function(*args))
    return time.process_time() - start


@launched
def main(argv):
    del argv
    print(f"{'config':32s}{'s a draw':>12s}{'uncached':>12s}{'times':>8s}{'agree':>8s}")
    for config in CONFIGS.value:
        shape = tuple(map(int, SHAPE.value))
        once, whole, agree = measure(config, shape, DRAWS.value, PIXELS.value, ROUNDS.value)
        print(f"{config:32s}{once:12.4f}{whole:12.4f}{whole / once:8.1f}{agree:8.4f}", flush=True)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
