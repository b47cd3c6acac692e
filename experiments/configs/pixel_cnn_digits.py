"""Gated PixelCNN on scikit-learn's digits, 17 grey levels, by four likelihoods of a pixel.  arXiv:1606.05328.

vae-jax train --config=pixel_cnn_digits:KIND, KIND one of

* `softmax`, the default: over the levels;
* `logistics`: three discretised logistics, arXiv:1701.05517;
* `normal`, `normal_fixed`: a deviation for every pixel, or one fixed deviation for all. They are densities of
  dequantised pixels; their bits/dim bound those of the levels, and can be compared with the others.

Result (seed 0, 1,000 steps, about 50 s of CPU time with compilation): exact log p(x) of 300 test images -81.02 ± 0.66
nats, 1.826 bits/dim (`softmax`), -81.63 ± 0.66, 1.840 (`logistics`); bounds of 2.570 (`normal`) and 3.392 bits/dim
(`normal_fixed`, deviation 0.15). Six layers instead of three: 1.782 (`softmax`), 1.808 (`logistics`) ± 0.017, and with
`shortcuts` 1.780 and 1.823: so shallow a network has no use for them.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist


def likelihoods(num_levels: int, num_components: int, scale: float) -> dict:
    """{KIND: config.model.likelihood}."""
    return {
        "softmax": {"name": "categorical", "num_levels": num_levels},
        "logistics": {
            "name": "discretized_logistic_mixture",
            "num_components": num_components,
            "num_levels": num_levels,
        },
        "normal": {"name": "normal"},
        "normal_fixed": {"name": "normal_fixed_scale", "scale": scale},
    }


def get_config(arg: str = "") -> ConfigDict:
    known = likelihoods(num_levels=17, num_components=3, scale=0.15)
    kind, smoke = vae_digits.chosen(arg, known, "softmax")
    config = vae_digits.get_config()
    config.family = "pixel_cnn"
    network = {"channels": (24,) * 3, "first_kernel": 5, "kernel": 3, "hidden": (48,)}
    network |= {"shortcuts": False, "dropout": 0.0}  # of PixelCNN++
    config.model = ConfigDict({"network": network, "likelihood": known[kind]})
    config.data.transform = "dequantize" if kind.startswith("normal") else "levels"
    vae_mnist.train_for(config, num_steps=1_000)
    config.train.update({"log_every": 100, "eval_every": 200, "checkpoint_every": 200})
    config.train.preview_every = 0  # a draw takes a pass for every pixel
    config.optimizer.update({"learning_rate": 3e-3, "average_decay": 0.99})
    if smoke:
        config.model.network.channels = network["channels"][:2]
    return vae_digits.smoke(config) if smoke else config
