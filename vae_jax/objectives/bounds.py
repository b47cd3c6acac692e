"""Lower bounds of log p(x), for one example."""

import jax
import jax.numpy as jnp

from vae_jax.core import Evidence
from vae_jax.distributions import Mixture, draw, has_closed_form, has_discrete_part, kl_divergence, kl_per_dim
from vae_jax.numerics import log_mean_exp, straight_through
from vae_jax.objectives.equation import check_pathwise, count, equation, number, refuse
from vae_jax.spec import BadOption, integers

BETA = number(at_least=0)
SAMPLES = count()


@equation(beta=BETA, num_samples=SAMPLES)
def elbo(latent, params, key, x, context=None, *, beta=1.0, num_samples=1):
    """The ELBO, E_q[log p(x|z)] - β KL(q(z|x) || p(z)), from `num_samples` draws, the KL in closed form.

    arXiv:1312.6114 eq. (3) and (7); β ≠ 1 is the β-VAE, openreview:Sy2fzU9gl eq. (4), and re-weights only the value.
    Published code often takes means over pixels: a hidden β. Raises `BadOption` if the KL has no closed form, or if no
    gradient passes through z: train a discrete q by one of `estimators`.
    """
    check_pathwise("elbo", latent.posterior(params, x, context))
    return closed_elbo(*_checked("elbo", latent, params, key, x, context, num_samples), beta)


@equation(beta=BETA, num_samples=SAMPLES)
def elbo_sampled_kl(latent, params, key, x, context=None, *, beta=1.0, num_samples=1):
    """The ELBO from draws only, E_q[log p(x|z) + β (log p(z) - log q(z|x))]: for pairs (q, p) without a closed-form KL.

    arXiv:1312.6114 eq. (6).
    """
    check_pathwise("elbo_sampled_kl", latent.posterior(params, x, context))
    return sampled_elbo(*_log_terms(latent, params, key, x, context, num_samples), beta)


def plain_elbo(latent, params, key, x, context=None, *, num_samples):
    """Return the ELBO and its terms for evaluation: its rate in closed form if there is one, any q(z|x).

    No gradient is needed, so that q may be discrete or a mixture.
    """
    if latent.evidence is not None:
        draws = evidences(latent, params, key, x, context, num_samples)
        if draws.kl is None:
            return sampled_elbo(draws.log_lik, draws.log_prior - draws.log_q)
        return closed_elbo(jnp.mean(draws.log_lik), draws.kl)
    log_lik, kl = _log_lik_and_kl(latent, params, key, x, context, num_samples)
    if kl is None:
        return sampled_elbo(*_log_terms(latent, params, key, x, context, num_samples))
    return closed_elbo(log_lik, kl)


def plain_iwae(latent, params, key, x, context=None, *, num_samples):
    """Return the importance-weighted bound and its terms for evaluation: no gradient is needed, any q(z|x)."""
    return sampled_iwae(*_log_terms(latent, params, key, x, context, num_samples))


@equation(free_nats=number(at_least=0), num_samples=SAMPLES)
def free_bits(latent, params, key, x, context=None, *, free_nats, num_samples=1):
    """The ELBO with free bits, E_q[log p(x|z)] - Σ_d max(λ, KL_d), λ = `free_nats` a dimension.

    In a deep hierarchy, d counts the levels. A KL below λ costs nothing more and gets no gradient. arXiv:1606.04934
    app. C.8 takes the maximum of the batch's mean KL; here each example has its own. `free_rate` is the sum of maxima;
    `bound` and `rate` are the ELBO's. Raises `BadOption` if q and p(z) do not factorise alike.
    """
    q, prior = pair(latent, params, x, context)
    check_pathwise("free_bits", q)
    if latent.evidence is not None:
        draws = jax.vmap(lambda k: latent.evidence(params, k, x, context))(_split(key, num_samples))
        if draws.kl is None or draws.kl.ndim != 2:
            refuse("free_bits", q, "the KL does not split by level", "'elbo_sampled_kl'", prior)
        log_lik, kls = jnp.mean(draws.log_lik), jnp.mean(draws.kl, axis=0)
        return _freed(log_lik, kls, free_nats)
    log_lik, _ = _checked("free_bits", latent, params, key, x, context, num_samples)
    if type(q) is not type(prior):
        refuse("free_bits", q, "the KL does not split by dimension", "'elbo'", prior)
    return _freed(log_lik, kl_per_dim(q, prior), free_nats)


def _freed(log_lik, kls, free_nats):
    """Return the ELBO whose KL is Σ max(λ, KL) of the parts `kls`, and its terms."""
    kl, free = jnp.sum(kls), jnp.sum(jnp.maximum(kls, free_nats))
    return log_lik - free, {"bound": log_lik - kl, "distortion": -log_lik, "rate": kl, "free_rate": free}


@equation(gamma=number(at_least=0), nats=number(at_least=0), num_samples=SAMPLES)
def capacity(latent, params, key, x, context=None, *, gamma, nats, num_samples=1):
    """The ELBO at a given rate, E_q[log p(x|z)] - γ |KL(q(z|x) || p(z)) - C|, C = `nats`, often a schedule.

    arXiv:1804.03599 eq. (8). `excess` is KL - C; `bound` and `rate` are the ELBO's.
    """
    check_pathwise("capacity", latent.posterior(params, x, context))
    value, terms = closed_elbo(*_checked("capacity", latent, params, key, x, context, num_samples), beta=0.0)
    excess = terms["rate"] - nats
    return value - gamma * jnp.abs(excess), {**terms, "excess": excess}


@equation(num_samples=SAMPLES)
def iwae(latent, params, key, x, context=None, *, num_samples=50):
    """The importance-weighted bound log (1/K) Σ_k w_k,  w_k = p(x, z_k) / q(z_k|x),  K = `num_samples`.

    arXiv:1509.00519 eq. (8). `rate` and `distortion` are those of the ELBO of the same samples, so that
    bound ≥ -(rate + distortion).
    """
    check_pathwise("iwae", latent.posterior(params, x, context))
    return sampled_iwae(*_log_terms(latent, params, key, x, context, num_samples))


@equation(alpha=number(), num_samples=SAMPLES)
def renyi(latent, params, key, x, context=None, *, alpha, num_samples=50):
    """The Rényi bound (1 / (1-α)) log (1/K) Σ_k w_k^(1-α).  arXiv:1602.02311 sec. 4.

    It falls as α grows: α = 0 is IWAE, α → 1 the ELBO. For α < 0 it is not a lower bound. `bound` is IWAE of the same
    samples for every α, `renyi` is the value. Where α is within 0.001 of 1, as a schedule may be, it is the series
    E[log w] + (1-α)/2 Var[log w]. Raises `BadOption` for α = 1: use `elbo_sampled_kl`.
    """
    if isinstance(alpha, (int, float)) and alpha == 1:
        raise BadOption("alpha must differ from 1, got 1; the limit is objective 'elbo_sampled_kl'")
    check_pathwise("renyi", latent.posterior(params, x, context))
    log_lik, log_ratio = _log_terms(latent, params, key, x, context, num_samples)
    log_w = log_lik + log_ratio
    mean, power = jnp.mean(log_w), 1.0 - jnp.asarray(alpha, jnp.float32)
    near = jnp.abs(power) < 1e-3  # where log and exp would leave few digits
    safe = jnp.where(near, 1.0, power)
    far_value = mean + log_mean_exp(safe * (log_w - mean)) / safe
    value = jnp.where(near, mean + 0.5 * power * jnp.var(log_w), far_value)
    return value, {**sampled_iwae(log_lik, log_ratio)[1], "renyi": value}


@equation(elbo_weight=number(at_least=0, at_most=1), num_samples=SAMPLES)
def ciwae(latent, params, key, x, context=None, *, elbo_weight, num_samples=50):
    """The mean of two bounds, β ELBO + (1-β) IWAE_K of the same samples, β = `elbo_weight` in [0, 1].

    arXiv:1802.04537 sec. 4. `bound` is IWAE_K.
    """
    check_pathwise("ciwae", latent.posterior(params, x, context))
    log_lik, log_ratio = _log_terms(latent, params, key, x, context, num_samples)
    bound, terms = sampled_iwae(log_lik, log_ratio)
    return elbo_weight * jnp.mean(log_lik + log_ratio) + (1.0 - elbo_weight) * bound, terms


@equation(num_samples=SAMPLES, num_outer=SAMPLES)
def miwae(latent, params, key, x, context=None, *, num_samples=8, num_outer=8):
    """The mean (1/M) Σ_m log (1/K) Σ_k w_mk of M = `num_outer` IWAE bounds, K = `num_samples`.

    Its gradient has M times less variance than that of IWAE_K.  arXiv:1802.04537 sec. 4.
    """
    check_pathwise("miwae", latent.posterior(params, x, context))
    terms = _log_terms(latent, params, key, x, context, num_outer * num_samples)
    log_lik, log_ratio = (a.reshape(num_outer, num_samples) for a in terms)
    return jax.tree.map(jnp.mean, jax.vmap(sampled_iwae)(log_lik, log_ratio))


@equation(num_samples=SAMPLES, num_outer=SAMPLES)
def piwae(latent, params, key, x, context=None, *, num_samples=8, num_outer=8):
    """IWAE_MK for p(z) and p(x|z), and for q(z|x) the gradient of MIWAE of the same samples.  arXiv:1802.04537 sec. 4.

    K = `num_samples`, M = `num_outer`. Value and `bound` are IWAE_MK's; `miwae` is the bound that q climbs.
    """
    stopped = jax.lax.stop_gradient(params)
    q = latent.posterior(params, x, context)
    check_pathwise("piwae", q)
    z, log_q = draws(q, key, num_outer * num_samples)
    # The same numbers twice: without a gradient through z and q, and without one to p(z) and p(x|z).
    log_lik, log_prior = jax.vmap(log_joint(latent, params, x, context))(jax.lax.stop_gradient(z))
    bound, terms = sampled_iwae(log_lik, log_prior - jax.lax.stop_gradient(log_q))
    log_w = sum(jax.vmap(log_joint(latent, stopped, x, context))(z)) - log_q
    inner = jnp.mean(log_mean_exp(log_w.reshape(num_outer, num_samples), axis=1))
    return bound + straight_through(0.0, inner), {**terms, "miwae": inner}


@equation(beta=BETA, num_samples=SAMPLES)
def stratified_elbo(latent, params, key, x, context=None, *, beta=1.0, num_samples=1):
    """The ELBO of a mixture, Σ_k π_k(x) E_{q_k}[log p(x|z) + β (log p(z) - log q(z|x))], q = Σ_k π_k q_k.

    arXiv:2003.01687, "SELBO". `num_samples` draws of each component. The sum over the weights is exact, so that the
    gradient reaches them and is unbiased. It takes K decoder passes a sample. For a posterior that is not a mixture it
    is `elbo_sampled_kl`.
    """
    q, prior = pair(latent, params, x, context)
    check_pathwise("stratified_elbo", q, sums_components=True)
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
    """Return log w = log p(x|z) + log p(z) - log q(z|x) of one z ~ q(z|x): an unbiased estimate of the ELBO."""
    draw = _evidence(latent, params, x, context)[0](key)
    return draw.log_lik + (draw.log_prior - draw.log_q)


def evidences(latent, params, key, x, context, num_samples) -> Evidence:
    """Return the `Evidence` of K = `num_samples` draws: z, log_lik, log_prior and log_q lead with K; kl is one number.

    kl is the mean over the draws of the closed-form KL, summed over the levels of a hierarchy; None if there is none.
    """
    of_draw, kl = _evidence(latent, params, x, context)
    draws = jax.vmap(of_draw)(_split(key, num_samples))
    if draws.kl is not None:
        kl = jnp.mean(jnp.sum(draws.kl.reshape(num_samples, -1), axis=1))
    return draws._replace(kl=kl)


def closed_elbo(log_lik, kl, beta=1.0):
    """Return the ELBO and its terms from E_q[log p(x|z)] and KL(q(z|x) || p(z))."""
    return log_lik - beta * kl, {"bound": log_lik - kl, "distortion": -log_lik, "rate": kl}


def sampled_elbo(log_lik, log_ratio, beta=1.0):
    """Return the ELBO and its terms from log p(x|z_k) and log p(z_k) - log q(z_k|x), [K] each."""
    log_lik, rate = jnp.mean(log_lik), -jnp.mean(log_ratio)
    return log_lik - beta * rate, {"bound": log_lik - rate, "distortion": -log_lik, "rate": rate}


def sampled_iwae(log_lik, log_ratio):
    """Return IWAE_K and its terms from log p(x|z_k) and log p(z_k) - log q(z_k|x), [K] each."""
    bound = log_mean_exp(log_lik + log_ratio)
    return bound, {"bound": bound, "distortion": -jnp.mean(log_lik), "rate": -jnp.mean(log_ratio)}


def reconstruction(latent, params, x, context=None) -> dict:
    """Return how well the mean code z = E_q[z] reconstructs x.

    `distortion` = -log p(x|z) is in nats; `mse` is the squared error of E[x|z] as a mean over dimensions.
    """
    p = latent.likelihood(params, latent.posterior(params, x, context).mean(), context)
    return {"distortion": -p.log_prob(x), "mse": jnp.mean(jnp.square(p.mean() - x))}


def draws(q, key, num_samples):
    """Return K = `num_samples` draws z_k ~ q [K, ...] and their log q(z_k) [K]."""
    return jax.vmap(lambda k: draw(q, k))(_split(key, num_samples))


def log_joint(latent, params, x, context=None):
    """Return z -> log p(x|z), log p(z); the prior is computed once."""
    prior = latent.prior(params, context)
    return lambda z: (latent.likelihood(params, z, context).log_prob(x), prior.log_prob(z))


def pair(latent, params, x, context=None):
    """Return q(z|x) and p(z)."""
    return latent.posterior(params, x, context), latent.prior(params, context)


def check_closed(name, q, prior):
    """Raise `BadOption` if KL(q || p) has no closed form."""
    if not has_closed_form(q, prior):
        _refuse_without_kl(name, q, prior)


def _refuse_without_kl(name, q, prior):
    use = "'rloo' or 'vimco'" if has_discrete_part(q) else "'elbo_sampled_kl'"
    refuse(name, q, "no closed-form KL", use, prior)


def _evidence(latent, params, x, context):
    """Return (key -> `Evidence` of one draw, without kl if that is the same for all draws; that kl, or None).

    q(z|x) and p(z) are computed once for all keys.
    """
    if latent.evidence is not None:
        return lambda key: latent.evidence(params, key, x, context), None
    q, prior = pair(latent, params, x, context)

    def of_draw(key):
        z, log_q = draw(q, key)
        log_lik = latent.likelihood(params, z, context).log_prob(x)
        return Evidence(z, log_lik, prior.log_prob(z), log_q, kl=None)

    return of_draw, kl_divergence(q, prior) if has_closed_form(q, prior) else None


def _log_lik_and_kl(latent, params, key, x, context, num_samples):
    """Return the mean of log p(x|z_k) over draws, and KL(q(z|x) || p(z)); kl is None if it has no closed form."""
    if latent.evidence is not None:
        draws = evidences(latent, params, key, x, context, num_samples)
        return jnp.mean(draws.log_lik), draws.kl
    q, prior = pair(latent, params, x, context)
    if not has_closed_form(q, prior):
        return None, None
    one = lambda k: latent.likelihood(params, q.sample(k), context).log_prob(x)  # noqa: E731
    return jnp.mean(jax.vmap(one)(_split(key, num_samples))), kl_divergence(q, prior)


def _checked(name, latent, params, key, x, context, num_samples):
    """Return `_log_lik_and_kl`. Raises `BadOption` for the equation `name` if the KL has no closed form."""
    log_lik, kl = _log_lik_and_kl(latent, params, key, x, context, num_samples)
    if kl is None:
        _refuse_without_kl(name, *pair(latent, params, x, context))
    return log_lik, kl


def _log_terms(latent, params, key, x, context, num_samples):
    """Return log p(x|z_k) and log p(z_k) - log q(z_k|x), [K] each."""
    draws = evidences(latent, params, key, x, context, num_samples)
    return draws.log_lik, draws.log_prior - draws.log_q


def _split(key, num_samples):
    integers(num_samples=num_samples)
    return jax.random.split(key, num_samples)
