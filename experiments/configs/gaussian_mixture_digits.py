"""Mixture of Gaussians with full covariances on the grey levels of scikit-learn's digits, by expectation maximisation.

Pixels are dequantised, (level + u) / 17, and so have a density; no variance can then be below 1 / (12 x 17²) = 2.9e-4,
that of u itself. Gaussian mixtures of images: arXiv:1805.12462.

vae-jax train --config=gaussian_mixture_digits

Result (seed 0): exact test log p(x) 52.9 ± 1.2 nats on 300 images, 2.90 bits/dim of the levels at most; on the training
images 67.6: full covariances of 64 pixels are many for 120 images each. 60 passes in 2 s.
"""

from ml_collections import ConfigDict

from vae_jax.configs import bernoulli_mixture_digits, vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = bernoulli_mixture_digits.get_config()
    config.model.num_components = 10
    # covariance: "spherical", "diagonal", "full" or "tied"; floor: of the variances, in units of pixels²
    config.model.components = ConfigDict({"name": "gaussian", "covariance": "full", "floor": 2e-3})
    config.data.transform = "dequantize"
    return bernoulli_mixture_digits.smoke(config) if vae_digits.is_smoke(arg) else config
