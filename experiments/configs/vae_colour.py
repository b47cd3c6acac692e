"""VAE on colour images of 32x32 pixels, 256 levels, whose channels depend on each other.  arXiv:1312.6114.

vae-jax train --config=vae_colour:KIND --config.data.path=FILE

KIND, one of the data sets, or a data set and `independent`:

* `emoji`, the default: FILE has `x` [N, 32, 32, 3] and `is_test` [N], which is True for test images;
* `patches`: pieces of photographs, FILE has `x_train` and `x_test`;
* `emoji_independent`, `patches_independent`: logistics whose channels do not depend on each other.

The likelihood is a mixture of logistics with means that are linear in the earlier channels, arXiv:1701.05517 eq. (3).

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist

KINDS = ("emoji", "patches", "emoji_independent", "patches_independent")


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, KINDS, "emoji")
    config = vae_mnist.get_config()
    use_data(config, kind.partition("_")[0])
    config.model.latent_dim = 64
    network = {"channels": (32, 64, 128), "hidden": (256,), "activation": "relu"}
    config.model.encoder = ConfigDict({"name": "conv_encoder", **network})
    config.model.decoder = ConfigDict({"name": "conv_decoder", **network, "channels": (128, 64, 32)})
    channels = "independent" if kind.endswith("_independent") else "linear"
    logistics = {"name": "discretized_logistic_mixture", "num_components": 5, "channels": channels}
    config.model.likelihood = ConfigDict(logistics)
    config.data.batch_size = 64
    vae_mnist.train_for(config, num_steps=6_000)
    config.model.objective.beta.steps = 1_000
    config.eval.num_samples = 100
    return vae_digits.smoke(config) if smoke else config


def use_data(config: ConfigDict, kind: str) -> None:
    """Let `config` read the data set `kind`, "emoji" or "patches", as levels."""
    config.data.update({"name": "arrays", "transform": "levels", "max_value": 255})
    if kind == "emoji":
        config.data.files.update({"label": "", "split": "is_test"})
