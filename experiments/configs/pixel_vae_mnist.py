"""PixelVAE on dynamically binarised MNIST: two gated layers of pixels under a code of 32.  arXiv:1611.05013.

Protocol as `vae_mnist`.

vae-jax train --config=pixel_vae_mnist --config.data.path=DIR

Result (seed 0): IW-100 log p(x) -87.36 ± 0.22 nats, 10,000 test images, 37 effective samples; ELBO -88.09, of which
3.64 are rate, 3 of 32 units active. The code holds the digit and its slant; two layers see few pixels, and many strokes
of the draws do not meet. 4,000 steps, five passes, and the bound in 26 minutes of CPU time.
"""

from ml_collections import ConfigDict

from vae_jax.configs import pixel_vae_digits, vae_digits, vae_mnist


def get_config(arg: str = "") -> ConfigDict:
    config, likelihood = vae_mnist.get_config(), pixel_vae_digits.get_config().model.likelihood
    likelihood.update({"features": 8, "channels": (16,) * 2})
    likelihood.pixel = ConfigDict({"name": "bernoulli"})
    config.model.latent_dim, config.model.likelihood = 32, likelihood
    config.data.batch_size = 64
    config.optimizer.learning_rate = 2e-3
    vae_mnist.train_for(config, num_steps=4_000)
    config.model.objective.beta.steps = 1_000
    config.eval.num_samples = 100
    config.train.preview_every = 0  # a draw takes a pass for every pixel
    return pixel_vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
