"""n-grams of the levels of sound, interpolated Kneser-Ney: the baseline of `wavenet_audio` that counts.

doi:10.1006/csla.1999.0128.
vae-jax train --config=ngram_audio --config.data.path=FILE

Result: 4.912 bits a sample of the recording in RESULTS.md, 73 test windows, with --config.data.audio.length=8000.
"""

from ml_collections import ConfigDict

from vae_jax.configs import ngram_text, vae_digits, wavenet_audio


def get_config(arg: str = "") -> ConfigDict:
    config = ngram_text.get_config()
    config.model.update({"order": 3, "num_levels": 256})
    del config.data.tokens
    config.data.update(wavenet_audio.DATA)
    if vae_digits.is_smoke(arg):
        config.data.audio.length = 64
        config = vae_digits.smoke(config)
    return config
