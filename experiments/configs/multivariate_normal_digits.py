"""One Gaussian with a full covariance on scikit-learn's digits, their grey levels dequantised: 20 passes of counting.

doi:10.1016/S0047-259X(03)00096-4 (the shrinkage).
python -m experiments.train --config=experiments/configs/multivariate_normal_digits.py
"""

from ml_collections import ConfigDict

from experiments.configs import vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.family = "multivariate_normal"
    config.model = ConfigDict({"shrinkage": 0.01})  # of the covariance, towards a ball
    config.data.update({"transform": "dequantize", "batch_size": 399})
    config.learner = ConfigDict({"name": "counting"})
    config.train.update({"num_steps": 60, "log_every": 3, "eval_every": 60, "checkpoint_every": 60})
    return vae_digits.smoke(config) if arg == "smoke" else config
