"""IWAE with doubly reparameterised gradients, arXiv:1810.04152, K = 50, otherwise as `iwae_mnist_1layer`.

vae-jax train --config=dreg_mnist --config.data.path=DIR

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import iwae_mnist_1layer, vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = iwae_mnist_1layer.get_config()
    config.model.objective.name = "dreg"
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
