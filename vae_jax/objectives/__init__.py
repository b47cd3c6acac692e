"""Every equation a model can maximise, for one example: `(latent, params, key, x, context) -> value, terms`.

`value` is what is maximised, possibly re-weighted, its gradient that of training (`estimators`); `terms` are never
re-weighted and always in nats: `bound` (a lower bound of log p(x)), `distortion` = -E_q[log p(x|z)], `rate` =
KL(q(z|x) || p(z)) or its estimate, and what an equation adds under a name of its own.
"""

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
    "capacity",
    "ciwae",
    "dreg",
    "elbo",
    "elbo_sampled_kl",
    "free_bits",
    "gumbel_softmax",
    "iwae",
    "miwae",
    "nvil",
    "piwae",
    "renyi",
    "rloo",
    "score_function",
    "sticking_the_landing",
    "stratified_elbo",
    "vimco",
]
