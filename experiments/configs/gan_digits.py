"""GANs on scikit-learn's digits, 8x8, dequantised: four games with the same networks.

vae-jax train --config=gan_digits[:KIND], KIND one of

* `relativistic`, the default, with R1 and R2: R3GAN, arXiv:2501.05441;
* `nonsaturating`, arXiv:1406.2661, and `hinge`, arXiv:1802.05957, both with R1, arXiv:1801.04406;
* `wasserstein`, arXiv:1704.00028: five steps of the critic for each of the generator, gradient penalty 10.

A GAN has draws and no log p(x). `python -m experiments.benchmarks.gan_likelihood` estimates it under Gaussian noise.

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits

KINDS = {
    "relativistic": {"loss": "relativistic", "r1": 0.3, "r2": 0.3},
    "nonsaturating": {"loss": "nonsaturating", "r1": 0.3},
    "hinge": {"loss": "hinge", "r1": 0.3},
    "wasserstein": {"loss": "wasserstein", "gradient_penalty": 10.0},
}


def get_config(arg: str = "") -> ConfigDict:
    kind, small = vae_digits.chosen(arg, KINDS, "relativistic")
    config = vae_digits.get_config()
    config.data.transform = "dequantize"
    of_gan(config, channels=(), latent_dim=16, num_steps=10_000)
    config.model.generator = config.model.critic = ConfigDict(
        {"name": "mlp", "hidden": (128, 128), "activation": "leaky_relu"}
    )
    config.model.update(KINDS[kind])
    if kind == "wasserstein":
        config.learner = ConfigDict(
            {"name": "alternating", "encoder": ("critic",), "encoder_steps": 5, "decoder_steps": 1, "only": ()}
        )
        config.optimizer.default.b2 = config.optimizer.critic.b2 = 0.9
    return smoke(config) if small else config


def of_gan(config: ConfigDict, *, channels, latent_dim, num_steps) -> None:
    """Turn the config of a VAE into that of a GAN with residual networks; `channels` are those of the critic."""
    config.family = "gan"
    config.model = ConfigDict(
        {
            "latent_dim": latent_dim,
            "generator": {"name": "generator", "channels": channels[::-1], "num_blocks": 1, "resampling": "bilinear"},
            "critic": {"name": "critic", "channels": channels, "num_blocks": 1, "hidden": 64},
            "loss": "relativistic",  # or nonsaturating, hinge, wasserstein
            "r1": 0.0,  # γ of γ/2 |∇D(x)|² at real x
            "r2": 0.0,  # γ at draws
            "gradient_penalty": 0.0,  # of WGAN-GP
            "penalty_every": 1,  # steps between two steps with penalties
            "compute_dtype": "float32",
        }
    )
    adam = {"name": "adam", "learning_rate": 5e-4, "b1": 0.0, "b2": 0.99}
    adam["schedule"] = {"name": "cosine_decay_schedule", "init_value": 1.0, "decay_steps": num_steps, "alpha": 0.1}
    config.optimizer = ConfigDict({"default": adam, "critic": dict(adam), "average_decay": 0.999})
    log = {"log_every": 500, "eval_every": 2_000, "checkpoint_every": 2_000, "preview_every": 2_000}
    config.train.update({"num_steps": num_steps, **log})


def strided(config: ConfigDict) -> None:
    """Give the players strided convolutions without residual blocks: a quarter of the arithmetic, for a CPU."""
    for player, name, hidden in (("generator", "conv_decoder", ()), ("critic", "conv_encoder", (64,))):
        channels = config.model[player].channels
        config.model[player] = ConfigDict(
            {"name": name, "channels": channels, "hidden": hidden, "activation": "leaky_relu"}
        )
    config.model.penalty_every = 4


def smoke(config: ConfigDict) -> ConfigDict:
    """Return the same game between tiny networks."""
    for player in (config.model.generator, config.model.critic):
        for widths in {"hidden", "channels"}.intersection(player):
            small = 4 if widths == "channels" else 16
            player[widths] = tuple(small for _ in player[widths]) if isinstance(player[widths], tuple) else small
    return vae_digits.smoke(config)
