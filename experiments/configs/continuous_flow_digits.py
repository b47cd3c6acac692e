"""Continuous flow on scikit-learn's digits, 8x8, 17 grey levels, trained by flow matching.  arXiv:2210.02747.

vae-jax train --config=continuous_flow_digits:KIND, KIND one of

* `unet`, the default: a U-Net with self-attention;
* `mlp`: a dense network;
* `label`: the U-Net, conditional on the digit.

The number is a bound of log p(x) of the levels: the mean over draws of the dequantisation. The trace of the equation is
exact, since there are 64 pixels. Its measurement requires the extra `ode`.

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist

KINDS = ("unet", "mlp", "label")


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, KINDS, "unet")
    config = vae_digits.get_config()
    config.family = "continuous_flow"
    network = {"name": "unet", "width": 32, "multipliers": (1, 2), "num_blocks": 1, "attention": 1, "dropout": 0.0}
    if kind == "mlp":
        network = {"name": "time_mlp", "hidden": (256, 256, 256), "dropout": 0.0}
    config.model = ConfigDict(
        {
            "network": network,
            "trace": "auto",  # of the Jacobian: exact, hutchinson (an estimate), auto (exact up to 64 dimensions)
            "num_probes": 1,  # of the estimate
            "rtol": 1e-5,  # errors of a step of the solver
            "atol": 1e-5,
            "times": "uniform",  # of training, or logit_normal
            "num_steps": 25,  # of a draw
            "compute_dtype": "float32",
        }
    )
    config.data.transform = "levels"
    config.data.batch_size = 128
    if kind == "label":
        config.data.context.name = "label"
    vae_mnist.train_for(config, num_steps=10_000)
    config.train.update({"log_every": 100, "eval_every": 500, "checkpoint_every": 500, "preview_every": 0})
    config.optimizer.update({"learning_rate": 1e-3, "clip_norm": 1.0, "average_decay": 0.999})
    config.eval.num_samples = 8
    if smoke:
        shrink(config)
    return vae_digits.smoke(config) if smoke else config


def shrink(config):
    """Make the network and the draws of a smoke test small."""
    if config.model.network.name == "unet":
        config.model.network.update({"width": 4, "multipliers": (1,)})
    config.model.update({"rtol": 0.1, "atol": 0.1, "num_steps": 2})
