"""Gated PixelCNN on dynamically binarised MNIST.  arXiv:1606.05328.

Protocol as `vae_mnist`.

python -m experiments.train --config=experiments/configs/pixel_cnn_mnist.py --config.data.path=DIR

Result: not yet measured to its end. On one busy core 81 images a second of CPU time, where a learning rate of 2e-3
without a schedule had come to a training bound of -100.6 nats after 9,280 images, less than a fifth of a pass. A draw
of 16 together takes 4.2 ms of CPU time, 2.65 s where the whole network is called for every pixel (medians of three;
`experiments.benchmark_sampling`).
"""

from ml_collections import ConfigDict

from experiments.configs import vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    config = vae_mnist.get_config()
    config.family = "pixel_cnn"
    network = {"channels": (24,) * 6, "first_kernel": 5, "kernel": 3, "hidden": (48,), "dropout": 0.0}
    network["dilations"] = (1, 1, 2, 4, 1, 2)  # the outputs see 13 rows above, and as far to the sides
    config.model = ConfigDict({"network": network, "likelihood": {"name": "bernoulli"}})
    config.data.batch_size = 32
    config.optimizer.learning_rate = 3e-3
    vae_mnist.train_for(config, num_steps=16_000)
    if arg == "smoke":
        config.model.network.update({"channels": network["channels"][:2], "dilations": (1, 2)})
    return vae_digits.smoke(config) if arg == "smoke" else config
