"""The VAE of `vae_digits` with a game in place of the rate: a critic tells codes from draws of p(z).  arXiv:1511.05644.

vae-jax train --config=aae_digits

The encoder is Gaussian, so IW-K is a bound of log p(x) as for every VAE; `objectives.adversarial_autoencoder`. The
critic is the part "objective" of the parameters, with an optimiser of its own.

Result (seed 0, 300 test images, one busy core): test IW-5000 log p(x) -51.60 ± 0.36 nats, 10 effective samples;
distortion 13.91, rate 42.09: the codes cost nothing in training. 10,000 steps in 9 s.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits

WEIGHT = 10.0  # nats of the reconstruction for a nat of the game


def get_config(arg: str = "") -> ConfigDict:
    small = vae_digits.is_smoke(arg)
    config = vae_digits.get_config()
    critic = {"name": "mlp", "hidden": (16,) if small else (128, 128), "activation": "leaky_relu"}
    config.model.objective = ConfigDict({"name": "adversarial_autoencoder", "weight": WEIGHT, "critic": critic})
    with_critic(config)
    return vae_digits.smoke(config) if small else config


def with_critic(config: ConfigDict) -> None:
    """Give the critic, the part "objective", Adam without momentum; the encoder and the decoder keep theirs."""
    adam = {name: config.optimizer[name] for name in ("name", "learning_rate", "schedule")}
    critic = {**adam, "learning_rate": 1e-3, "b1": 0.0, "b2": 0.99}
    config.optimizer = ConfigDict({"default": adam, "objective": critic, "average_decay": 0.999})
