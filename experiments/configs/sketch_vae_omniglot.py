"""The sketch VAE on characters of many alphabets, its decoder the LSTM of `strokes_omniglot`.

arXiv:1704.03477.  vae-jax train --config=sketch_vae_omniglot --config.data.path=omniglot_strokes.npz

The paper gives the KL a floor and a rising weight; here the floor is `free_nats` for each dimension, without a weight.
Its loss is normalised by the greatest length, this one is in nats a drawing. Without a path the data are drawings of
polygons.

Result (seed 0, IW-50, 1,000 test drawings): at least -162.6 ± 2.3 nats a drawing, 7.53 bits a point, ELBO -164.2, in 33
minutes of one busy core. The rate is 3.1 nats, what the floor asks for, and 2.0 of them are mutual information. So
little does not bring a character back. `strokes_omniglot`, in batches of 64, has -166.3.
"""

from ml_collections import ConfigDict

from vae_jax.configs import strokes_omniglot, vae_digits


def get_config(arg: str = "") -> ConfigDict:
    smoke = vae_digits.is_smoke(arg)
    config = strokes_omniglot.get_config()
    config.family = "sketch_vae"
    config.model = ConfigDict(
        {
            "latent_dim": 32,
            "encoder": {"width": 128, "num_layers": 1, "dropout": 0.0},
            "decoder": {"width": 256, "num_layers": 1, "dropout": 0.1},
            "num_components": 20,
            "scale": 12.0,
            "atoms": 64,
            "prior": {"name": "standard"},
            "posterior": {"name": "normal"},
            "objective": {"name": "free_bits", "free_nats": 0.1, "num_samples": 1},
        }
    )
    config.data.batch_size = 16
    config.optimizer.average_decay = 0.999
    config.optimizer.schedule.decay_steps = 8_000
    config.train.update({"num_steps": 8_000, "log_every": 500, "eval_every": 2_000})
    config.eval.num_samples = 50
    if smoke:
        config.model.encoder.width = config.model.decoder.width = 16
        config.model.num_components = 3
        config.model.atoms = 1
        config.data.buckets = 2
        config = vae_digits.smoke(config)
    return config
