"""Linear prediction of sound from its last 32 samples, errors of four scales: the baseline of `wavenet_audio`.

doi:10.1080/01621459.1989.10478852.
vae-jax train --config=linear_predictor_audio --config.data.path=FILE

The levels are dequantised: the bits per sample bound those of the levels. `data.batch_size` must divide the number of
training windows, since EM needs all of them in a pass; `train.num_steps` counts batches.

Result (seed 0): at most 5.678 bits a sample of the recording in RESULTS.md, 73 test windows, with
--config.data.audio.length=8000 --config.data.batch_size=25 --config.train.num_steps=530, ten passes in two minutes of
CPU time.
"""

from ml_collections import ConfigDict

from vae_jax.configs import bernoulli_mixture_digits, vae_digits, wavenet_audio


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.family = "linear_predictor"
    # floor: of the variances, in units of [0, 1]², here half of that of the dequantisation, 1 / (12 x 256²)
    config.model = ConfigDict({"order": 32, "num_scales": 4, "floor": 6e-7})
    config.data.update(wavenet_audio.DATA)
    config.data.update({"transform": "dequantize", "batch_size": 50})
    config.learner = ConfigDict({"name": "em"})
    del config.optimizer, config.start_from
    bernoulli_mixture_digits.train_for(config, passes=10, batches=6)
    if vae_digits.is_smoke(arg):
        config.model.update({"order": 4, "num_scales": 2})
        config.data.audio.length = 64
        config.train.update({"num_steps": 12, "log_every": 6, "eval_every": 6, "checkpoint_every": 12})
        config.eval.num_test = 32
    return config
