"""Mixtures against scipy."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.integrate
import scipy.stats

from vae_jax.distributions import Bernoulli, Mixture, Normal
from vae_jax.support import Binary

WEIGHTS = np.array([0.2, 0.5, 0.3])
LOCS, SCALES = np.array([[-3.0, 1.0], [0.5, -2.0], [2.0, 2.0]]), np.array([[0.5, 1.0], [1.5, 0.3], [0.7, 0.7]])
MIXTURE = Mixture(
    jnp.asarray(np.log(WEIGHTS) + 3.0, jnp.float32),  # logits are defined up to a constant
    Normal(jnp.asarray(LOCS, jnp.float32), jnp.asarray(np.log(SCALES), jnp.float32)),
)


def scipy_density(x):
    return sum(
        w * np.prod(scipy.stats.norm(m, s).pdf(x), axis=-1) for w, m, s in zip(WEIGHTS, LOCS, SCALES, strict=True)
    )


def test_log_prob():
    x = np.random.default_rng(0).normal(scale=2.0, size=(50, 2))
    given = jax.vmap(MIXTURE.log_prob)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(given, np.log(scipy_density(x)), rtol=1e-4, atol=1e-4)


def test_it_integrates_to_one():
    one = jax.tree.map(lambda a: a[:, :1], MIXTURE.components)
    density = jax.jit(lambda x: jnp.exp(Mixture(MIXTURE.logits, one).log_prob(x[None])))
    np.testing.assert_allclose(scipy.integrate.quad(density, -20, 20, limit=200)[0], 1.0, atol=1e-5)


def test_samples_are_of_it(assert_mean):
    x = np.asarray(jax.vmap(MIXTURE.sample)(jax.random.split(jax.random.key(0), 5000)), np.float64)
    assert_mean(x, WEIGHTS @ LOCS)
    assert_mean(x**2, WEIGHTS @ (LOCS**2 + SCALES**2))
    assert_mean(x[:, 0] * x[:, 1], WEIGHTS @ (LOCS[:, 0] * LOCS[:, 1]))


def test_mean():
    np.testing.assert_allclose(MIXTURE.mean(), WEIGHTS @ LOCS, rtol=1e-5)


def test_far_logits_are_finite():
    value, gradient = jax.value_and_grad(
        lambda logits: Mixture(logits, MIXTURE.components).log_prob(jnp.array([1e4, -1e4]))
    )(jnp.array([1e4, -1e4, 0.0]))
    assert np.isfinite(value) and np.isfinite(gradient).all()


def test_components_of_any_kind_and_any_event():
    bits = Mixture(jnp.zeros(2), Bernoulli(jnp.array([[[3.0, -3.0]], [[-3.0, 3.0]]])))
    assert bits.support == Binary() and bits.sample(jax.random.key(0)).shape == (1, 2)
    every = jnp.array([[[a, b]] for a in (0.0, 1.0) for b in (0.0, 1.0)])
    np.testing.assert_allclose(np.exp(jax.vmap(bits.log_prob)(every)).sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(bits.mean(), 0.5, rtol=1e-5)


def test_arrays_of_the_host_are_drawn_from_under_jit():
    """As parameters are once they have been read from a checkpoint or gathered from devices."""
    logits, loc = np.zeros(3, np.float32), np.arange(6, dtype=np.float32).reshape(3, 2)
    draw = jax.jit(lambda key: Mixture(logits, Normal(loc, np.full((3, 2), -8.0, np.float32))).sample(key))
    drawn = np.asarray(jax.vmap(draw)(jax.random.split(jax.random.key(0), 200)))
    assert {tuple(row) for row in np.round(drawn).tolist()} == {(0.0, 1.0), (2.0, 3.0), (4.0, 5.0)}
