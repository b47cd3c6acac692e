"""VAE with the VampPrior on dynamically binarised MNIST: gated dense 300-300 both ways, z = 40, K = 500 pseudo-inputs.

arXiv:1705.07120 sec. 5: batches of 100, learning rate 5e-4, KL warm-up over 100 epochs, early stopping after 50 epochs
without a better validation bound (here 120, so that the warm-up cannot end the run).

vae-jax train --config=vamp_mnist --config.data.path=DIR

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits

STEPS_PER_EPOCH = 500  # 50,000 images, batches of 100


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.data.name = "mnist"
    config.data.batch_size = 100
    config.model.latent_dim = 40
    gated = {"name": "mlp", "hidden": (300, 300), "activation": "identity", "gated": True}
    config.model.encoder, config.model.decoder = ConfigDict(gated), ConfigDict(gated)
    config.model.prior = ConfigDict({"name": "vamp", "num_components": 500, "noise": 0.1})
    warm_up = {"name": "linear", "start": 0.0, "end": 1.0, "steps": 100 * STEPS_PER_EPOCH}
    config.model.objective = ConfigDict({"name": "elbo_sampled_kl", "num_samples": 1, "beta": warm_up})
    config.optimizer.learning_rate = 5e-4
    config.optimizer.schedule = ConfigDict({"name": "constant_schedule", "value": 1.0})
    every = 4 * STEPS_PER_EPOCH
    config.train.update(
        {"num_steps": 2_000 * STEPS_PER_EPOCH, "log_every": 500, "eval_every": every, "checkpoint_every": every}
    )
    config.train.patience = 30  # of 4 epochs each
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
