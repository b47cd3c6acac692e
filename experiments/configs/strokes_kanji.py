"""Kanji as pen drawings, the model of `strokes_omniglot`.

arXiv:1308.0850.  vae-jax train --config=strokes_kanji --config.data.path=kanji_strokes.npz

Result: not yet measured. General coders of the test points as int16, of 500 drawings: gzip 23.69 bits a point, xz
18.67, bz2 18.47 (532 nats a drawing).
"""

from ml_collections import ConfigDict

from vae_jax.configs import strokes_omniglot


def get_config(arg: str = "") -> ConfigDict:
    config = strokes_omniglot.get_config(arg)
    config.model.scale = 40.0
    if not arg:
        config.model.atoms = 128
        config.model.network.dropout = 0.2  # a third of the drawings
    return config
