"""VAE with two latent dimensions on MNIST: a latent space that can be looked at.  arXiv:1312.6114 app. A.

vae-jax train --config=vae_mnist_2d --config.data.path=DIR

Result (seed 0, two CPU cores, busy): test IW-500 log p(x) -134.93 ± 0.46 nats, ELBO -137.48; 30,000 steps in 7 minutes.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    config = vae_mnist.get_config()
    config.model.latent_dim = 2
    config.model.encoder.hidden = config.model.decoder.hidden = (300, 300)
    vae_mnist.train_for(config, num_steps=30_000)
    config.eval.num_samples = 500
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
