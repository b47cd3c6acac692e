"""Normalising flows of Fashion-MNIST as it is stored, 256 levels a pixel.  arXiv:1902.00275, arXiv:1807.03039.

vae-jax train --config=flow_fashion_mnist:KIND --config.data.path=DIR

KIND as in `flow_mnist`: `levels`, `glow`, `variational` or `binary`.

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import flow_mnist


def get_config(arg: str = "") -> ConfigDict:
    config = flow_mnist.get_config(arg)
    config.data.name = "fashion_mnist"
    return config
