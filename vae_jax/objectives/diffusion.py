"""The bound of a variational diffusion model, arXiv:2107.00630, for one example x and y = scale(x).

q(z_t|x) = N(α_t y, σ_t² I)      α_t² = sigmoid(-γ(t))      σ_t² = sigmoid(γ(t))      t in [0, 1]

log p(x) ≥ E[log p(x|z_0)] - KL(q(z_1|x) ‖ N(0, I)) - L

    L_∞ = ½ E_t[γ'(t) |ε - ε̂|²]                                    in continuous time
    L_T = ½ T E_i[expm1(γ(t) - γ(s)) |ε - ε̂|²],  t = i/T, s = t - 1/T    with T steps

Functions take a `core.Denoiser`, which predicts ε from z_t. All terms are in nats.
"""

import jax
import jax.numpy as jnp

from vae_jax.core import Evidence
from vae_jax.distributions import Normal, draw
from vae_jax.distributions.diffusion import alpha_sigma, clipped
from vae_jax.numerics import LOG_2PI, with_scale


def noised(y, epsilon, gamma):
    """Return z = α y + σ ε, a draw of q(z|x) at the noise level γ.  arXiv:2107.00630 eq. (1)."""
    alpha, sigma = alpha_sigma(gamma)
    return alpha * y + sigma * epsilon


def prior_kl(y, gamma):
    """Return KL(q(z_1|x) ‖ N(0, I)) = ½ Σ_d (α² (y_d² - 1) - log σ²) at γ = γ(1)."""
    return 0.5 * jnp.sum(jax.nn.sigmoid(-gamma) * (jnp.square(y) - 1.0) - jax.nn.log_sigmoid(gamma))


def reconstruction(denoiser, params, key, x):
    """Return an unbiased estimate of E[log p(x|z_0)], arXiv:2107.00630 sec. 3.3.

    If p(x|z_0) is a normal whose scale is that of the noise, there is a closed form, and nothing is drawn.
    """
    gamma, y = denoiser.gamma(params, 0.0), denoiser.scale(x)
    epsilon = jax.random.normal(key, y.shape)
    p = denoiser.decode(y + jnp.exp(0.5 * gamma) * epsilon, gamma)
    if isinstance(p, Normal):
        return jnp.sum(-0.5 * (1.0 + LOG_2PI) - p.log_scale)
    return p.log_prob(x)


def infinite_steps(denoiser, params, y, epsilon, t, context=None, *, clip=True, **options):
    """Return ½ γ'(t) |ε - ε̂|²; its mean over t ~ U[0, 1) and ε ~ N(0, I) is L_∞.  arXiv:2107.00630 sec. 4.2.

    The mean does not depend on γ between its ends. The gradient of a learned schedule, except its ends, is therefore
    that of the square of this number (divided by the size of y): it lowers the variance of the estimate, app. H.
    `options` are those of `denoiser.noise`. With `clip`, x̂ stays within the limits of y, which raises the bound;
    training needs the gradients of all predictions.
    """
    gamma, slope, mark = denoiser.rate(params, t)
    error = _squared_error(denoiser, params, y, epsilon, gamma, context, clip, options)
    value = 0.5 * slope * error
    return with_scale(value, mark, 2.0 * value / y.size)


def finite_steps(denoiser, params, y, epsilon, t, context=None, *, num_steps, clip=True, **options):
    """Return ½ T expm1(γ(i/T) - γ((i-1)/T)) |ε - ε̂|², i = ⌊t T⌋ + 1; its mean is L_T.  arXiv:2107.00630 sec. 4.1.

    T = `num_steps`. For the best denoiser the mean of L_T over the data falls as T doubles, to L_∞. For a single x it
    need not. Here γ between its ends changes the bound and follows its gradient.
    """
    i = jnp.minimum(jnp.floor(t * num_steps) + 1.0, num_steps)
    gamma, before = denoiser.gamma(params, i / num_steps), denoiser.gamma(params, (i - 1.0) / num_steps)
    error = _squared_error(denoiser, params, y, epsilon, gamma, context, clip, options)
    return 0.5 * num_steps * jnp.expm1(gamma - before) * error


def _squared_error(denoiser, params, y, epsilon, gamma, context, clip, options):
    z = noised(y, epsilon, gamma)
    predicted = denoiser.noise(params, z, gamma, context, **options)
    if clip:
        _, predicted = clipped(denoiser, z, predicted, gamma)
    return jnp.sum(jnp.square(epsilon - predicted))


def terms(denoiser, params, key, x, context=None, *, num_steps=None, t=None, **options) -> dict:
    """Return one estimate of the bound and its parts: `bound` = -(`reconstruction` + `prior` + `diffusion`).

    Args:
      denoiser: a `core.Denoiser`.
      params: the parameters of its model.
      key: the randomness.
      x: the example.
      context: its context, or None.
      num_steps: T; None for continuous time.
      t: the time in [0, 1); None for a draw of it.
      **options: `clip` of `infinite_steps`, and those of `denoiser.noise`.

    The estimate is unbiased if t is uniform.
    """
    key_t, key_noise, key_x = jax.random.split(key, 3)
    y = denoiser.scale(x)
    t = jax.random.uniform(key_t) if t is None else t
    epsilon = jax.random.normal(key_noise, denoiser.shape)
    if num_steps is None:
        diffusion = infinite_steps(denoiser, params, y, epsilon, t, context, **options)
    else:
        diffusion = finite_steps(denoiser, params, y, epsilon, t, context, num_steps=num_steps, **options)
    prior, distortion = prior_kl(y, denoiser.gamma(params, 1.0)), -reconstruction(denoiser, params, key_x, x)
    parts = {"reconstruction": distortion, "prior": prior, "diffusion": diffusion}
    return {"bound": -(distortion + prior + diffusion), **parts}


def low_discrepancy(key, size):
    """Return times t_i = (u + i/B) mod 1 of a batch of B = `size` examples, u ~ U[0, 1).  arXiv:2107.00630 app. I.1.

    Each is uniform, so that the mean over the batch is unbiased. Together they cover [0, 1), which lowers its variance.
    """
    return jnp.mod(jax.random.uniform(key) + jnp.arange(size) / size, 1.0)


def evidence(denoiser, posterior, likelihood, part="prior"):
    """Return the `core.Latent.evidence` of a latent-variable model whose prior p(z) is a diffusion.  arXiv:2106.05931.

    `log_prior` is an unbiased estimate of a lower bound of log p(z). The mean of log_lik + log_prior - log_q is
    therefore a bound of log p(x). An importance-weighted bound of such numbers is none. `part` is the part of the
    parameters that the denoiser has.
    """

    def of_draw(params, key, x, context=None):
        key_z, key_prior = jax.random.split(key)
        z, log_q = draw(posterior(params, x, context), key_z)
        log_prior = terms(denoiser, params[part], key_prior, z)["bound"]
        return Evidence(z, likelihood(params, z, context).log_prob(x), log_prior, log_q, kl=None)

    return of_draw
