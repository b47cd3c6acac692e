"""Lower bounds of log p(x), for one example."""

import jax
import jax.numpy as jnp

from vae_jax.distributions import Mixture, draw, has_closed_form, kl_divergence, kl_per_dim
from vae_jax.numerics import log_mean_exp, straight_through


def elbo(latent, params, key, x, context=None, *, beta=1.0, num_samples=1):
    """E_q[log p(x|z)] - β KL(q(z|x) || p(z)), L = `num_samples` reparameterised samples, the KL in closed form.

    arXiv:1312.6114 eq. (3) and (7); β ≠ 1 is the β-VAE, openreview:Sy2fzU9gl eq. (4), and re-weights the value alone.
    Published code often takes means over pixels: a hidden β. Raises `TypeError` where the KL has no closed form.
    Through a discrete z no gradient flows: train such a q by one of `estimators`.
    """
    q = latent.posterior(params, x, context)
    log_lik = _mean_log_lik(latent, params, q, key, x, context, num_samples)
    kl = kl_divergence(q, latent.prior(params, context))
    return log_lik - beta * kl, {"bound": log_lik - kl, "distortion": -log_lik, "rate": kl}


def elbo_sampled_kl(latent, params, key, x, context=None, *, beta=1.0, num_samples=1):
    """E_q[log p(x|z) + β (log p(z) - log q(z|x))], every term from samples: for pairs (q, p) without a closed-form KL.

    arXiv:1312.6114 eq. (6).
    """
    return sampled_elbo(*_all_log_terms(latent, params, key, x, context, num_samples), beta)


def plain_elbo(latent, params, key, x, context=None, *, num_samples):
    """The ELBO, its rate in closed form where there is one: `elbo`, else `elbo_sampled_kl`."""
    closed = has_closed_form(latent.posterior(params, x, context), latent.prior(params, context))
    return (elbo if closed else elbo_sampled_kl)(latent, params, key, x, context, num_samples=num_samples)


def free_bits(latent, params, key, x, context=None, *, free_nats, num_samples=1):
    """E_q[log p(x|z)] - Σ_d max(λ, KL_d), λ = `free_nats` a dimension: a KL below λ costs nothing more and gets no
    gradient.  arXiv:1606.04934 app. C.8, which takes the maximum of the batch's mean KL; here each example has its own.

    `free_rate` is the sum of maxima; `bound` and `rate` are the ELBO's. Raises `TypeError` where q and p(z) do not
    factorise alike.
    """
    q, prior = latent.posterior(params, x, context), latent.prior(params, context)
    log_lik = _mean_log_lik(latent, params, q, key, x, context, num_samples)
    kl = kl_divergence(q, prior)
    free = jnp.sum(jnp.maximum(kl_per_dim(q, prior), free_nats))
    return log_lik - free, {"bound": log_lik - kl, "distortion": -log_lik, "rate": kl, "free_rate": free}


def capacity(latent, params, key, x, context=None, *, gamma, nats, num_samples=1):
    """E_q[log p(x|z)] - γ |KL(q(z|x) || p(z)) - C|, C = `nats`, often a schedule.  arXiv:1804.03599 eq. (8).

    `excess` is KL - C; `bound` and `rate` are the ELBO's.
    """
    value, terms = elbo(latent, params, key, x, context, beta=0.0, num_samples=num_samples)
    excess = terms["rate"] - nats
    return value - gamma * jnp.abs(excess), {**terms, "excess": excess}


def iwae(latent, params, key, x, context=None, *, num_samples=50):
    """log (1/K) Σ_k w_k,  w_k = p(x, z_k) / q(z_k|x),  K = `num_samples`.  arXiv:1509.00519 eq. (8).

    `rate` and `distortion` are those of the ELBO of the same samples: bound ≥ -(rate + distortion).
    """
    return sampled_iwae(*_all_log_terms(latent, params, key, x, context, num_samples))


def renyi(latent, params, key, x, context=None, *, alpha, num_samples=50):
    """The Rényi bound (1 / (1-α)) log (1/K) Σ_k w_k^(1-α).  arXiv:1602.02311 sec. 4.

    It falls as α grows: α = 0 is IWAE, α → 1 the ELBO, and below 0 it is no lower bound. `bound` is IWAE of the same
    samples whatever α, `renyi` the value. Raises `ValueError` for α = 1: use `elbo_sampled_kl`.
    """
    if isinstance(alpha, (int, float)) and alpha == 1:
        raise ValueError("renyi: alpha must differ from 1, got 1; the limit is objective 'elbo_sampled_kl'")
    log_lik, log_ratio = _all_log_terms(latent, params, key, x, context, num_samples)
    value = log_mean_exp((1.0 - alpha) * (log_lik + log_ratio)) / (1.0 - alpha)
    return value, {**sampled_iwae(log_lik, log_ratio)[1], "renyi": value}


def ciwae(latent, params, key, x, context=None, *, elbo_weight, num_samples=50):
    """β ELBO + (1-β) IWAE_K of the same samples, β = `elbo_weight` in [0, 1].  arXiv:1802.04537 sec. 4.

    `bound` is IWAE_K.
    """
    log_lik, log_ratio = _all_log_terms(latent, params, key, x, context, num_samples)
    bound, terms = sampled_iwae(log_lik, log_ratio)
    return elbo_weight * jnp.mean(log_lik + log_ratio) + (1.0 - elbo_weight) * bound, terms


def miwae(latent, params, key, x, context=None, *, num_samples=8, num_outer=8):
    """(1/M) Σ_m log (1/K) Σ_k w_mk,  K = `num_samples`, M = `num_outer`: IWAE_K with a gradient of M times less
    variance.  arXiv:1802.04537 sec. 4.
    """
    terms = _all_log_terms(latent, params, key, x, context, _product(num_outer, num_samples))
    log_lik, log_ratio = (a.reshape(num_outer, num_samples) for a in terms)
    return jax.tree.map(jnp.mean, jax.vmap(sampled_iwae)(log_lik, log_ratio))


def piwae(latent, params, key, x, context=None, *, num_samples=8, num_outer=8):
    """IWAE_MK for p(z) and p(x|z), and for q(z|x) the gradient of MIWAE of the same samples, K = `num_samples`,
    M = `num_outer`.  arXiv:1802.04537 sec. 4.

    Value and `bound` are IWAE_MK's, `miwae` is the bound that q climbs.
    """
    stopped = jax.lax.stop_gradient(params)
    q = latent.posterior(params, x, context)
    z, log_q = draws(q, key, _product(num_outer, num_samples))
    # The same numbers twice: without a gradient through z and q, and without one to p(z) and p(x|z).
    log_lik, log_prior = jax.vmap(log_joint(latent, params, x, context))(jax.lax.stop_gradient(z))
    bound, terms = sampled_iwae(log_lik, log_prior - jax.lax.stop_gradient(log_q))
    log_w = sum(jax.vmap(log_joint(latent, stopped, x, context))(z)) - log_q
    inner = jnp.mean(log_mean_exp(log_w.reshape(num_outer, num_samples), axis=1))
    return bound + straight_through(0.0, inner), {**terms, "miwae": inner}


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


def sampled_elbo(log_lik, log_ratio, beta=1.0):
    """The ELBO and its terms from log p(x|z_k) and log p(z_k) - log q(z_k|x), [K] each."""
    log_lik, rate = jnp.mean(log_lik), -jnp.mean(log_ratio)
    return log_lik - beta * rate, {"bound": log_lik - rate, "distortion": -log_lik, "rate": rate}


def sampled_iwae(log_lik, log_ratio):
    """IWAE_K and its terms from log p(x|z_k) and log p(z_k) - log q(z_k|x), [K] each."""
    bound = log_mean_exp(log_lik + log_ratio)
    return bound, {"bound": bound, "distortion": -jnp.mean(log_lik), "rate": -jnp.mean(log_ratio)}


def draws(q, key, num_samples):
    """K = `num_samples` draws z_k ~ q [K, ...] and their log q(z_k) [K]."""
    return jax.vmap(lambda k: draw(q, k))(_split(key, num_samples))


def log_joint(latent, params, x, context=None):
    """z -> log p(x|z), log p(z); the prior is computed once."""
    prior = latent.prior(params, context)
    return lambda z: (latent.likelihood(params, z, context).log_prob(x), prior.log_prob(z))


def _all_log_terms(latent, params, key, x, context, num_samples):
    return jax.vmap(_log_terms(latent, params, x, context))(_split(key, num_samples))


def _mean_log_lik(latent, params, q, key, x, context, num_samples):
    one = lambda k: latent.likelihood(params, q.sample(k), context).log_prob(x)  # noqa: E731
    return jnp.mean(jax.vmap(one)(_split(key, num_samples)))


def _log_terms(latent, params, x, context):
    """key -> log p(x|z), log p(z) - log q(z|x) of one z ~ q(z|x); q and p(z) are computed once for all keys."""
    q, prior = latent.posterior(params, x, context), latent.prior(params, context)

    def terms(key):
        z, log_q = draw(q, key)
        return latent.likelihood(params, z, context).log_prob(x), prior.log_prob(z) - log_q

    return terms


def _product(num_outer, num_samples):
    if min(num_outer, num_samples) < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}, and so must num_outer, got {num_outer}")
    return num_outer * num_samples


def _split(key, num_samples):
    if num_samples < 1:
        raise ValueError(f"num_samples must be at least 1, got {num_samples}")
    return jax.random.split(key, num_samples)
