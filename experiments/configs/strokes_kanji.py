"""Kanji as pen drawings, the model of `strokes_omniglot`.

arXiv:1308.0850.  vae-jax train --config=strokes_kanji --config.data.path=kanji_strokes.npz

Result (seed 0, exact, 500 test drawings): -277.2 ± 3.5 nats a drawing, 9.62 bits a point, in 34 minutes of one busy
core (29 passes). Counts of three moves have -282.6; mixed with this network at every point, -211.5
(`experiments.benchmarks.drawings`). General coders of the test points as int16, of 500 drawings: gzip 23.78 bits a
point, xz 18.68, bz2 18.51 (534 nats a drawing).

2,500 steps of 64 at 3e-3, which are 16 passes, have -296.1; with a width of 128 -319.0, with 64 -341.1. At the end the
training loss, with dropout, is 262 nats and validation -285: the network learns drawings by heart.
"""

from ml_collections import ConfigDict

from vae_jax.configs import strokes_omniglot


def get_config(arg: str = "") -> ConfigDict:
    config = strokes_omniglot.get_config(arg)
    config.model.scale = 40.0
    if not arg:
        config.model.atoms = 256
        config.model.network.dropout = 0.2  # a third of the drawings
        config.data.batch_size = 16
        config.optimizer.update({"learning_rate": 2e-3, "average_decay": 0.999})
        config.optimizer.schedule.decay_steps = 18_000
        config.train.update({"num_steps": 18_000, "log_every": 500, "eval_every": 2_000, "checkpoint_every": 2_000})
    return config
