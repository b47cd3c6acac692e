"""Importance-weighted auto-encoder as published, one stochastic layer: 784-200-200-50, tanh, K = 50.

arXiv:1509.00519 sec. 5.1: batches of 20, Adam of ε = 1e-4, eight stages of 3^(i-1) passes over the data, the learning
rate falling from 1e-3 by 10^(1/7) a stage: 3,280 passes. β_1 = 0.99 is that of the authors' code. They train on all
60,000 images and begin with the output bias of the mean pixels; here the last 10,000 are for validation and the bias
begins at 0. `--config.model.objective.num_samples=K` for another K.

vae-jax train --config=iwae_mnist_1layer --config.data.path=DIR

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist

NUM_STAGES = 8
STEPS_PER_PASS = 2_500  # 50,000 images, batches of 20


def get_config(arg: str = "") -> ConfigDict:
    config = vae_mnist.get_config()
    config.model.latent_dim = 50
    tanh = {"name": "mlp", "hidden": (200, 200), "activation": "tanh"}
    config.model.encoder, config.model.decoder = ConfigDict(tanh), ConfigDict(tanh)
    config.model.objective = ConfigDict({"name": "iwae", "num_samples": 50})
    train_as_published(config)
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config


def train_as_published(config: ConfigDict) -> None:
    """Set batches, optimiser and the eight stages."""
    config.data.batch_size = 20
    config.optimizer.update({"b1": 0.99, "b2": 0.999, "eps": 1e-4, "average_decay": 0.0})
    ends = [(3**stage - 1) // 2 * STEPS_PER_PASS for stage in range(1, NUM_STAGES + 1)]
    falls = {str(step): 0.1 ** (1 / 7) for step in ends[:-1]}
    config.optimizer.schedule = ConfigDict(
        {"name": "piecewise_constant_schedule", "init_value": 1.0, "boundaries_and_scales": falls}
    )
    config.train.update({"num_steps": ends[-1], "log_every": 500, "eval_every": 10_000, "checkpoint_every": 10_000})
