"""VAE of counts, 200 genes in 2,000 simulated cells: a negative binomial whose means are shares of the total count.

arXiv:1709.02082, the size observed.  vae-jax train --config=vae_counts

Result (seed 0, two busy CPU cores): test IW-1000 log p(x) -453.03 ± 4.82 nats a cell, of the process -452.74; 4,000
steps in 26 s.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.model.update(
        {
            "latent_dim": 8,
            "encoder": {"name": "mlp", "hidden": (128,), "activation": "relu"},
            "decoder": {"name": "mlp", "hidden": (64,), "activation": "relu"},
            "likelihood": {"name": "negative_binomial", "library": True, "dispersion": "shared"},
        }
    )
    config.data.update({"name": "counts", "transform": "counts", "batch_size": 100})
    config.data.context.name = "library"  # the total count of an example
    config.optimizer.learning_rate = 5e-3
    config.optimizer.schedule.decay_steps = 4_000
    config.train.update({"num_steps": 4_000, "log_every": 200, "eval_every": 200, "checkpoint_every": 2_000})
    config.eval.num_samples = 1_000
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
