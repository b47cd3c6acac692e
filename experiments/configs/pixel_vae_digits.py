"""PixelVAE on scikit-learn's digits, 17 grey levels: a code, then the chain rule over pixels.  arXiv:1611.05013.

vae-jax train --config=pixel_vae_digits

Result (seed 0, 500 steps on a busy core): IW-500 log p(x) of 300 test images -79.61 ± 0.64 nats, 1.795 bits/dim, 26
effective samples; ELBO -82.44, 8.7 nats of it rate. The same two layers of pixels without a code (`pixel_cnn_digits`,
1,000 steps) have 1.884 bits/dim exactly; with a code that is a vector to all pixels (`likelihood.spatial=False`, 16
features, 1,000 steps) 1.863, rate 3.1. A map of 16 features over 1,000 steps learns the training images: 1.841.
"""

from ml_collections import ConfigDict

from vae_jax.configs import pixel_cnn_digits, vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config, model = pixel_cnn_digits.get_config("softmax"), vae_digits.get_config().model
    network = {"channels": (24,) * 2, "first_kernel": 3, "kernel": 3, "hidden": (48,)}
    pixel = config.model.likelihood
    model.likelihood = ConfigDict({"name": "pixel_cnn", "pixel": pixel, "features": 8, "spatial": True, **network})
    # Where the pixels before tell nearly all, a code that costs from the start is never used.
    warm_up = {"name": "linear", "start": 0.0, "end": 1.0, "steps": 250}
    model.objective = ConfigDict({"name": "elbo", "num_samples": 1, "beta": warm_up})
    config.family, config.model = "vae", model
    config.train.eval_every = 100
    config.train.num_steps = config.optimizer.schedule.decay_steps = 500  # of more it learns the training images
    config.eval.num_samples = 500
    return smoke(config) if vae_digits.is_smoke(arg) else config


def smoke(config: ConfigDict) -> ConfigDict:
    config.model.likelihood.update({"channels": (4, 4), "hidden": (8,), "features": 2})
    return vae_digits.smoke(config)
