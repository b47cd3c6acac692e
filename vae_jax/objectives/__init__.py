"""Every equation that a model can maximise.

An equation of one example is `(latent, params, key, x, context) -> value, terms`. The examples of a batch depend on one
another in `disentangling`: there it is `(latent, params, key, batch) -> value [B], terms`.

`latent` is a `core.Latent`, `params` are its parameters, `key` is the randomness, and `context` may be None.
`num_samples` is the number of draws of z, and `beta` weighs the rate. Other options are explained in each equation.

`value` is maximised. It may be re-weighted, and its gradient may be an estimator's (`estimators`). `terms` are never
re-weighted and always in nats: `bound` (a lower bound of log p(x)), `distortion` = -E_q[log p(x|z)], `rate` =
KL(q(z|x) || p(z)) or its estimate, and any further terms that the equation names.
"""

from vae_jax.objectives.adversarial import adversarial_autoencoder, vae_gan
from vae_jax.objectives.bounds import (
    capacity,
    ciwae,
    elbo,
    elbo_sampled_kl,
    free_bits,
    iwae,
    miwae,
    piwae,
    renyi,
    stratified_elbo,
)
from vae_jax.objectives.disentangling import beta_tcvae, dip_vae, factor_vae, info_vae, wae
from vae_jax.objectives.estimators import (
    dreg,
    gumbel_softmax,
    nvil,
    rloo,
    score_function,
    sticking_the_landing,
    vimco,
)

__all__ = [
    "adversarial_autoencoder",
    "beta_tcvae",
    "capacity",
    "ciwae",
    "dip_vae",
    "dreg",
    "elbo",
    "elbo_sampled_kl",
    "factor_vae",
    "free_bits",
    "gumbel_softmax",
    "info_vae",
    "iwae",
    "miwae",
    "nvil",
    "piwae",
    "renyi",
    "rloo",
    "score_function",
    "sticking_the_landing",
    "stratified_elbo",
    "vae_gan",
    "vimco",
    "wae",
]
