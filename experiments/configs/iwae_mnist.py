"""Importance-weighted auto-encoder, K = 5, on dynamically binarised MNIST.  arXiv:1509.00519.

vae-jax train --config=iwae_mnist --config.data.path=DIR

Result (seed 0, two CPU cores shared with other work): test IW-5000 log p(x) -86.46 ± 0.23 nats, ELBO -93.60, 18 active
units; 60,000 steps (154 epochs) in 45 minutes, 20 at the 50 steps/s of two quiet cores.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    config = vae_mnist.get_config()
    config.model.latent_dim = 50
    config.model.objective = ConfigDict({"name": "iwae", "num_samples": 5})
    vae_mnist.train_for(config, num_steps=60_000)
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
