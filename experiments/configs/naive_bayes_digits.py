"""Naive Bayes on scikit-learn's digits, binarised: 64 coin flips whose biases depend on the class.

doi:10.1023/A:1007413511361.  vae-jax train --config=naive_bayes_digits

Result (seed 0): exact log p(x|c) -22.71 ± 0.26 nats on 300 test images whose class is given; one pass of 0.1 s.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits

BATCH_SIZE, NUM_BATCHES = 171, 7  # one pass over the 1197 training images


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.family = "naive_bayes"
    config.model = ConfigDict({"smoothing": 1.0})
    config.learner = ConfigDict({"name": "counting"})
    config.data.update({"context": {"name": "label"}, "batch_size": BATCH_SIZE, "transform": "binarize"})
    config.train.update({"num_steps": NUM_BATCHES, "log_every": 1, "eval_every": NUM_BATCHES, "checkpoint_every": 7})
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
