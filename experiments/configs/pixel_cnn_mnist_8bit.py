"""Gated PixelCNN on MNIST as it is stored, 256 levels a pixel.  arXiv:1606.05328.

vae-jax train --config=pixel_cnn_mnist_8bit:KIND --config.data.path=DIR

KIND: `softmax`, the default, or `logistics` (ten a pixel), arXiv:1701.05517. Protocol as `vae_mnist_8bit`.

Result (seed 0, exact, 10,000 test images): `softmax` -530.92 ± 1.44 nats, 0.977 bits/dim; 32,000 steps of 16 (10
epochs) take 45 minutes on two quiet cores, at 12 steps/s. It had not converged: validation had -615 after 2,000 steps,
-583 after 10,000, -555 after 20,000 and -538 at the end. Its first 23,400 steps ran on an H200.
"""

from ml_collections import ConfigDict

from vae_jax.configs import pixel_cnn_digits, pixel_cnn_mnist, vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    known = pixel_cnn_digits.likelihoods(num_levels=256, num_components=10, scale=0.1)
    known = {kind: known[kind] for kind in ("softmax", "logistics")}
    kind, smoke = vae_digits.chosen(arg, known, "softmax")
    config = pixel_cnn_mnist.get_config("smoke" if smoke else "")
    config.model.likelihood = ConfigDict(known[kind])
    config.data.transform = "levels"
    if not smoke:
        vae_mnist.train_for(config, num_steps=32_000)
        config.train.update({"log_every": 200, "checkpoint_every": 500})
    return config
