"""Kullback–Leibler divergences in closed form, in nats."""

import jax
import jax.numpy as jnp

from vae_jax.distributions.codes import PointMass
from vae_jax.distributions.discrete import Bernoulli, Categorical, OneHot
from vae_jax.distributions.normal import LowRankNormal, MultivariateNormal, Normal
from vae_jax.distributions.spherical import UniformSphere, VonMisesFisher


def kl_normal_normal_per_dim(q: Normal, p: Normal):
    """Return the KL of each dimension: log(s_p/s_q) + (s_q² + (μ_q - μ_p)²) / 2 s_p² - ½.

    arXiv:1312.6114 app. B, for a general p.
    """
    ratio = q.log_scale - p.log_scale
    shift = (q.loc - p.loc) * jnp.exp(-p.log_scale)
    return 0.5 * (jnp.exp(2.0 * ratio) - 1.0 + jnp.square(shift)) - ratio


def _kl_normal(q, p):
    return jnp.sum(kl_normal_normal_per_dim(q, p))


def _kl_multivariate(q, p):
    """Return ½ (tr Σ_p⁻¹Σ_q + |L_p⁻¹(μ_q - μ_p)|² - D) + log |L_p| - log |L_q|."""
    solve = lambda b: jax.scipy.linalg.solve_triangular(p.scale_tril, b, lower=True)  # noqa: E731
    log_det = lambda scale_tril: jnp.sum(jnp.log(jnp.diagonal(scale_tril)))  # noqa: E731
    trace = jnp.sum(jnp.square(solve(q.scale_tril)))
    shift = jnp.sum(jnp.square(solve(q.loc - p.loc)))
    return 0.5 * (trace + shift - q.loc.size) + log_det(p.scale_tril) - log_det(q.scale_tril)


def _kl_low_rank(q, p):
    """Return the diagonal rule plus the factor's rows in the trace, minus the log |M| of the determinant lemma."""
    rows = jnp.sum(jnp.square(q.factor * jnp.exp(-p.log_scale)[:, None]))
    _, tril = q.whitened()
    return _kl_normal(Normal(q.loc, q.log_scale), p) + 0.5 * rows - jnp.sum(jnp.log(jnp.diagonal(tril)))


def _as_multivariate(d):
    if isinstance(d, LowRankNormal):
        covariance = jnp.diag(jnp.exp(2.0 * d.log_scale)) + d.factor @ d.factor.T
        return MultivariateNormal(d.loc, jnp.linalg.cholesky(covariance))
    return MultivariateNormal(d.loc, jnp.diag(jnp.exp(d.log_scale))) if isinstance(d, Normal) else d


def _kl_bernoulli_per_dim(q, p):
    """Return σ(l_q) (l_q - l_p) - softplus(l_q) + softplus(l_p), which is finite at any logit."""
    softplus = jax.nn.softplus
    return jax.nn.sigmoid(q.logits) * (q.logits - p.logits) - softplus(q.logits) + softplus(p.logits)


def _kl_bernoulli(q, p):
    return jnp.sum(_kl_bernoulli_per_dim(q, p))


def _kl_categorical_per_dim(q, p):
    log_q, log_p = jax.nn.log_softmax(q.logits), jax.nn.log_softmax(p.logits)
    return jnp.sum(jnp.exp(log_q) * (log_q - log_p), axis=-1)


def _kl_categorical(q, p):
    return jnp.sum(_kl_categorical_per_dim(q, p))


def _kl_to_uniform_sphere(q, p):
    """Return -κ E[1 - μ·x] - log ∫ e^{κ(μ·x - 1)} dx + log area.

    arXiv:1804.00891 app. B, without a Bessel function.
    """
    return -q.concentration * q.mean_drop() - q.log_normalizer() - p.log_prob(q.direction)


def _kl_of_point(q, p):
    return -p.log_prob(q.loc)


def has_closed_form(q, p) -> bool:
    """Return True if `kl_divergence` knows a closed form of KL(q || p)."""
    return _rule(q, p) is not None


def kl_divergence(q, p):
    """Return KL(q || p) = E_q[log q - log p] in closed form, nats, summed over the event.

    Raises `TypeError` if no closed form is known: estimate it from samples then (`objectives.elbo_sampled_kl`).
    """
    rule = _rule(q, p)
    if rule is None:
        raise TypeError(f"no closed-form KL({type(q).__name__} || {type(p).__name__}); use objective 'elbo_sampled_kl'")
    return rule(q, p)


def _rule(q, p):
    if isinstance(q, PointMass):
        return _kl_of_point
    gaussians = (Normal, LowRankNormal, MultivariateNormal)
    if isinstance(q, gaussians) and isinstance(p, gaussians):
        if isinstance(p, Normal) and not isinstance(q, MultivariateNormal):
            return _kl_normal if isinstance(q, Normal) else _kl_low_rank
        return lambda q, p: _kl_multivariate(_as_multivariate(q), _as_multivariate(p))
    if isinstance(q, VonMisesFisher) and isinstance(p, UniformSphere):
        return _kl_to_uniform_sphere
    rules = {Bernoulli: _kl_bernoulli, Categorical: _kl_categorical, OneHot: _kl_categorical}
    return rules.get(type(q)) if type(q) is type(p) else None


def kl_per_dim(q, p):
    """Return the KL of every dimension of a factorised pair, in nats.

    It has the shape of the event; for categories, without V.

    Raises `TypeError` if q and p do not factorise alike.
    """
    rules = {
        Normal: kl_normal_normal_per_dim,
        Bernoulli: _kl_bernoulli_per_dim,
        Categorical: _kl_categorical_per_dim,
        OneHot: _kl_categorical_per_dim,
    }
    if type(q) is not type(p) or type(q) not in rules:
        raise TypeError(f"KL({type(q).__name__} || {type(p).__name__}) does not split by dimension")
    return rules[type(q)](q, p)
