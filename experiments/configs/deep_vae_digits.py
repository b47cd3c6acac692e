"""Deep hierarchical VAE of scikit-learn's digits, dynamically binarised: maps of latents of 4x4 and 2x2.

arXiv:2011.10650.  vae-jax train --config=deep_vae_digits

Result (seed 0, IW-500, 300 test images): log p(x) at least -22.38 ± 0.22 nats, after 2,000 steps in 28 seconds on one
core; ELBO -22.78. The levels have 3.92 nats at the top, 0.93 and, next to x, 0.00: that one has collapsed.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.family = "deep_vae"
    likelihood = config.model.likelihood
    config.model = ConfigDict(
        {
            "widths": (24, 32),  # channels at each resolution, the finest first
            "blocks": (1, 2),  # of latents at each resolution
            "latent_dim": 2,  # channels of the latents
            "encoder_blocks": 1,
            "activation": "elu",
            "cell": "gated",  # the residual blocks: gated (ladder VAE), bottleneck (VDVAE), separable (NVAE)
            "inference": "residual",  # q relative to p (NVAE); weighted: precisions add up (ladder VAE); plain: VDVAE
            "least_scale": 1e-2,
            "remat": False,
            "likelihood": likelihood,
            "objective": {"name": "elbo", "num_samples": 1, "beta": 1.0},
            "compute_dtype": "float32",
        }
    )
    vae_mnist.train_for(config, num_steps=2_000)
    config.train.update({"log_every": 100, "eval_every": 200, "checkpoint_every": 500, "preview_every": 0})
    config.optimizer.update({"learning_rate": 2e-3, "average_decay": 0.99, "clip_norm": 200.0})
    config.eval.num_samples = 500
    if vae_digits.is_smoke(arg):
        config.model.update({"widths": (4,), "blocks": (2,), "latent_dim": 1})
        config = vae_digits.smoke(config)
    return config
