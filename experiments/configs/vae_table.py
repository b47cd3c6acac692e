"""VAE of a table with missing values: scikit-learn's breast_cancer, 30 real columns, 30 % of the entries removed.

arXiv:1812.02633.  vae-jax train --config=vae_table

For a file of your own, with a header, add --config.data.path=FILE.csv --config.data.files.hide=0.0

Result: not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.model.update(
        {
            "latent_dim": 8,
            "encoder": {"name": "mlp", "hidden": (64,), "activation": "relu"},
            "decoder": {"name": "mlp", "hidden": (64,), "activation": "relu"},
            # A head for each kind of column: "real", "binary", "count"; categories have a softmax.
            "likelihood": {"name": "columns", "real": {"name": "student_t", "scale": "shared"}},
        }
    )
    config.model.objective = ConfigDict({"name": "iwae", "num_samples": 10})
    config.data.update({"name": "table", "transform": "columns", "batch_size": 64})
    config.data.files.hide = 0.3  # the share of entries that is removed at random
    config.train.update({"num_steps": 4_000, "log_every": 200, "eval_every": 200, "checkpoint_every": 1_000})
    config.optimizer.schedule.decay_steps = 4_000
    config.eval.num_samples = 1_000
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
