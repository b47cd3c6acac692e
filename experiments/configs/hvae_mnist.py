"""Two-level hierarchical VAE on dynamically binarised MNIST: gated dense 300-300, z_1 = z_2 = 40, p(z_2) = N(0, I).

arXiv:1705.07120 sec. 4: q(z_2|x) q(z_1|x, z_2), p(z_2) p(z_1|z_2) p(x|z_1, z_2), where a network of two inputs has a
layer of 300 for each, then one for both; trained as `vamp_mnist`. With `hvae_mnist:vamp` (or `:vamp,smoke`) the
prior of z_2 is the VampPrior of 500 pseudo-inputs.

vae-jax train --config=hvae_mnist --config.data.path=DIR
vae-jax train --config=hvae_mnist:vamp --config.data.path=DIR

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import iwae_mnist_2layers, vae_digits, vamp_mnist


def get_config(arg: str = "") -> ConfigDict:
    prior, smoke = vae_digits.chosen(arg, ("standard", "vamp"), "standard")
    config, two_levels = vamp_mnist.get_config(), iwae_mnist_2layers.get_config()
    config.family = two_levels.family
    gated = {"name": "mlp", "hidden": (300, 300), "activation": "identity", "gated": True}
    of_two_inputs = {**gated, "branches": (300,), "hidden": (300,)}
    levels = {
        "z1": {"latent_dim": 40, "encoder": dict(of_two_inputs), "decoder": dict(of_two_inputs)},
        "z2": {"latent_dim": 40, "encoder": dict(gated), "decoder": dict(gated)},
    }
    prior, objective = config.model.prior if prior == "vamp" else {"name": "standard"}, config.model.objective
    config.model = two_levels.model
    config.model.levels = ConfigDict(levels)
    config.model.update({"inference": "top_down", "skip": True})
    config.model.prior, config.model.objective = ConfigDict(prior), objective
    return vae_digits.smoke(config) if smoke else config
