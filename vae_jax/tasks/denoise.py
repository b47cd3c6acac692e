"""Restoration by a diffusion model: draws of p(x|y), with the interface of `tasks.restore`.

    replaced    shown pixels replace those of z_t at every noise level, with resampling (RePaint, arXiv:2201.09865)
    guided      each step follows the gradient of how well the denoised image fits y (DPS, arXiv:2209.14687), or of
                N(y; F x̂(z_t), S² + r_t² F Fᵀ) (pseudo-inverse guidance, openreview:9_gsMA8MRKQ)
    twisted     the last one as the proposal of sequential Monte Carlo, arXiv:2306.17775: exact for infinitely many
                particles, as far as the steps of the diffusion are exact

The first two are approximations that no number of draws improves: `tasks.known` measures by how much. All of them draw
the last step x from p(x|z_0, y), so that noise-free pixels are those of y.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import degradations
from vae_jax.distributions.diffusion import alpha_sigma, reverse_step, step_by
from vae_jax.objectives.diffusion import noised
from vae_jax.spec import integers, numbers, one_of
from vae_jax.tasks import particles
from vae_jax.tasks.observation import through
from vae_jax.tasks.restore import Restored

GUIDES = ("norm", "moments")


def replaced(
    model, params, key, degradation, y, context=None, *, num_draws, truth=None, num_steps=100, jump=10, resample=5
) -> Restored:
    """Return draws by replacement with resampling, RePaint, arXiv:2201.09865 algorithm 1 and appendix B.

    After each reverse step the shown pixels are replaced by draws of q(z_s|y). Every `jump` steps the process goes back
    by as many steps of noise, z_t ~ q(z_t|z_s), and down again, `resample` times in all, so that the hidden pixels fit
    the shown ones better. The denoiser is evaluated about `num_steps` x `resample` times.

    Args:
      model: a `core.Model` with a `denoiser`.
      params: its parameters.
      key: a JAX key.
      degradation: a mask without noise.
      y: the masked image.
      context: that of the model.
      num_draws: S.
      truth: not used: there is no density.
      num_steps: T.
      jump: the length j of a jump.
      resample: the number of times r that a piece is drawn; 1 for plain replacement.

    Raises `ValueError` for a model without a denoiser, and for other degradations.
    """
    denoiser = _denoiser(model, "replaced")
    integers(num_draws=num_draws, num_steps=num_steps, jump=jump, resample=resample)
    if degradation.mask is None or degradation.noise:
        raise ValueError(
            f"`replaced` requires a mask without noise, and {degradation.name!r} is none; use `guided` or `twisted`"
        )
    degradations.check_observation(degradation, y)
    mask = degradation.mask
    seen = jnp.where(mask, denoiser.scale(jnp.where(mask, y, 0.0)), 0.0)
    moves = jnp.asarray(jumps(num_steps, jump, resample))
    gamma_of = lambda n: denoiser.gamma(params, n / num_steps)  # noqa: E731

    def draw(key):
        key_start, key_steps, key_x = jax.random.split(key, 3)

        def move(z, item):
            index, start, end = item
            key_noise, key_seen = jax.random.split(jax.random.fold_in(key_steps, index))
            noise = jax.random.normal(key_noise, z.shape)
            gamma_t, gamma_s = gamma_of(start), gamma_of(end)

            def down(z):
                z = reverse_step(denoiser, params, z, gamma_t, gamma_s, noise, context)
                return jnp.where(mask, noised(seen, jax.random.normal(key_seen, z.shape), gamma_s), z)

            def up(z):
                (alpha, sigma), (more, most) = alpha_sigma(gamma_t), alpha_sigma(gamma_s)
                ratio = more / alpha
                return ratio * z + jnp.sqrt(jnp.square(most) - jnp.square(ratio * sigma)) * noise

            return jax.lax.cond(end < start, down, up, z), None

        z = jax.random.normal(key_start, denoiser.shape)
        z, _ = jax.lax.scan(move, z, (jnp.arange(len(moves)), moves[:, 0], moves[:, 1]))
        gamma = denoiser.gamma(params, 0.0)
        return _last(denoiser, degradation, z, gamma).given(y).sample(key_x).astype(jnp.float32)

    x = jax.vmap(draw)(jax.random.split(key, num_draws))
    return Restored(x, jnp.mean(x, axis=0))


def jumps(num_steps, jump, resample) -> np.ndarray:
    """Return the moves (n, n - 1) and (n, n + 1) of RePaint from n = T to n = 0 [N, 2], arXiv:2201.09865 app. B."""
    left = dict.fromkeys(range(0, num_steps - jump, jump), resample - 1)
    n, visited = num_steps, [num_steps]
    while n > 0:
        n -= 1
        visited.append(n)
        if left.get(n, 0) > 0:
            left[n] -= 1
            visited.extend(range(n + 1, n + jump + 1))
            n += jump
    return np.stack([visited[:-1], visited[1:]], axis=1).astype(np.int32)


def guided(
    model,
    params,
    key,
    degradation,
    y,
    context=None,
    *,
    num_draws,
    truth=None,
    num_steps=100,
    guide="moments",
    strength=1.0,
    data_scale=0.5,
) -> Restored:
    """Return draws of the reverse process that follow a gradient towards y.

        "norm"      z_s ← z_s - ζ ∇_{z_t} |observe(y) - F x̂(z_t)|            DPS, arXiv:2209.14687 algorithm 1
        "moments"   ε̂ ← ε̂ - ζ σ_t ∇_{z_t} log N(observe(y); F x̂(z_t), S² + r_t² F Fᵀ),  r_t² = 1 / (1/c² + α_t²/σ_t²)

    x̂ is the denoised image, and r_t² the variance of y given z_t if the prior of an entry were normal with the
    deviation c (openreview:9_gsMA8MRKQ has c = 1). |.| is in the units of the diffusion, in which x lies in [-1, 1].
    Both differentiate the denoiser once a step.

    Args:
      model: a `core.Model` with a `denoiser`.
      params: its parameters.
      key: a JAX key.
      degradation: a linear degradation.
      y: the degraded image.
      context: that of the model.
      num_draws: S.
      truth: not used: there is no density.
      num_steps: T.
      guide: "norm" or "moments".
      strength: ζ.
      data_scale: c.

    Raises `ValueError` for a model without a denoiser, and for a degradation that is not linear.
    """
    denoiser = _denoiser(model, "guided")
    integers(num_draws=num_draws, num_steps=num_steps)
    numbers(strength=strength, data_scale=data_scale, above=0)
    one_of(GUIDES, guide=guide)
    target = _Target(denoiser, degradation, y, data_scale)

    def draw(key):
        key_start, key_steps, key_x = jax.random.split(key, 3)

        def step(z, n):
            gamma_t, gamma_s = (denoiser.gamma(params, m / num_steps) for m in (n, n - 1))
            noise = jax.random.normal(jax.random.fold_in(key_steps, n), z.shape)
            epsilon, slope, _ = target.at(params, z, gamma_t, context, norm=guide == "norm")
            if guide == "norm":
                return step_by(denoiser, z, epsilon, gamma_t, gamma_s, noise) + strength * slope, None
            epsilon = epsilon - strength * alpha_sigma(gamma_t)[1] * slope
            return step_by(denoiser, z, epsilon, gamma_t, gamma_s, noise), None

        z, _ = jax.lax.scan(step, jax.random.normal(key_start, denoiser.shape), jnp.arange(num_steps, 0, -1))
        gamma = denoiser.gamma(params, 0.0)
        return _last(denoiser, degradation, z, gamma).given(y).sample(key_x).astype(jnp.float32)

    x = jax.vmap(draw)(jax.random.split(key, num_draws))
    return Restored(x, jnp.mean(x, axis=0))


def twisted(
    model,
    params,
    key,
    degradation,
    y,
    context=None,
    *,
    num_draws,
    truth=None,
    num_samples=None,
    num_steps=100,
    data_scale=0.5,
    resample_below=0.5,
) -> Restored:
    """Return draws by twisted sequential Monte Carlo, arXiv:2306.17775 algorithm 1, with K particles.

        ψ(z_t) = N(observe(y); F x̂(z_t), S² + r_t² F Fᵀ)
        q(z_s|z_t) = N(mean of the guided step, τ²)
        w ← w p(z_s|z_t) ψ(z_s) / (q(z_s|z_t) ψ(z_t)),    at last w ← w p(y|z_0) / ψ(z_0)

    Arguments are those of `guided`, and K = `num_samples`, by default S; particles are resampled when the effective
    sample size is below `resample_below` K. Weights and draws aim at the p(x|y) of the process with T steps.
    """
    denoiser = _denoiser(model, "twisted")
    count = num_draws if num_samples is None else num_samples
    integers(num_draws=num_draws, num_samples=count, num_steps=num_steps)
    numbers(data_scale=data_scale, above=0)
    numbers(resample_below=resample_below, at_least=0, at_most=1)
    target = _Target(denoiser, degradation, y, data_scale)
    key_start, key_steps, key_x, key_choice = jax.random.split(key, 4)

    def twist(z, gamma):
        return jax.vmap(lambda z: target.at(params, z, gamma, context))(z)

    def step(carry, n):
        z, log_w, (epsilon, slope, log_psi) = carry
        gamma_t, gamma_s = (denoiser.gamma(params, m / num_steps) for m in (n, n - 1))
        key_noise, key_resample = jax.random.split(jax.random.fold_in(key_steps, n))
        index, log_w = particles.resampled(key_resample, log_w, resample_below)
        z, epsilon, slope, log_psi = jax.tree.map(lambda a: a[index], (z, epsilon, slope, log_psi))
        sigma, spread = alpha_sigma(gamma_t)[1], _spread(gamma_t, gamma_s)
        mean = jax.vmap(lambda z, epsilon: step_by(denoiser, z, epsilon, gamma_t, gamma_s, jnp.zeros_like(z)))
        noise = jax.random.normal(key_noise, z.shape)
        plain, new = mean(z, epsilon), mean(z, epsilon - sigma * slope) + spread * noise
        rows = lambda a: jnp.sum(jnp.square(a).reshape(count, -1), axis=1)  # noqa: E731
        log_ratio = 0.5 * (rows(noise) - rows((new - plain) / spread))
        twisted = twist(new, gamma_s)
        return (new, log_w + log_ratio + twisted[2] - log_psi, twisted), None

    gamma = denoiser.gamma(params, 1.0)
    z = jax.random.normal(key_start, (count, *denoiser.shape))
    start = twist(z, gamma)
    (z, log_w, (_, _, log_psi)), _ = jax.lax.scan(step, (z, start[2], start), jnp.arange(num_steps, 0, -1))
    gamma = denoiser.gamma(params, 0.0)
    log_w = log_w - log_psi + jax.vmap(lambda z: _last(denoiser, degradation, z, gamma).log_prob(y))(z)
    means = jax.vmap(lambda z: _last(denoiser, degradation, z, gamma).given(y).mean())(z)
    index = particles.systematic(key_choice, log_w, num_draws)
    draw = lambda key, z: _last(denoiser, degradation, z, gamma).given(y).sample(key)  # noqa: E731
    x = jax.vmap(draw)(jax.random.split(key_x, num_draws), z[index])
    mean = jnp.tensordot(jax.nn.softmax(log_w), means, axes=1)
    return Restored(x.astype(jnp.float32), mean, log_w)


class _Target:
    """The fit of denoised images to y, where x = (v - b) / a for an image v in the units of the diffusion.

    If y has no noise, S is the noise of z_0, the least that the diffusion knows.
    """

    def __init__(self, denoiser, degradation, y, data_scale):
        degradations.check_observation(degradation, y)
        if degradation.linear is None:
            raise ValueError(f"guidance requires a linear degradation, and {degradation.name!r} is not linear")
        self.denoiser, self.linear, self.data_scale = denoiser, degradation.linear, data_scale
        with jax.ensure_compile_time_eval():
            low, high = (float(jnp.ravel(denoiser.scale(jnp.full(denoiser.shape, v)))[0]) for v in (0.0, 1.0))
        self.slope, self.offset = high - low, low
        # In units of the noise of y, or else of the diffusion, the rows have F Fᵀ = U diag(λ) Uᵀ.
        self.noisy = bool(np.all(self.linear.scale))
        self.scale = self.linear.scale if self.noisy else np.full(self.linear.scale.shape, 1.0 / abs(self.slope))
        if degradation.mask is None:
            rows = degradations.matrix(degradation).astype(np.float64) / (self.slope * self.scale[:, None])
            values, vectors = np.linalg.eigh(rows @ rows.T)
            self.values, self.vectors = np.maximum(values, 0.0).astype(np.float32), vectors.astype(np.float32)
        else:
            self.values, self.vectors = (1.0 / np.square(self.slope * self.scale)).astype(np.float32), None
        self.seen = degradation.linear.observe(y)

    def residual(self, clean):
        """Return observe(y) - F x̂, in the units of x."""
        return self.seen - self.linear.forward((clean - self.offset) / self.slope)

    def at(self, params, z, gamma, context, *, norm=False):
        """Return ε̂(z), the gradient that guides z, and log ψ(z); ε̂ without a clip."""
        alpha, sigma = alpha_sigma(gamma)

        def log_psi(z):
            epsilon = self.denoiser.noise(params, z, gamma, context)
            residual = self.residual((z - sigma * epsilon) / alpha)
            if norm:
                size = self.slope * jnp.sqrt(jnp.sum(jnp.square(residual)) + 1e-12)
                return -size, epsilon
            spread = 1.0 / (1.0 / self.data_scale**2 + jnp.square(alpha / sigma))
            u = residual / self.scale
            u = u if self.vectors is None else self.vectors.T @ u
            least = 1.0 if self.noisy else jnp.exp(self.denoiser.gamma(params, 0.0))
            variance = least + spread * self.values
            return -0.5 * jnp.sum(jnp.square(u) / variance + jnp.log(variance)), epsilon

        (value, epsilon), slope = jax.value_and_grad(log_psi, has_aux=True)(z)
        return epsilon, slope, value


def _spread(gamma_t, gamma_s):
    """Return the deviation of an ancestral step, τ = σ_s √(1 - e^{γ_s - γ_t})."""
    return alpha_sigma(gamma_s)[1] * jnp.sqrt(-jnp.expm1(gamma_s - gamma_t))


def _last(denoiser, degradation, z, gamma):
    """Return p(y|z_0), with its `given`, from p(x|z_0)."""
    return through(denoiser.decode(z / alpha_sigma(gamma)[0], gamma), degradation)


def _denoiser(model, method):
    if model.denoiser is None:
        raise ValueError(f"`{method}` requires a diffusion model (`denoiser`), and this model is none")
    return model.denoiser
