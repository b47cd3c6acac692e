"""VAE with a normalising flow for a posterior on dynamically binarised MNIST: z = 64, four flows.

Sylvester flows of eight Householder reflections each, arXiv:1803.05649 sec. 6; with `flow_posterior_mnist:iaf`, inverse
autoregressive flows, arXiv:1606.04934, with masked networks 320 wide.

As published: Adamax, 5e-4, batches of 100, KL warm-up over 100 epochs, early stopping. The networks there are gated
convolutions 32-32-64-64-64; here those of `vae_mnist_8bit`, two strided convolutions and 256 dense units each way.

vae-jax train --config=flow_posterior_mnist --config.data.path=DIR

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist_8bit, vamp_mnist

POSTERIORS = {
    "sylvester": {"name": "sylvester_flow", "num_flows": 4, "num_reflections": 8},
    "iaf": {
        "name": "inverse_autoregressive_flow",
        "num_flows": 4,
        "hidden": (320,),
        "context_dim": 320,
        "activation": "elu",
    },
}


def get_config(arg: str = "") -> ConfigDict:
    name, smoke = vae_digits.chosen(arg, POSTERIORS, "sylvester")
    config, images = vamp_mnist.get_config(), vae_mnist_8bit.get_config()
    config.model.latent_dim = 64
    config.model.encoder, config.model.decoder = images.model.encoder, images.model.decoder
    config.model.prior = images.model.prior
    config.model.posterior = ConfigDict(POSTERIORS[name])
    config.optimizer.name = "adamax"
    return vae_digits.smoke(config) if smoke else config
