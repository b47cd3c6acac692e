"""VQ-VAE on scikit-learn's digits, 17 grey levels: 4x4 codes, and a PixelCNN as their prior.  arXiv:1711.00937.

vae-jax train --config=vq_vae_digits:KIND, KIND one of

* `vq`, the default: a codebook of 32 codes that follows the encoder by averages;
* `fsq`: finite scalar quantisation into 5 x 5 = 25 codes, arXiv:2309.15505;
* `two_levels`: 4x4 codes below 2x2 codes, arXiv:1906.00446.

The prior learns along, and its gradient does not reach the encoder. `vq_vae_prior` fits it once more afterwards.

Result (seed 0, 300 test images, one busy core): log p(x|k*) + log p(k*) is -99.58 ± 0.80 nats, 2.245 bits/dim:
distortion 80.14 and rate 19.44. The perplexity of the codes is 5.0 of 32, all of them used; 3,000 steps in 54 s.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist

PRIOR = {"name": "pixel_cnn", "channels": (24,) * 3, "first_kernel": 3, "kernel": 3, "hidden": (32,), "embedding": 8}
KINDS = {
    "vq": {},
    "fsq": {"quantizer": {"name": "fsq", "levels": (5, 5)}},
    "two_levels": {"top": {"channels": (32,), "num_blocks": 1, "prior": dict(PRIOR)}},
}


def get_config(arg: str = "") -> ConfigDict:
    kind, small = vae_digits.chosen(arg, KINDS, "vq")
    config = vae_digits.get_config()
    config.family = "vq_vae"
    networks = {"channels": (32,), "num_blocks": 1, "activation": "relu"}
    model = {
        "encoder": dict(networks),  # a halving for each of `channels`: 8x8 -> 4x4
        "decoder": dict(networks),
        "quantizer": {
            "name": "vq",  # or "fsq"
            "num_codes": 32,
            "dim": 8,
            "decay": 0.99,  # of the averages
            "gradient": "rotation",  # or "straight_through"
            "revive_below": 0.05,  # a code with a smaller share of a uniform use is replaced; 0: never
        },
        "likelihood": {"name": "categorical", "num_levels": 17},
        "prior": dict(PRIOR),
        "beta": 0.25,  # of the commitment
        "temperature": 0.0,  # of q(k|x) in evaluation; 0: the nearest code
        "compute_dtype": "float32",
    }
    config.model = ConfigDict({**model, **KINDS[kind]})
    config.data.transform = "levels"
    vae_mnist.train_for(config, num_steps=3_000)
    config.train.update({"log_every": 100, "eval_every": 500, "checkpoint_every": 1_000, "preview_every": 1_000})
    config.optimizer.update({"learning_rate": 2e-3, "average_decay": 0.99})
    config.eval.num_samples = 1  # q is a point mass: one code is all
    return smoke(config) if small else config


def smoke(config: ConfigDict) -> ConfigDict:
    """Return the same experiment, small enough for a test."""
    if "top" in config.model:
        config.model.top.channels = (4,)
        config.model.top.prior.update({"channels": (4,), "hidden": (8,)})
    config.model.prior.update({"channels": (4, 4), "hidden": (8,)})
    if config.model.quantizer.name == "vq":
        config.model.quantizer.num_codes = 16
    config.model.encoder.num_blocks = config.model.decoder.num_blocks = 1
    config = vae_digits.smoke(config)
    config.eval.num_samples = 1
    return config
