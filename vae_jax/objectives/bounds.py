"""Lower bounds of log p(x), for one example."""

import jax
import jax.numpy as jnp

from vae_jax.distributions import Mixture, kl_divergence
from vae_jax.numerics import log_mean_exp


def elbo(latent, params, key, x, context=None, *, beta=1.0, num_samples=1):
    """E_q[log p(x|z)] - β KL(q(z|x) || p(z)), L = `num_samples` reparameterised samples, the KL in closed form.

    arXiv:1312.6114 eq. (3) and (7); β ≠ 1 is the β-VAE, openreview:Sy2fzU9gl eq. (4), and re-weights the value alone.
    Published code often takes means over pixels: a hidden β. Raises `TypeError` where the KL has no closed form.
    """
    q = latent.posterior(params, x, context)
    log_lik = jnp.mean(
        jax.vmap(lambda k: latent.likelihood(params, q.sample(k), context).log_prob(x))(_split(key, num_samples))
    )
    kl = kl_divergence(q, latent.prior(params, context))
    return log_lik - beta * kl, {"bound": log_lik - kl, "distortion": -log_lik, "rate": kl}


def elbo_sampled_kl(latent, params, key, x, context=None, *, beta=1.0, num_samples=1):
    """E_q[log p(x|z) + β (log p(z) - log q(z|x))], every term from samples: for pairs (q, p) without a closed-form KL.

    arXiv:1312.6114 eq. (6).
    """
    log_lik, log_ratio = jax.vmap(_log_terms(latent, params, x, context))(_split(key, num_samples))
    log_lik, rate = jnp.mean(log_lik), -jnp.mean(log_ratio)
    return log_lik - beta * rate, {"bound": log_lik - rate, "distortion": -log_lik, "rate": rate}


def iwae(latent, params, key, x, context=None, *, num_samples=50):
    """log (1/K) Σ_k w_k,  w_k = p(x, z_k) / q(z_k|x),  K = `num_samples`.  arXiv:1509.00519 eq. (8).

    `rate` and `distortion` are those of the ELBO of the same samples: bound ≥ -(rate + distortion).
    """
    log_lik, log_ratio = jax.vmap(_log_terms(latent, params, x, context))(_split(key, num_samples))
    bound = log_mean_exp(log_lik + log_ratio)
    return bound, {"bound": bound, "distortion": -jnp.mean(log_lik), "rate": -jnp.mean(log_ratio)}


def stratified_elbo(latent, params, key, x, context=None, *, beta=1.0, num_samples=1):
    """Σ_k π_k(x) E_{q_k}[log p(x|z) + β (log p(z) - log q(z|x))] for a mixture q = Σ_k π_k q_k, `num_samples` of each
    component: the ELBO again, exact in the weights, so that its gradient reaches them and is unbiased.

    arXiv:2003.01687, "SELBO". K decoder passes a sample. For a posterior that is no mixture it is `elbo_sampled_kl`.
    """
    q, prior = latent.posterior(params, x, context), latent.prior(params, context)
    if not isinstance(q, Mixture):
        return elbo_sampled_kl(latent, params, key, x, context, beta=beta, num_samples=num_samples)

    def of_component(component, key):
        def terms(key):
            z = component.sample(key)
            return latent.likelihood(params, z, context).log_prob(x), prior.log_prob(z) - q.log_prob(z)

        return jax.tree.map(jnp.mean, jax.vmap(terms)(_split(key, num_samples)))

    log_weights = q.log_weights()
    log_lik, log_ratio = jax.vmap(of_component)(q.components, jax.random.split(key, log_weights.size))
    log_lik, rate = jnp.exp(log_weights) @ log_lik, -(jnp.exp(log_weights) @ log_ratio)
    return log_lik - beta * rate, {"bound": log_lik - rate, "distortion": -log_lik, "rate": rate}


def log_weight(latent, params, key, x, context=None):
    """log w = log p(x|z) + log p(z) - log q(z|x) of one z ~ q(z|x): a one-sample unbiased estimate of the ELBO."""
    log_lik, log_ratio = _log_terms(latent, params, x, context)(key)
    return log_lik + log_ratio


def _log_terms(latent, params, x, context):
    """key -> log p(x|z), log p(z) - log q(z|x) of one z ~ q(z|x); q and p(z) are computed once for all keys."""
    q, prior = latent.posterior(params, x, context), latent.prior(params, context)

    def terms(key):
        z, log_q = _draw(q, key)
        return latent.likelihood(params, z, context).log_prob(x), prior.log_prob(z) - log_q

    return terms


def _draw(q, key):
    """z ~ q and log q(z): from the noise itself where `q` knows how, which rounding cannot spoil."""
    if hasattr(q, "sample_and_log_prob"):
        return q.sample_and_log_prob(key)
    z = q.sample(key)
    return z, q.log_prob(z)


def _split(key, num_samples):
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    return jax.random.split(key, num_samples)
