"""VAE of a table with missing values: scikit-learn's breast_cancer, 30 real columns, 30 % of the entries removed.

arXiv:1812.02633.  vae-jax train --config=vae_table

For a file of your own, with a header, add --config.data.path=FILE.csv --config.data.files.hide=0.0

Result (seed 0, two busy CPU cores): log p(x_obs) at least -8.54 ± 1.25 nats a test row, IW-1000; 3,000 steps in 51 s.
Removed entries: mean log-score 0.04 nats, of IterativeImputer -0.12 (experiments/RESULTS.md, three seeds).
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.model.update(
        {
            "latent_dim": 8,
            "encoder": {"name": "mlp", "hidden": (128, 128), "activation": "relu"},
            "decoder": {"name": "mlp", "hidden": (64,), "activation": "gelu"},
            "posterior": {"name": "multivariate_normal"},  # what is missing in x leaves dependent codes
            # A head for each kind of column: "real", "binary", "count"; categories have a softmax.
            "likelihood": {"name": "columns", "real": {"name": "student_t"}},
        }
    )
    config.model.objective = ConfigDict({"name": "iwae", "num_samples": 20})
    config.data.update({"name": "table", "transform": "columns", "batch_size": 64})
    config.data.files.hide = 0.3  # the share of entries that is removed at random
    config.optimizer.update({"name": "adamw", "weight_decay": 0.3})  # an encoder of few rows learns them by heart
    config.optimizer.schedule.decay_steps = 4_000
    config.train.update({"num_steps": 3_000, "log_every": 200, "eval_every": 200, "checkpoint_every": 1_000})
    config.eval.num_samples = 1_000
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
