"""Imputation: missing values (NaN) of an example from the posterior, p(x_mis | x_obs).

    p(x_mis | x_obs) ≈ Σ_k w̃_k p(x_mis | z_k),  z_k ~ q(z | x_obs),  w̃_k ∝ p(x_obs | z_k) p(z_k) / q(z_k | x_obs)

with Σ_k w̃_k = 1: self-normalised importance sampling, arXiv:1812.02633 eq. (12). Each function is for one example; the
model must have been built for missing values (`core.Event.missing`), so that its encoder sees x_obs only.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.distributions import Observed
from vae_jax.numerics import effective_sample_size
from vae_jax.objectives.bounds import draws
from vae_jax.spec import integers


class Imputed(NamedTuple):
    """An example whose missing values are filled in. Observed values stay as they are."""

    mean: jax.Array  # E[x_mis | x_obs]; of a table's categories the most probable code
    draws: jax.Array  # [S, *event]: draws of p(x_mis | x_obs)
    ess: jax.Array  # effective sample size of the K weights, between 1 and K


class Scores(NamedTuple):
    """The log-density of true values of the missing entries, in nats."""

    joint: jax.Array  # log p(x_mis | x_obs), of all missing entries together
    each: jax.Array  # [*event]: log p(x_d | x_obs) of every missing entry, 0 for an observed one
    ess: jax.Array


def impute(latent, params, key, x, context=None, *, num_samples, num_draws=1) -> Imputed:
    """Fill in the missing values of x: their posterior mean, and draws.

    The mean is that of arXiv:1812.02633 eq. (12). A draw takes z_k with probability w̃_k, then x_mis ~ p(x_mis | z_k).

    Args:
      latent: a `core.Latent` whose likelihood is `Observed`.
      params: its parameters.
      key: a JAX key.
      x: one example; NaN is missing.
      context: its context, if the model is conditional.
      num_samples: K.
      num_draws: S.

    Raises `ValueError` for a model without a prior, or one that was built for complete data.
    """
    integers(num_samples=num_samples, num_draws=num_draws)
    key_z, key_choice, key_x = jax.random.split(key, 3)
    z, log_w = _weighted(latent, params, key_z, x, context, num_samples)
    likelihood = lambda z: latent.likelihood(params, z, context)  # noqa: E731
    mean = _mean(jax.vmap(likelihood)(z), jax.nn.softmax(log_w))
    cumulative = jnp.cumsum(jax.nn.softmax(log_w))
    u = jax.random.uniform(key_choice, (num_draws,)) * cumulative[-1]
    choice = jnp.minimum(jnp.searchsorted(cumulative, u, side="right"), num_samples - 1)
    draw = lambda k, z: likelihood(z).sample(k)  # noqa: E731
    drawn = jax.vmap(draw)(jax.random.split(key_x, num_draws), jax.tree.map(lambda a: a[choice], z))
    fill = lambda values: jnp.where(jnp.isnan(x), values, x)  # noqa: E731
    return Imputed(fill(mean), jax.vmap(fill)(drawn.astype(mean.dtype)), _ess(log_w))


def score(latent, params, key, x, truth, context=None, *, num_samples) -> Scores:
    """Return the log-density of `truth` at the missing entries of x, given the observed ones.

    It is log Σ_k w_k p(x_mis | z_k) - log Σ_k w_k: the ratio of two importance-weighted estimates, of p(x_mis, x_obs)
    and of p(x_obs), from the same K draws of q(z | x_obs), arXiv:1812.02633. Its bias vanishes as 1/K.

    Args:
      latent: a `core.Latent` whose likelihood is `Observed`.
      params: its parameters.
      key: a JAX key.
      x: one example; NaN is missing.
      truth: the true values, of the shape of x; only missing entries are read. An entry that is NaN here is not scored.
      context: its context, if the model is conditional.
      num_samples: K.

    Raises `ValueError` as `impute`, and for a likelihood whose entries depend on one another.
    """
    integers(num_samples=num_samples)
    z, log_w = _weighted(latent, params, key, x, context, num_samples)
    hidden = jnp.where(jnp.isnan(x), truth, jnp.nan)

    def log_probs(z):
        likelihood = latent.likelihood(params, z, context)
        if not hasattr(likelihood.base, "log_probs"):
            raise ValueError(
                f"the scores of single entries require a likelihood of independent entries, and this one is a "
                f"{type(likelihood.base).__name__}"
            )
        return likelihood.log_probs(hidden)

    log_p = jax.vmap(log_probs)(z)  # [K, *event]
    total = jnp.sum(log_p.reshape(num_samples, -1), axis=1)
    log_weights = jax.nn.log_softmax(log_w)
    each = jax.nn.logsumexp(log_p + log_weights.reshape(-1, *[1] * (log_p.ndim - 1)), axis=0)
    return Scores(
        jax.nn.logsumexp(total + log_weights),
        jnp.where(jnp.isnan(hidden), 0.0, each),
        _ess(log_w),
    )


def _weighted(latent, params, key, x, context, num_samples):
    """Return K draws z_k ~ q(z | x_obs) and log w_k = log p(x_obs | z_k) + log p(z_k) - log q(z_k | x_obs)."""
    if latent.prior is None:
        raise ValueError("imputation requires a model with a prior p(z); this one has none")
    z, log_q = draws(latent.posterior(params, x, context), key, num_samples)
    prior = latent.prior(params, context)

    def log_joint(z):
        likelihood = latent.likelihood(params, z, context)
        if not isinstance(likelihood, Observed):
            raise ValueError(
                "this model was built for complete data: its encoder cannot leave out missing values; build it with "
                "Event(..., missing=True), or train it on data with missing values"
            )
        return likelihood.log_prob(x) + prior.log_prob(z)

    return z, jax.vmap(log_joint)(z) - log_q


def _mean(likelihoods, weights):
    """Return E[x] of the mixture of K likelihoods; for a table's categories the most probable code of the mixture."""
    means = jax.vmap(lambda likelihood: likelihood.mean())(likelihoods)
    mean = jnp.tensordot(weights, means.astype(weights.dtype), axes=1)
    base = likelihoods.base
    return base.with_modes(mean, weights) if hasattr(base, "with_modes") else mean


def _ess(log_w):
    return effective_sample_size(jax.nn.logsumexp(log_w), jax.nn.logsumexp(2.0 * log_w), len(log_w))
