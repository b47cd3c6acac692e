"""Deep hierarchical VAE of 28x28 images: latents of 14x14 and 7x7 pixels, dynamically binarised.

arXiv:2011.10650, with q of the latents relative to p as in arXiv:2007.03898.

vae-jax train --config=deep_vae_mnist:KIND --config.data.path=DIR

KIND is `mnist`, the default, or `fashion`, which is Fashion-MNIST. Protocol as `vae_mnist`.

Result of `mnist` (seed 0, 25,000 steps of 32, 16 epochs, 28 minutes of one core): IW-50 log p(x) -83.33 ± 0.47 nats of
the first 2,000 test images, ELBO -86.83; 5 effective samples of 50, so that log p(x) is higher. The ELBO of all 10,000
validation images is -88.21. The levels of 7x7 pixels have 11.7, 8.3 and 12.9 nats. The one of 14x14 pixels, next to x,
has collapsed: 0.0 nats.
"""

from ml_collections import ConfigDict

from vae_jax.configs import deep_vae_digits, vae_digits, vae_mnist

DATA = {"mnist": "mnist", "fashion": "fashion_mnist"}


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, DATA, "mnist")
    config = deep_vae_digits.get_config("smoke" if smoke else "")
    config.data.name = DATA[kind]
    if smoke:
        return config
    config.data.batch_size = 32
    config.model.update({"widths": (16, 32), "blocks": (1, 3), "latent_dim": 6})
    vae_mnist.train_for(config, num_steps=25_000)
    config.train.update({"log_every": 500, "eval_every": 5_000, "checkpoint_every": 1_000, "preview_every": 0})
    config.optimizer.update({"learning_rate": 2e-3, "average_decay": 0.999, "clip_norm": 200.0})
    config.eval.num_samples = 50  # a pass costs a third of a step: thousands take hours
    return config
