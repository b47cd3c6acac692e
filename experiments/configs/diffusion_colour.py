"""Variational diffusion model of colour images of 32x32 pixels, 256 levels.  arXiv:2107.00630.

vae-jax train --config=diffusion_colour:KIND --config.data.path=FILE

KIND is a data set as in `vae_colour`: `emoji`, the default, or `patches`, pieces of photographs. Every channel of a
pixel sees all the others in the noisy image.

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import diffusion_digits, diffusion_mnist, vae_colour, vae_digits, vae_mnist

KINDS = ("emoji", "patches")


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, KINDS, "emoji")
    config = diffusion_mnist.get_config()
    vae_colour.use_data(config, kind)
    config.data.batch_size = 32
    config.model.network.multipliers = (1, 2, 2)
    vae_mnist.train_for(config, num_steps=10_000)
    config.train.update({"log_every": 100, "eval_every": 2_000, "checkpoint_every": 1_000})
    return diffusion_digits.shrunk(config) if smoke else config
