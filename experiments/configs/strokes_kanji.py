"""Kanji as pen drawings, the model of `strokes_omniglot`.

arXiv:1308.0850.  vae-jax train --config=strokes_kanji --config.data.path=kanji_strokes.npz

Result (seed 0, exact, 500 test drawings): -296.1 ± 3.8 nats a drawing, 10.27 bits a point, with 2,500 steps instead of
6,000, in 26 minutes of one slow core. A width of 128 has -319.0, one of 64 has -341.1. Counts of three moves have
-282.6, which is better; mixed with this network at every point, -217.0 (`experiments.benchmarks.drawings`). General
coders of the test points as int16, of 500 drawings: gzip 23.69 bits a point, xz 18.67, bz2 18.47 (532 nats a drawing).
"""

from ml_collections import ConfigDict

from vae_jax.configs import strokes_omniglot


def get_config(arg: str = "") -> ConfigDict:
    config = strokes_omniglot.get_config(arg)
    config.model.scale = 40.0
    if not arg:
        config.model.atoms = 256
        config.model.network.dropout = 0.2  # a third of the drawings
        config.optimizer.learning_rate = 3e-3
    return config
