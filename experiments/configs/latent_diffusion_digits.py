"""VAE of scikit-learn's digits, dynamically binarised, whose prior is a diffusion model.  arXiv:2106.05931.

vae-jax train --config=latent_diffusion_digits:KIND, KIND one of

* `together`, the default: encoder, decoder and prior are trained at once;
* `afterwards`: only the prior is trained, on the codes of `vae_digits` (--config.start_from=WORKDIR).

log p(z) has a bound only, so that log p(x) has one as well: there is no importance-weighted bound.

Result of `together` (seed 0, mean of 100 estimates, 300 test images): log p(x) at least -22.94 ± 0.25 nats, after
10,000 steps in 11 seconds on one core. `afterwards` is not yet measured.
"""

from ml_collections import ConfigDict

from vae_jax.configs import vae_digits

KINDS = ("together", "afterwards")


def get_config(arg: str = "") -> ConfigDict:
    kind, smoke = vae_digits.chosen(arg, KINDS, "together")
    config = vae_digits.get_config()
    config.model.prior = ConfigDict(
        {
            "name": "diffusion",
            "network": {"name": "time_mlp", "hidden": (128, 128)},
            "schedule": {"name": "learned", "gamma_min": -8.0, "gamma_max": 5.0},
            "parameterisation": "v",
            "sampler": {"name": "ancestral", "num_steps": 100},
        }
    )
    config.model.objective = ConfigDict({"name": "elbo_sampled_kl", "num_samples": 1, "beta": 1.0})
    if kind == "afterwards":
        config.learner.only = ("prior",)
    config.eval.num_samples = 100
    if smoke:
        config = vae_digits.smoke(config)
        config.model.prior.network.hidden = (16,)
        config.model.prior.sampler.num_steps = 3
    return config
