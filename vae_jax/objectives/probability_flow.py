"""The likelihood of a diffusion model by the ordinary differential equation that has its marginal distributions.

dz/dγ = ½ σ (ε̂(z, γ) - σ z)     σ² = sigmoid(γ)     from γ_0 at the data to γ_1 at the noise

This is dz/dt = f z - ½ g² ∇log q_t(z) of arXiv:2011.13456 eq. (13), with ε̂ = -σ ∇log q and the noise level γ as the
time, so that it does not depend on the schedule between γ_0 and γ_1. Functions take a `core.Denoiser`. The equation is
solved by Diffrax (extra `ode`). All terms are in nats.
"""

import math

import jax
import jax.numpy as jnp

from vae_jax.bijectors.continuous import EXACT_LIMIT, Continuous, rademacher
from vae_jax.distributions import Normal


def flow(denoiser, params, context=None, probes=None, *, rtol=1e-5, atol=1e-5) -> Continuous:
    """Return the map z_0 -> z_1 along dz/dγ = ½ σ (ε̂ - σ z), γ from γ_0 to γ_1, as a bijector.

    Args:
      denoiser: a `core.Denoiser`.
      params: the parameters of its model.
      context: its context, or None.
      probes: those of `bijectors.Continuous`; None for the exact trace.
      rtol: the relative error of a step.
      atol: the absolute error of a step.
    """

    def velocity(given, z, gamma):
        params, context = given
        sigma = jnp.sqrt(jax.nn.sigmoid(gamma))
        return 0.5 * sigma * (denoiser.noise(params, z, gamma, context) - sigma * z)

    ends = (denoiser.gamma(params, t) for t in (0.0, 1.0))
    return Continuous((params, context), velocity, probes, *ends, rtol=rtol, atol=atol)


def bound(denoiser, params, key, x, context=None, *, trace=None, num_probes=1, rtol=1e-5, atol=1e-5):
    """Return an estimate of the bound E_q[log p(x|z_0) + log p(z_0) - log q(z_0|x)].  arXiv:2011.13456 sec. 4.3.

    q(z_0|x) = N(α_0 y, σ_0² I), and log p(z_0) = log N(z_1; 0, I) + ∫ tr ∂(dz/dγ)/∂z dγ from γ_0 to γ_1. If p(x|z_0) is
    a mass, so is what is bounded. The estimate is unbiased, up to the error of the solver. That error may have
    either sign: with 1e-4 in place of 1e-5 the masses of nine levels in two dimensions add up to 1.01.

    Args:
      denoiser: a `core.Denoiser`.
      params: the parameters of its model.
      key: the randomness.
      x: the example.
      context: its context, or None.
      trace: "exact", "hutchinson", or None for the exact one up to 64 dimensions.
      num_probes: the number of probes of an estimated trace.
      rtol: the relative error of a step of the solver.
      atol: the absolute error of a step of the solver.
    """
    key_z, key_probes = jax.random.split(key)
    exact = math.prod(denoiser.shape) <= EXACT_LIMIT if trace is None else trace == "exact"
    probes = None if exact else rademacher(key_probes, denoiser.shape, num_probes)
    gamma, standard = denoiser.gamma(params, 0.0), Normal.standard(denoiser.shape)
    alpha, log_sigma = jnp.sqrt(jax.nn.sigmoid(-gamma)), 0.5 * jax.nn.log_sigmoid(gamma)
    epsilon, log_prob = standard.sample_and_log_prob(key_z)
    log_q = log_prob - log_sigma * epsilon.size
    ratio = jnp.exp(0.5 * gamma) * epsilon  # σ_0 ε / α_0
    y = denoiser.scale(x) + ratio
    log_lik = denoiser.decode(y, gamma).log_prob(x)
    z, log_det = flow(denoiser, params, context, probes, rtol=rtol, atol=atol).forward_and_log_det(alpha * y)
    return log_lik + standard.log_prob(z) + log_det - log_q
