"""Importance-weighted auto-encoder as published, two stochastic layers: z_1 = 100, z_2 = 50, tanh, K = 50.

z_1 by 784-200-200-100, z_2 by 100-100-100-50, the decoders mirrored. arXiv:1509.00519 sec. 5.1: q(z_1|x) q(z_2|z_1),
p(z_2) p(z_1|z_2) p(x|z_1); trained as `iwae_mnist_1layer`.

vae-jax train --config=iwae_mnist_2layers --config.data.path=DIR

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import iwae_mnist_1layer, vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = iwae_mnist_1layer.get_config()
    config.family = "hierarchical_vae"
    model = config.model
    below = {"latent_dim": 100, "encoder": model.encoder, "decoder": model.decoder}
    tanh = {"name": "mlp", "hidden": (100, 100), "activation": "tanh"}
    above = {"latent_dim": 50, "encoder": dict(tanh), "decoder": dict(tanh)}
    config.model = ConfigDict(
        {
            "levels": {"z1": below, "z2": above},  # z1 next to x
            "inference": "bottom_up",  # q(z1|x) q(z2|z1), or "top_down": q(z2|x) q(z1|x, z2)
            "skip": False,  # True: x sees z2 as well
            "prior": model.prior,  # of z2
            "posterior": model.posterior,
            "conditional": {"name": "normal"},  # p(z1|z2)
            "likelihood": model.likelihood,
            "objective": model.objective,
            "compute_dtype": model.compute_dtype,
        }
    )
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
