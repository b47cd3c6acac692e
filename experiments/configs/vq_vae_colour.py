"""VQ-VAE-2 on colour images 32x32x3: 16x16 codes below 8x8 codes, 256 each.  arXiv:1906.00446.

FILE is an .npz with `x_train` and `x_test`, uint8 [N, 32, 32, 3] (data set `arrays`).

vae-jax train --config=vq_vae_colour --config.data.path=FILE --workdir=runs/codes
vae-jax train --config=vq_vae_prior:colour --config.data.path=FILE --config.start_from=runs/codes

The first command trains encoder, decoder and codebooks; the second fits p(top) and p(bottom | top). `:smoke` trains on
scikit-learn's digits, which need no file.

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits, vae_mnist, vq_vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_mnist.get_config()
    config.family, config.model = "vq_vae", vq_vae_digits.get_config("two_levels").model
    model = config.model
    model.encoder.update({"channels": (48,), "num_blocks": 1})
    model.decoder.update({"channels": (48,), "num_blocks": 2})
    model.top.update({"channels": (64,), "num_blocks": 1})
    model.quantizer.update({"num_codes": 256, "dim": 32})
    model.likelihood = ConfigDict({"name": "discretized_logistic_mixture", "num_components": 5})
    model.prior.update({"channels": (48,) * 5, "first_kernel": 5, "hidden": (96,), "embedding": 32})
    model.top.prior.update({"channels": (48,) * 5, "first_kernel": 5, "hidden": (96,), "embedding": 32})
    config.data.update({"name": "arrays", "transform": "levels", "batch_size": 32})
    config.optimizer.update({"learning_rate": 1e-3, "average_decay": 0.999})
    config.learner.only = ("encoder", "decoder")
    vae_mnist.train_for(config, num_steps=6_000)
    config.train.update({"log_every": 100, "eval_every": 1_000, "checkpoint_every": 1_000, "preview_every": 0})
    config.eval.num_samples = 1
    if not vae_digits.is_smoke(arg):
        return config
    config.data.name = "digits"
    model.likelihood.num_levels = 17
    return vq_vae_digits.smoke(config)
