"""The likelihood by the probability-flow equation, with the exact denoiser of mixtures whose log p(x) is known."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special
import scipy.stats

from vae_jax.distributions import Categorical, Normal
from vae_jax.objectives import probability_flow

ENDS = np.array([-10.0, 9.0], np.float32)
MEANS = np.array([[-1.5, 0.5], [1.0, 1.0], [0.0, -1.2]], np.float32)
WEIGHTS, SCALE = np.array([0.5, 0.3, 0.2], np.float32), 0.4
VALUES = np.linspace(-1.0, 1.0, 3, dtype=np.float32)
PIXELS = np.stack(np.meshgrid(VALUES, VALUES, indexing="ij"), axis=-1).reshape(-1, 2)
MASS = np.random.default_rng(0).dirichlet(np.ones(9)).astype(np.float32)


def mixture(params, z, gamma, context=None):
    """ε̂ = -σ ∇log q(z) of y ~ Σ_k w_k N(m_k, s² I)."""
    means, weights, scale = params
    alpha, sigma = jnp.sqrt(jax.nn.sigmoid(-gamma)), jnp.sqrt(jax.nn.sigmoid(gamma))
    variance = jnp.square(alpha * scale) + jnp.square(sigma)
    apart = z[None] - alpha * means
    each = jax.nn.softmax(jnp.log(weights) - 0.5 * jnp.sum(jnp.square(apart), axis=-1) / variance)
    return sigma * (each @ apart) / variance


def denoiser(decode, scale=lambda x: x):
    gamma = lambda params, t: ENDS[0] + t * (ENDS[1] - ENDS[0])  # noqa: E731
    return types.SimpleNamespace(shape=(2,), gamma=gamma, noise=mixture, scale=scale, decode=decode)


REAL = denoiser(lambda y, gamma: Normal(y, jnp.full(2, 0.5 * gamma)))
LOGITS = lambda y, gamma: -0.5 * jnp.exp(-gamma) * jnp.square(y[:, None] - VALUES[None])  # noqa: E731
LEVELS = denoiser(lambda y, gamma: Categorical(LOGITS(y, gamma)), lambda x: x - 1.0)


def estimates(denoiser, params, x, num_samples, **options):
    """Return the mean of estimates for every example, and its standard error, [N] each."""
    keys = jax.random.split(jax.random.key(0), (len(x), num_samples))
    one = lambda key, x: probability_flow.bound(denoiser, params, key, x, **options)  # noqa: E731
    values = np.asarray(jax.jit(jax.vmap(jax.vmap(one, (0, None))))(keys, x))
    return values.mean(axis=1), values.std(axis=1) / np.sqrt(num_samples)


@pytest.mark.parametrize("trace", ["exact", pytest.param("hutchinson", marks=pytest.mark.slow)])
def test_the_density_of_a_mixture(trace):
    x = np.random.default_rng(1).normal(size=(6, 2)).astype(np.float32)
    log_normals = scipy.stats.norm(MEANS, SCALE).logpdf(x[:, None]).sum(axis=-1)
    expected = scipy.special.logsumexp(log_normals + np.log(WEIGHTS), axis=1)
    found, error = estimates(REAL, (MEANS, WEIGHTS, SCALE), x, 40 if trace == "exact" else 200, trace=trace)
    assert np.all(np.abs(found - expected) < 5 * error + 1e-2) and error.max() < 0.5


@pytest.mark.slow
def test_the_mass_of_levels():
    """The bound is the log-mass where the noise at γ_0 is far below the distance of two levels."""
    x = (PIXELS + 1.0).astype(np.float32)
    found, error = estimates(LEVELS, (PIXELS, MASS, 0.0), x, 20)
    assert np.all(np.abs(found - np.log(MASS)) < 5 * error + 1e-2) and error.max() < 0.1
    assert abs(np.exp(found).sum() - 1.0) < 5e-3
