"""Draws of a model of sound as .wav files, with their spectrograms and those of test windows."""

import io

import jax
import numpy as np

from vae_jax.data import recordings
from vae_jax.files import write_bytes

NUMBER = 8


def write(experiment, params, key, directory, number=NUMBER):
    """Write draws and test windows as .wav files into `directory`/sounds; return the figure of the first four of each.

    If the model is conditional, draw n has the class of test window n.

    Args:
      experiment: the experiment of the run.
      params: its trained parameters.
      key: of the draws.
      directory: the folder of the figures.
      number: how many draws, and how many test windows.
    """
    from vae_jax.plotting import sound  # matplotlib: not before it is needed

    encoding, test = experiment.dataset.encoding, experiment.dataset.test
    number = min(number, len(test.x))
    context = experiment.split("test")["context"][:number] if experiment.context else None
    draw = jax.jit(jax.vmap(experiment.model.sample, (None, 0, 0)))
    drawn = np.asarray(draw(params, jax.random.split(key, number), context))
    folder = directory / "sounds"
    folder.mkdir(parents=True, exist_ok=True)
    shown = {}
    for name, levels in (("test", test.x[:number]), ("draw", to_levels(experiment, drawn))):
        for n, row in enumerate(levels):
            pcm = encoding.decode(row)
            file = io.BytesIO()
            recordings.write_wav(file, pcm, encoding.sample_rate)
            write_bytes(folder / f"{name}_{n}.wav", file.getvalue())
            if n < 4:
                shown[f"{name} {n}"] = pcm / 2**15
    return sound.spectrograms(shown, sample_rate=encoding.sample_rate)


def to_levels(experiment, x):
    """Return draws of the model as levels. A dequantised sample in [0, 1] becomes the bin into which it falls."""
    num_levels = experiment.dataset.encoding.num_levels
    name = experiment.config["data"]["transform"]
    scale = {"levels": 1.0, "unit": num_levels - 1, "dequantize": num_levels}[name]
    bins = np.floor(x * scale) if name == "dequantize" else np.round(x * scale)
    return np.clip(bins, 0, num_levels - 1)
