"""Draws of a diffusion model: the reverse process from noise to data, one compiled loop.  arXiv:2107.00630 app. A.4."""

import jax
import jax.numpy as jnp


def alpha_sigma(gamma):
    """Return α = √sigmoid(-γ) and σ = √sigmoid(γ): the scales of signal and noise, α² + σ² = 1."""
    return jnp.sqrt(jax.nn.sigmoid(-gamma)), jnp.sqrt(jax.nn.sigmoid(gamma))


def clipped(denoiser, z, epsilon, gamma):
    """Return x̂ = (z - σ ε̂) / α and ε̂; if y has limits, x̂ is clipped to them, and ε̂ follows.

    The data lie within the limits, so that the clipped x̂ is nearer to y.
    """
    alpha, sigma = alpha_sigma(gamma)
    clean = (z - sigma * epsilon) / alpha
    if denoiser.limits is None:
        return clean, epsilon
    clean = jnp.clip(clean, *denoiser.limits)
    return clean, (z - alpha * clean) / sigma


def guided(denoiser, params, z, gamma, context, guidance=0.0):
    """Return ε̂ = (1 + w) ε̂(z, c) - w ε̂(z, no class), w = `guidance`.  arXiv:2207.12598 eq. (6).

    With w = 0 it is the prediction of the conditional model, at half the cost.
    """
    with_context = denoiser.noise(params, z, gamma, context)
    if context is None or guidance == 0.0:
        return with_context
    return (1.0 + guidance) * with_context - guidance * denoiser.noise(params, z, gamma, context, keep=0.0)


def reverse_step(denoiser, params, z, gamma_t, gamma_s, noise, context=None, *, eta=1.0, guidance=0.0):
    """Return a draw z_s from z_t, with less noise: α_s x̂ + √(σ_s² - τ²) ε̂ + τ `noise`.

    τ² = η² σ_s² (1 - e^{γ_s - γ_t}), and x̂, ε̂ are those of `clipped`. η = 1 draws from q(z_s|z_t, y = x̂),
    arXiv:2107.00630 app. A; η = 0 is DDIM, a deterministic step, arXiv:2010.02502 eq. (12).
    """
    epsilon = guided(denoiser, params, z, gamma_t, context, guidance)
    return step_by(denoiser, z, epsilon, gamma_t, gamma_s, noise, eta=eta)


def step_by(denoiser, z, epsilon, gamma_t, gamma_s, noise, *, eta=1.0):
    """Return the z_s of `reverse_step` from a prediction ε̂ = `epsilon` of the noise in z_t."""
    clean, epsilon = clipped(denoiser, z, epsilon, gamma_t)
    alpha_s, sigma_s = alpha_sigma(gamma_s)
    left = -jnp.expm1(gamma_s - gamma_t)
    return alpha_s * clean + sigma_s * (jnp.sqrt(1.0 - eta**2 * left) * epsilon + eta * jnp.sqrt(left) * noise)


def reverse(denoiser, params, key, context=None, *, num_steps, eta=1.0, guidance=0.0):
    """Return a draw x: z_1 ~ N(0, I), `num_steps` equal steps of t from 1 to 0 (`reverse_step`), x ~ p(x|z_0).

    Args:
      denoiser: a `core.Denoiser`.
      params: the parameters of its model.
      key: the randomness.
      context: the context of x, or None.
      num_steps: the number of steps, which is that of evaluations of the network.
      eta: 1 for ancestral draws, 0 for DDIM.
      guidance: w, the weight of guidance without a classifier.
    """
    key_start, key_steps, key_x = jax.random.split(key, 3)

    def step(z, n):
        gamma_t, gamma_s = (denoiser.gamma(params, m / num_steps) for m in (n, n - 1))
        noise = jax.random.normal(jax.random.fold_in(key_steps, n), z.shape)
        return reverse_step(denoiser, params, z, gamma_t, gamma_s, noise, context, eta=eta, guidance=guidance), None

    z, _ = jax.lax.scan(step, jax.random.normal(key_start, denoiser.shape), jnp.arange(num_steps, 0, -1))
    gamma = denoiser.gamma(params, 0.0)
    return denoiser.decode(z / alpha_sigma(gamma)[0], gamma).sample(key_x)
