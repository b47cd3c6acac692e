"""Gated PixelCNN on Fashion-MNIST as it is stored, 256 levels a pixel, by four likelihoods.  arXiv:1606.05328.

vae-jax train --config=pixel_cnn_fashion_mnist:KIND --config.data.path=DIR

KIND as in `pixel_cnn_digits`.

Result (seed 0, 3,000 steps of 16, hardly one pass, 10 to 12 minutes of CPU time each): exact log p(x) of 10,000 test
images -1657.5 ± 4.8 nats, 3.050 bits/dim (`logistics`, five a pixel), -1699.1 ± 4.9, 3.127 (`softmax`); bounds of 4.983
(`normal`) and 6.496 bits/dim (`normal_fixed`, deviation 0.1).
"""

from ml_collections import ConfigDict

from vae_jax.configs import pixel_cnn_digits, pixel_cnn_mnist, vae_digits, vae_mnist


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
