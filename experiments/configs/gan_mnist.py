"""R3GAN with residual networks on MNIST, 256 grey levels: relativistic, with R1 and R2.  arXiv:2501.05441.

vae-jax train --config=gan_mnist[:KIND] --config.data.path=DIR, KIND one of

* `plain`, the default;
* `conditional`: both players see the class, the critic by projection (arXiv:1802.05637);
* `fashion`: Fashion-MNIST;
* `emoji`: 32x32x3 colour images; the path is a file as in `vae_colour`.

The critic has no normalisation, and each player has an optimiser. A GAN has draws and no log p(x).

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import gan_digits, vae_colour, vae_digits

KINDS = {"plain": "mnist", "conditional": "mnist", "fashion": "fashion_mnist", "emoji": "arrays"}


def get_config(arg: str = "") -> ConfigDict:
    kind, small = vae_digits.chosen(arg, KINDS, "plain")
    config = vae_digits.get_config()
    config.data.name = KINDS[kind]
    config.data.transform = "levels"
    if kind == "emoji":
        vae_colour.use_data(config, kind)
    if kind == "conditional":
        config.data.context = ConfigDict({"name": "label"})
    channels = (32, 48, 64) if kind == "emoji" else (32, 64)
    gan_digits.of_gan(config, channels=channels, latent_dim=64, num_steps=30_000)
    gan_digits.strided(config)
    config.model.update({"r1": 1.0, "r2": 1.0})
    return gan_digits.smoke(config) if small else config
