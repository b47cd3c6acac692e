"""Gated PixelCNN on dynamically binarised MNIST.  arXiv:1606.05328.

Protocol as `vae_mnist`.

vae-jax train --config=pixel_cnn_mnist --config.data.path=DIR

Result (seed 0, exact, 10,000 test images): -80.15 ± 0.20 nats, 32,000 steps of 16 (10 epochs) in 80 minutes of CPU time
on one core, validation, test and draws included. A net that sees 13 rows (dilations 1, 1, 2, 4, 1, 2), by 16,000 steps
of 32 at 3e-3, had -83.25 and stray marks in the last rows of its draws.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    config = vae_mnist.get_config()
    config.family = "pixel_cnn"
    network = {"channels": (24,) * 6, "first_kernel": 5, "kernel": 3, "hidden": (48,)}
    network |= {"shortcuts": False, "dropout": 0.0}  # of PixelCNN++
    network["dilations"] = (1, 2, 4, 8, 2, 1)  # the outputs see 20 rows above, as high as a digit
    config.model = ConfigDict({"network": network, "likelihood": {"name": "bernoulli"}})
    config.data.batch_size = 16
    config.optimizer.learning_rate = 2e-3
    vae_mnist.train_for(config, num_steps=32_000)
    config.train.update({"log_every": 200, "checkpoint_every": 500})  # of seven steps a second
    config.train.preview_every = 0  # a draw takes a pass for every pixel
    if vae_digits.is_smoke(arg):
        config.model.network.update({"channels": network["channels"][:2], "dilations": (1, 2)})
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
