"""VAE with two dense hidden layers on dynamically binarised Fashion-MNIST, otherwise as `vae_mnist`.

vae-jax train --config=vae_fashion_mnist
(Debian's dataset-fashion-mnist is found without a path)

Result (seed 0, two CPU cores shared with other work): test IW-500 log p(x) -231.90 ± 0.76 nats, ELBO -234.64, 25 active
units; 30,000 steps (76 epochs) in 9.5 minutes.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    config = vae_mnist.get_config()
    config.data.name = "fashion_mnist"
    vae_mnist.train_for(config, num_steps=30_000)
    config.eval.num_samples = 500
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
