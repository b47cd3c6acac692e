"""PixelVAE on scikit-learn's digits, 17 grey levels: a code, then the chain rule over pixels.  arXiv:1611.05013.

python -m experiments.train --config=experiments/configs/pixel_vae_digits.py

Result: not yet measured.
"""

from ml_collections import ConfigDict

from experiments.configs import pixel_cnn_digits, vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config, model = pixel_cnn_digits.get_config("softmax"), vae_digits.get_config().model
    network = {"channels": (24,) * 2, "first_kernel": 3, "kernel": 3, "hidden": (48,)}
    pixel = config.model.likelihood
    model.likelihood = ConfigDict({"name": "pixel_cnn", "pixel": pixel, "features": 16, "spatial": True, **network})
    # Where the pixels before tell nearly all, a code that costs from the start is never used.
    warm_up = {"name": "linear", "start": 0.0, "end": 1.0, "steps": 500}
    model.objective = ConfigDict({"name": "elbo", "num_samples": 1, "beta": warm_up})
    config.family, config.model = "vae", model
    config.eval.num_samples = 500
    return smoke(config) if arg == "smoke" else config


def smoke(config: ConfigDict) -> ConfigDict:
    config.model.likelihood.update({"channels": (4, 4), "hidden": (8,), "features": 2})
    return vae_digits.smoke(config)
