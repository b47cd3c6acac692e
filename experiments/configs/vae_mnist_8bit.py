"""VAE on MNIST as it is stored, 256 levels a pixel: a mixture of three discretised logistics, arXiv:1701.05517 eq. (2).

vae-jax train --config=vae_mnist_8bit --config.data.path=DIR

Result (seed 0, two CPU cores, busy): test IW-100 log p(x) -710.84 ± 1.67 nats, 1.308 bits/dim, ELBO -740.65;
6,000 steps (15 epochs) in 10.4 minutes.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    config = vae_mnist.get_config()
    config.data.transform = "levels"
    network = {"hidden": (256,), "activation": "relu"}
    config.model.encoder = ConfigDict({"name": "conv_encoder", "channels": (32, 64), **network})
    config.model.decoder = ConfigDict({"name": "conv_decoder", "channels": (64, 32), **network})
    config.model.likelihood = ConfigDict({"name": "discretized_logistic_mixture", "num_components": 3})
    vae_mnist.train_for(config, num_steps=6_000)
    config.eval.num_samples = 100
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
