"""Factor analysis on scikit-learn's digits, their grey levels dequantised: 200 passes of EM.

doi:10.1007/BF02293851.  vae-jax train --config=factor_analysis_digits

Probabilistic PCA, doi:10.1111/1467-9868.00196, in closed form:
--config.model.noise=isotropic --config.model.fit=closed_form --config.learner.name=counting --config.train.num_steps=60

Result (seed 0, one busy core, 23 s): exact log-density of 300 test images 48.27 ± 0.79 nats, 2.999 bits/dim; of
probabilistic PCA of as many dimensions 26.27 ± 0.67, 3.495 bits/dim: one variance for all pixels suits no border.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits


def get_config(arg: str = "") -> ConfigDict:
    config = vae_digits.get_config()
    config.family = "factor_analysis"
    config.model = ConfigDict(
        {
            "latent_dim": 16,
            "noise": "diagonal",  # or "isotropic": probabilistic PCA
            "fit": "em",  # with the learner "em", or "closed_form" with "counting" (only isotropic noise)
            "min_variance": 1e-4,  # of a pixel; that of the dequantisation of one that never changes is 3e-4
        }
    )
    config.data.update({"transform": "dequantize", "batch_size": 399})
    config.learner = ConfigDict({"name": "em"})
    config.train.update({"num_steps": 600, "log_every": 30, "eval_every": 150, "checkpoint_every": 300})
    return vae_digits.smoke(config) if vae_digits.is_smoke(arg) else config
