"""Toy models of the kinds that fill only some fields of `core.Model`, for real vectors x of any shape.

`bound_only` has a bound of log p(x) and draws, as a diffusion model. `gan` has only draws. `codebook` is an
auto-encoder whose codebook the optimiser does not see.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.core import Aux, Latent, Model, by_loss, per_example
from vae_jax.distributions import Deterministic, Normal

stop_gradient = jax.lax.stop_gradient


def noise_schedule(num_steps):
    """Return α_t and σ_t, [T + 1] each, float64: α² + σ² = 1 and log α²/σ² falls linearly from 4 to -4."""
    alpha_squared = 1.0 / (1.0 + np.exp(-np.linspace(4.0, -4.0, num_steps + 1)))
    return np.sqrt(alpha_squared), np.sqrt(1.0 - alpha_squared)


def bound_only(num_steps=8) -> Model:
    """Return a diffusion model whose denoiser is affine: x̂_t = a_t z_t + b_t, z_t = α_t x + σ_t ε.  arXiv:2107.00630.

    One draw of a step t and of z_t gives an unbiased estimate of the bound

        E log p(x|z_0) - KL(q(z_T|x) || N(0, I)) - ½ Σ_t (SNR_{t-1} - SNR_t) E|x - x̂_t|²,  SNR_t = α_t²/σ_t².

    Params are {"scale": a [T], "shift": b [T, *event]}. It fills `sample` and `bound` only.
    """
    alpha, sigma = (jnp.asarray(a, jnp.float32) for a in noise_schedule(num_steps))
    snr = jnp.square(alpha / sigma)

    def init(key, batch):
        return {"scale": jnp.zeros(num_steps), "shift": jnp.zeros((num_steps, *batch["x"].shape[1:]))}

    def denoise(params, z, t):
        return params["scale"][t - 1] * z + params["shift"][t - 1]

    def bound(params, key, x, context=None):
        key_t, key_z = jax.random.split(key)
        t = jax.random.randint(key_t, (), 1, num_steps + 1)
        z = alpha[t] * x + sigma[t] * jax.random.normal(key_z, x.shape)
        error = jnp.sum(jnp.square(x - denoise(params, z, t)))
        diffusion = 0.5 * num_steps * (snr[t - 1] - snr[t]) * error
        log_lik = -0.5 * x.size * (jnp.log(2.0 * jnp.pi / snr[0]) + 1.0)
        variance = jnp.square(sigma[-1])
        kl = 0.5 * (jnp.sum(jnp.square(alpha[-1] * x)) + x.size * (variance - 1.0 - jnp.log(variance)))
        return log_lik - kl - diffusion

    def loss(params, key, batch, step):
        value = per_example(bound)(params, key, batch)
        return -value, Aux({"bound": value})

    def sample(params, key, context=None):
        """z_T ~ N(0, I), then z_{t-1} ~ q(z_{t-1} | z_t, x = x̂_t), then x ~ N(z_0 / α_0, 1 / SNR_0)."""
        keys = jax.random.split(key, num_steps + 2)

        def back(z, item):
            t, key = item
            ratio = alpha[t] / alpha[t - 1]
            left, before = 1.0 - jnp.square(ratio * sigma[t - 1] / sigma[t]), jnp.square(sigma[t - 1])
            mean = ratio * before / jnp.square(sigma[t]) * z + alpha[t - 1] * left * denoise(params, z, t)
            return mean + jnp.sqrt(left * before) * jax.random.normal(key, z.shape), None

        z = jax.random.normal(keys[0], params["shift"].shape[1:])
        z, _ = jax.lax.scan(back, z, (jnp.arange(num_steps, 0, -1), keys[1:-1]))
        return (z + sigma[0] * jax.random.normal(keys[-1], z.shape)) / alpha[0]

    return Model(init, loss, by_loss(loss), sample=sample, bound=bound)


def exact_bound(params, x):
    """The bound of `bound_only` in closed form, [N] for x [N, D], float64."""
    scale, shift, x = (np.asarray(a, np.float64) for a in (params["scale"], params["shift"], x))
    (alpha, sigma), dim = noise_schedule(len(scale)), x.shape[1]
    snr, variance, square = (alpha / sigma) ** 2, sigma[-1] ** 2, np.sum(x**2, axis=1)
    log_lik = -0.5 * dim * (np.log(2 * np.pi / snr[0]) + 1)
    kl = 0.5 * (alpha[-1] ** 2 * square + dim * (variance - 1 - np.log(variance)))
    bias = x[:, None] * (1 - scale * alpha[1:])[None, :, None] - shift[None]
    error = np.sum(bias**2, axis=2) + (dim * scale**2 * sigma[1:] ** 2)[None]
    return log_lik - kl - 0.5 * error @ (snr[:-1] - snr[1:])


def gan(penalty=0.1) -> Model:
    """Return two players in one loss: a generator x = μ + s ε and a critic D(x) = u·x + v·x² + c.

    The critic minimises softplus(-D(x)) + softplus(D(G(ε))) + ½ γ |∇D(x)|² (R1, arXiv:1801.04406 eq. (9),
    γ = `penalty`), the generator softplus(-D(G(ε))). Neither gets a gradient of the other's loss. The best critic of
    two normals is a quadratic function. Params are {"generator": {"loc", "log_scale"}, "critic": {"linear", "square",
    "bias"}}. It fills `sample` only.
    """

    def init(key, batch):
        zeros = jnp.zeros(batch["x"].shape[1:])
        critic = {"linear": zeros, "square": zeros, "bias": jnp.zeros(())}
        return {"generator": {"loc": zeros, "log_scale": zeros}, "critic": critic}

    def score(critic, x):
        return jnp.sum(critic["linear"] * x + critic["square"] * jnp.square(x)) + critic["bias"]

    def sample(params, key, context=None):
        return Normal(**params["generator"]).sample(key)

    def players(params, key, x, context=None):
        fake = sample(params, key)
        slope = jax.grad(score, argnums=1)(params["critic"], x)
        apart = jax.nn.softplus(-score(params["critic"], x)) + jax.nn.softplus(
            score(params["critic"], stop_gradient(fake))
        )
        critic = apart + 0.5 * penalty * jnp.sum(jnp.square(slope))
        return critic, jax.nn.softplus(-score(stop_gradient(params["critic"]), fake))

    def loss(params, key, batch, step):
        critic, generator = per_example(players)(params, key, batch)
        return critic + generator, Aux({"critic": critic, "generator": generator})

    return Model(init, loss, by_loss(loss), sample=sample)


def codebook(num_codes=3, decay=0.9) -> Model:
    """Return an auto-encoder by K codes, k-means with exponential averages.  arXiv:1711.00937 app. A.1.

    The code of x is the nearest e_k = m_k / N_k, and p(x|e) = N(e + b, I) with b learned by gradient. The state moves
    by N_k ← d N_k + (1-d) n_k and m_k ← d m_k + (1-d) Σ_{x nearest to k} x, where n_k counts these x. Params are
    {"decoder": b, "state": {"count": N [K], "total": m [K, *event]}}. It fills `latent`, without a prior.
    """

    def init(key, batch):
        x = batch["x"]
        state = {"count": jnp.ones(num_codes), "total": jnp.resize(x, (num_codes, *x.shape[1:]))}
        return {"decoder": jnp.zeros(x.shape[1:]), "state": state}

    def codes(params):
        state = params["state"]
        return state["total"] / state["count"].reshape(-1, *[1] * (state["total"].ndim - 1))

    def nearest(params, x):
        distances = jax.vmap(lambda code: jnp.sum(jnp.square(x - code)))(codes(params))
        return jnp.argmin(distances)

    def posterior(params, x, context=None):
        return Deterministic(codes(params)[nearest(params, x)])

    def likelihood(params, z, context=None):
        return Normal(z + params["decoder"], jnp.zeros_like(z))

    def distortion(params, x):
        return -likelihood(params, posterior(params, x).mean()).log_prob(x)

    def loss(params, key, batch, step):
        x, state = batch["x"], params["state"]
        chosen = jax.nn.one_hot(jax.vmap(nearest, (None, 0))(params, x), num_codes)
        new = {"count": jnp.sum(chosen, axis=0), "total": jnp.tensordot(chosen, x, axes=(0, 0))}
        value = jax.vmap(distortion, (None, 0))(params, x)
        average = jax.tree.map(lambda old, new: decay * old + (1.0 - decay) * new, state, new)
        return value, Aux({"distortion": value}, average)

    return Model(init, loss, by_loss(loss), latent=Latent(None, posterior, likelihood))
