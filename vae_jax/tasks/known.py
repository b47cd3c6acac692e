"""Problems whose posterior p(x|y) is known: data, a degradation, a model with several fields, and exact draws.

Each is a `Problem` of small images. The model's fields give different samplers the same p(x): the denoiser of a mixture
of Gaussians is its exact posterior mean, the encoder of factor analysis its exact posterior. Errors of a sampler are
then its own, and not those of a network.

    mixture        4 x 4 real images, three Gaussians      density, denoiser     closed form
    factors        4 x 4 real images, factor analysis      density, latent       closed form
    bar            4 x 4 images of `data.synthetic`: one z moves a bar   latent   quadrature
    tree           3 x 4 bits, a random tree               density               message passing, enumeration
    bits           3 x 4 bits, one after the other         density               enumeration
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import degradations
from vae_jax.core import Denoiser, Event, Latent, Model, tractable
from vae_jax.distributions import (
    Autoregressive,
    Bernoulli,
    LowRankNormal,
    Mixture,
    MultivariateNormal,
    Normal,
    Reshaped,
    Tree,
)
from vae_jax.distributions.diffusion import alpha_sigma
from vae_jax.inference import grid
from vae_jax.support import Binary, Real
from vae_jax.tasks import restore
from vae_jax.tasks.observation import observed, through

REAL, BITS = Event((4, 4, 1), Real()), Event((3, 4, 1), Binary())
GAMMA = (-10.0, 8.0)  # the ends of the noise schedule of the mixture


class Problem(NamedTuple):
    """A distribution of images, and what its posterior is."""

    name: str
    event: Event
    model: Model
    params: Any
    sample: Callable  # key -> x
    exact: Callable  # (key, degradation, y, num_draws) -> `restore.Restored`


def mixture() -> Problem:
    """Return a mixture of three Gaussians with full covariances over 4 x 4 real images."""
    rng, size = np.random.default_rng(0), 16
    factors = rng.normal(size=(3, size, 3)) * 0.35
    covariance = factors @ factors.transpose(0, 2, 1) + 0.08**2 * np.eye(size)
    loc = rng.normal(size=(3, size)) * 0.5
    density = Mixture(
        jnp.log(jnp.array([0.5, 0.3, 0.2])),
        MultivariateNormal(jnp.asarray(loc, jnp.float32), jnp.asarray(np.linalg.cholesky(covariance), jnp.float32)),
    )
    values, vectors = (jnp.asarray(a, jnp.float32) for a in np.linalg.eigh(covariance))

    def noise(params, z, gamma, context=None, **options):
        """Return ε̂ = -σ ∇ log q(z_t), where q(z_t) is the mixture of N(α m_k, α² Σ_k + σ² I)."""
        alpha, sigma = alpha_sigma(gamma)
        spread = jnp.square(alpha) * values + jnp.square(sigma)  # [K, D], in the basis of Σ_k
        residual = jnp.einsum("kdi,kd->ki", vectors, jnp.ravel(z)[None] - alpha * density.components.loc)
        log_joint = density.log_weights() - 0.5 * jnp.sum(jnp.square(residual) / spread + jnp.log(spread), axis=1)
        means = jnp.einsum("kdi,ki->kd", vectors, residual / spread)
        return (sigma * jax.nn.softmax(log_joint) @ means).reshape(z.shape)

    low, high = GAMMA
    denoiser = Denoiser(
        shape=REAL.shape,
        gamma=lambda params, t: low + (high - low) * jnp.asarray(t, jnp.float32),
        rate=None,
        noise=noise,
        scale=lambda x: x,
        decode=lambda y, gamma: Normal(y, jnp.full(jnp.shape(y), 0.5 * gamma)),
    )
    model = tractable(None, lambda params, context=None: Reshaped(density, REAL.shape), denoiser=denoiser)
    return Problem("mixture", REAL, model, None, model.density(None).sample, _by(restore.exact, model))


def factors() -> Problem:
    """Return factor analysis with three factors over 4 x 4 real images, p(x|z) = N(W z + m, Ψ)."""
    rng, size, dim = np.random.default_rng(1), 16, 3
    factor = jnp.asarray(rng.normal(size=(size, dim)) * 0.5, jnp.float32)
    loc = jnp.asarray(rng.normal(size=size) * 0.5, jnp.float32)
    log_scale = jnp.asarray(np.log(rng.uniform(0.1, 0.2, size=size)), jnp.float32)
    shape = REAL.shape

    def likelihood(params, z, context=None):
        return Normal((loc + factor @ z).reshape(shape), log_scale.reshape(shape))

    def posterior(params, x, context=None):
        """Return N(M⁻¹ Wᵀ Ψ⁻¹ (x - m), M⁻¹), M = I + Wᵀ Ψ⁻¹ W."""
        weighted = factor * jnp.exp(-2.0 * log_scale)[:, None]
        covariance = jnp.linalg.inv(jnp.eye(dim) + factor.T @ weighted)
        return MultivariateNormal(covariance @ (weighted.T @ (jnp.ravel(x) - loc)), jnp.linalg.cholesky(covariance))

    latent = Latent(lambda params, context=None: Normal.standard((dim,)), posterior, likelihood)
    density = Reshaped(LowRankNormal(loc, log_scale, factor), shape)
    model = tractable(None, lambda params, context=None: density, latent=latent)
    return Problem("factors", REAL, model, None, density.sample, _by(restore.exact, model))


def bar() -> Problem:
    """Return the bright bar that one z moves over 4 x 4 images, p(x|z) = N(μ(z), 0.07² I).

    The process is that of `data.synthetic.four_by_four`. p(x|y) is a quadrature over z.
    """
    columns = jnp.arange(1.0, 5.0)
    points = grid.even((1,), low=-6.0, high=6.0, num_points=1201)

    def likelihood(params, z, context=None):
        row = 0.35 + 0.3 * jnp.exp(-0.5 * jnp.square((columns - 2.5 - 1.2 * z[0]) / 0.8))
        mean = jnp.broadcast_to(row[None, :, None], REAL.shape)
        return Normal(mean, jnp.full(REAL.shape, np.log(0.07), jnp.float32))

    def prior(params, context=None):
        return Normal.standard((1,))

    latent = Latent(prior, lambda params, x, context=None: Normal(jnp.zeros(1), jnp.zeros(1)), likelihood)

    def sample(key):
        key_z, key_x = jax.random.split(key)
        return likelihood(None, prior(None).sample(key_z)).sample(key_x)

    def exact(key, degradation, y, num_draws):
        seen = observed(latent, degradation)
        found = grid.posterior(seen, None, y, grid=points)
        log_w = found.log_density + points.log_weight
        given = lambda z: through(likelihood(None, z), degradation).given(y)  # noqa: E731
        key_z, key_x = jax.random.split(key)
        z = points.points[jax.random.categorical(key_z, log_w, shape=(num_draws,))]
        draws = jax.vmap(lambda key, z: given(z).sample(key))(jax.random.split(key_x, num_draws), z)
        means = jax.vmap(lambda z: given(z).mean())(points.points)
        return restore.Restored(draws, jnp.tensordot(jax.nn.softmax(log_w), means, axes=1))

    model = Model(None, None, None, sample=None, latent=latent)
    return Problem("bar", REAL, model, None, sample, exact)


def tree() -> Problem:
    """Return a random tree over 3 x 4 bits. Its posterior is that of the enumeration of all 4096 images."""
    rng, size = np.random.default_rng(2), 12
    parent = np.array([0, *[rng.integers(max(0, d - 3), d) for d in range(1, size)]])
    logits = np.stack([rng.normal(-1.5, 0.7, size), rng.normal(1.5, 0.7, size)], axis=1).astype(np.float32)
    logits[0] = 0.0
    density = Reshaped(Tree(np.arange(size, dtype=np.int32), parent.astype(np.int32), logits), BITS.shape)
    model = tractable(None, lambda params, context=None: density)
    return Problem("tree", BITS, model, None, density.sample, _by(restore.enumerated, model))


def bits() -> Problem:
    """Return 3 x 4 bits, each a logistic regression on the earlier ones: a fully visible belief network."""
    rng, size = np.random.default_rng(3), 12
    weight = jnp.asarray(np.tril(rng.normal(size=(size, size)) * 1.5, -1), jnp.float32)
    bias = jnp.asarray(rng.normal(size=size) * 0.5, jnp.float32)
    density = Reshaped(
        Autoregressive(None, lambda params, x: Bernoulli(bias + weight @ (2.0 * x - 1.0)), (size,), Binary()),
        BITS.shape,
    )
    model = tractable(None, lambda params, context=None: density)
    return Problem("bits", BITS, model, None, density.sample, _by(restore.enumerated, model))


def problems() -> dict:
    """Return all problems by name."""
    return {make.__name__: make() for make in (mixture, factors, bar, tree, bits)}


def tasks(event) -> dict:
    """Return the degradations under which the samplers are measured, by name: {name: `degradations.Degradation`}."""
    height, width = event.shape[:2]
    few = {
        "bottom": degradations.half(event, side="bottom"),
        "top": degradations.half(event, side="top"),
        "noise": degradations.identity(event, scale=0.5 if event == BITS else 0.3),
    }
    if event == BITS:
        return few
    low = degradations.downsample(event, size=(height // 2, width // 2), scale=0.05)
    return few | {"downsample": low, "blur": degradations.blur(event, width=0.8, scale=0.1)}


def simulated(problem, degradation, key):
    """Return x ~ p(x) and y ~ p(y|x)."""
    key_x, key_y = jax.random.split(key)
    x = problem.sample(key_x).astype(jnp.float32)
    return x, degradation.sample(key_y, x)


def _by(method, model):
    def exact(key, degradation, y, num_draws):
        return method(model, None, key, degradation, y, num_draws=num_draws)

    return exact
