"""A fully visible belief network on scikit-learn's binarised digits: NADE, arXiv:1605.02226.

vae-jax train --config=belief_network_digits

Result (seed 0, 10,000 steps in 99 s on one busy core): exact log p(x) of 300 test images -23.21 ± 0.21 nats, 0.523
bits/dim. MADE with 128 hidden units (relu) has -23.09 ± 0.21 after 34 s, without any, the sigmoid belief network,
-23.69 ± 0.21 after 21 s.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.family = "belief_network"
    # Or {"name": "made", "hidden": (...), "activation": ...}, arXiv:1502.03509; of no hidden layer it is the sigmoid
    # belief network.
    config.model = ConfigDict({"network": {"name": "nade", "num_hidden": 64, "activation": "sigmoid"}})
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
