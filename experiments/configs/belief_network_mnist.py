"""Fully visible belief networks on dynamically binarised MNIST: `belief_network_mnist:fvsbn|nade|made`.

Protocol as `vae_mnist`: `fvsbn`, the sigmoid belief network of Neal (1992), doi:10.1016/0004-3702(92)90065-6; `nade`
(the default), arXiv:1605.02226; `made`, arXiv:1502.03509.

vae-jax train --config=belief_network_mnist:nade --config.data.path=DIR

Result (seed 0, one busy core): exact log p(x) of 10,000 test images -97.03 ± 0.23 nats (`fvsbn`, 30,000 steps in 11
minutes), -86.09 ± 0.22 (`nade`, 3,000 steps, 7.7 epochs, in 12 minutes of CPU time), -96.07 ± 0.25 (`made`, 30,000
steps in 5 minutes of CPU time: 500 units are not one for each pixel, where NADE has all of them at each; the paper has
8,000).
"""

from ml_collections import ConfigDict

from vae_jax.configs import belief_network_digits, vae_digits, vae_mnist

NETWORKS = {  # and how many steps of 128 images, at which rate
    "nade": ({"name": "nade", "num_hidden": 500, "activation": "sigmoid"}, 3_000, 1e-2),
    "fvsbn": ({"name": "made", "hidden": (), "activation": "relu"}, 30_000, 1e-3),
    "made": ({"name": "made", "hidden": (500,), "activation": "relu"}, 30_000, 1e-3),
}


def get_config(arg: str = "") -> ConfigDict:
    name, smoke = vae_digits.chosen(arg, NETWORKS, "nade")
    network, num_steps, learning_rate = NETWORKS[name]
    config = belief_network_digits.get_config()
    config.model.network = ConfigDict(network)
    config.data.update({"name": "mnist", "batch_size": 128})
    vae_mnist.train_for(config, num_steps=num_steps)
    config.optimizer.learning_rate = learning_rate
    if smoke:
        config.model.network.update({"num_hidden": 16} if name == "nade" else {})
        config = vae_digits.smoke(config)
    return config
