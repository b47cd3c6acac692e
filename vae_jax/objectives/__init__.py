"""Every equation a model can maximise, for one example: `(latent, params, key, x, context) -> value, terms`.

`value` is what is maximised, possibly re-weighted; `terms` are never re-weighted and always in nats:
`bound` (a lower bound of log p(x)), `distortion` = -E_q[log p(x|z)], `rate` = KL(q(z|x) || p(z)) or its estimate.
"""

from vae_jax.objectives.bounds import elbo, elbo_sampled_kl, iwae, stratified_elbo

__all__ = ["elbo", "elbo_sampled_kl", "iwae", "stratified_elbo"]
