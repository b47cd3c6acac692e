"""200 binary latents on dynamically binarised MNIST: a learned Bernoulli prior, one affine map each way, 784-200-784.

arXiv:1402.0030, arXiv:1602.06725; the layer of arXiv:1611.01144's comparison (there on one fixed binarisation). The
estimator is `rloo`; `--config.model.objective.name=vimco` and `score_function` take the same options, and
`discrete_mnist:nvil` and `discrete_mnist:gumbel_softmax` have other options.

vae-jax train --config=discrete_mnist --config.data.path=DIR

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist

OBJECTIVES = {
    "rloo": {"num_samples": 4},
    "nvil": {
        "num_samples": 4,
        "baseline": {"name": "mlp", "hidden": (100,), "activation": "tanh"},
        "running_mean": 0.8,  # its decay
    },
    "gumbel_softmax": {"num_samples": 4, "temperature": 0.5, "hard": False},
}


def get_config(arg: str = "") -> ConfigDict:
    name, smoke = vae_digits.chosen(arg, OBJECTIVES, "rloo")
    config = vae_mnist.get_config()
    config.data.batch_size = 100
    config.model.latent_dim = 200
    config.model.encoder.hidden = config.model.decoder.hidden = ()
    config.model.posterior.name = "bernoulli"
    config.model.prior = ConfigDict({"name": "bernoulli", "learned": True})
    config.model.objective = ConfigDict({"name": name, **OBJECTIVES[name]})
    vae_mnist.train_for(config, num_steps=100_000)
    return vae_digits.smoke(config) if smoke else config
