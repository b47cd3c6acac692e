"""EM with an exact E step, on 4x4 images that one latent explains."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.core import Latent
from vae_jax.data import synthetic
from vae_jax.distributions import Normal
from vae_jax.inference import em
from vae_jax.inference import grid as grids

LINE = grids.even((), low=-6.0, high=6.0, num_points=241)


def decode(params, z, context=None):
    """x = W (1, z, z²): a curve in the space of images."""
    features = jnp.stack([jnp.ones_like(z), z, jnp.square(z)])
    return Normal(params["weight"] @ features, jnp.broadcast_to(params["log_scale"], (4, 4, 1)))


LATENT = Latent(lambda params, context=None: Normal.standard(()), None, decode)


@pytest.fixture(scope="module")
def data():
    return {"x": jnp.asarray(synthetic.four_by_four("train")[1][:60])}


@pytest.fixture(scope="module")
def params():
    weight = 0.1 * np.random.default_rng(0).normal(size=(4, 4, 1, 3)) + np.array([0.5, 0.0, 0.0])
    return {"weight": jnp.asarray(weight, jnp.float32), "log_scale": jnp.array(-1.0)}


def test_it_never_lowers_the_likelihood(data, params):
    """Even where single steps of the M step overshoot: one learning rate is far too high."""
    gains = []
    for rate in (0.5, 0.02):
        step = jax.jit(
            lambda p, rate=rate: em.step(LATENT, p, data, grid=LINE, optimizer=optax.adam(rate), num_steps=20)
        )
        current, seen = params, []
        for _ in range(10):
            current, log_prob = step(current)
            seen.append(float(log_prob))
        assert np.all(np.diff(seen) > -1e-4), seen
        gains.append(seen[-1] - seen[0])
    assert gains[1] > 5


def test_the_gradient_of_the_expectation_is_that_of_the_evidence(data, params):
    """Fisher's identity."""

    def evidence(params, x):
        return grids.posterior(LATENT, params, x, grid=LINE).log_prob

    def expectation(params, x):
        exact = jax.lax.stop_gradient(grids.posterior(LATENT, params, x, grid=LINE))
        return em.expected_log_joint(LATENT, params, exact, x, grid=LINE)

    for x in data["x"][:3]:
        given, expected = (jax.jit(jax.grad(f))(params, x) for f in (expectation, evidence))
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2), given, expected)
