"""Gated PixelCNN on Fashion-MNIST as it is stored, 256 levels a pixel, by four likelihoods.  arXiv:1606.05328.

python -m experiments.train --config=experiments/configs/pixel_cnn_fashion_mnist.py:KIND --config.data.path=DIR

KIND as in `pixel_cnn_digits`. Not yet measured.
"""

from ml_collections import ConfigDict

from experiments.configs import pixel_cnn_digits, pixel_cnn_mnist, vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    known = pixel_cnn_digits.likelihoods(num_levels=256, num_components=5, scale=0.1)
    kind, smoke = vae_digits.chosen(arg, known, "softmax")
    config = pixel_cnn_mnist.get_config("smoke" if smoke else "")
    config.model.likelihood = ConfigDict(known[kind])
    config.data.update({"name": "fashion_mnist", "transform": "dequantize" if kind.startswith("normal") else "levels"})
    if not smoke:
        vae_mnist.train_for(config, num_steps=3_000)
        config.train.update({"log_every": 100, "checkpoint_every": 500})
    return config
