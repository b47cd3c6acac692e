"""β-TCVAE on scikit-learn's digits: as `vae_digits`, with the total correlation of the codes weighted by β = 6.

arXiv:1802.04942.  python -m experiments.train --config=experiments/configs/beta_tcvae_digits.py

Result: not yet measured.
"""

from ml_collections import ConfigDict

from experiments.configs import vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.model.objective = ConfigDict(
        {"name": "beta_tcvae", "alpha": 1.0, "beta": 6.0, "gamma": 1.0, "num_data": 1197, "sampling": "stratified"}
    )
    return vae_digits.smoke(config) if arg == "smoke" else config
