"""Distributions are values: frozen pytrees with `sample(key)`, `log_prob(x)` (a scalar, nats) and `mean()`.

A reparameterised one may have `sample_and_log_prob(key)` too, which is exact where log_prob(sample(key)) would round.
"""

from vae_jax.distributions.discrete import Bernoulli, Categorical, OneHot
from vae_jax.distributions.kl import has_closed_form, kl_divergence, kl_per_dim
from vae_jax.distributions.normal import MultivariateNormal, Normal
from vae_jax.distributions.pixels import DiscretizedLogisticMixture
from vae_jax.distributions.relaxed import RelaxedBernoulli, RelaxedOneHot, relax
from vae_jax.distributions.support import check_support

__all__ = [
    "Bernoulli",
    "Categorical",
    "DiscretizedLogisticMixture",
    "MultivariateNormal",
    "Normal",
    "OneHot",
    "RelaxedBernoulli",
    "RelaxedOneHot",
    "check_support",
    "has_closed_form",
    "kl_divergence",
    "kl_per_dim",
    "relax",
]
