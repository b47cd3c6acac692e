"""The flow of an ODE against the matrix exponential, and the estimate of its log-determinant against the exact one."""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.linalg

from vae_jax.bijectors import Continuous
from vae_jax.bijectors.continuous import rademacher, value_and_divergence

D, T = 3, 0.7
MATRIX = np.random.default_rng(0).normal(scale=0.7, size=(D, D)).astype(np.float32)
POINTS = np.random.default_rng(1).normal(size=(5, D)).astype(np.float32)


def velocity(params, z, t):
    """A z for c = 0, and a velocity that bends and depends on time for c = 1: one compiled program for both."""
    a, c = params
    return (1.0 - c) * (a @ z) + c * (jnp.tanh(a @ z + t) - 0.3 * z)


LINEAR, CURVED = 0.0, 1.0
STEP = 0.02  # of differences


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, 0))
def both_ways(c, x):
    """Images and log-determinants of the map and of its inverse."""
    flow = Continuous((MATRIX, c), velocity, end=T)
    y, log_det = flow.forward_and_log_det(x)
    return y, log_det, *flow.inverse_and_log_det(y)


def test_a_linear_equation_is_the_matrix_exponential():
    y, log_det, *_ = both_ways(LINEAR, POINTS)
    np.testing.assert_allclose(y, POINTS @ scipy.linalg.expm(MATRIX * T).T, atol=1e-4)
    np.testing.assert_allclose(log_det, np.full(5, np.trace(MATRIX) * T), atol=1e-4)


@pytest.mark.parametrize("c", [LINEAR, CURVED])
def test_the_inverse_undoes_it(c):
    _, log_det, back, inverse_log_det = both_ways(c, POINTS)
    np.testing.assert_allclose(back, POINTS, atol=1e-4)
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1e-4)


@pytest.mark.parametrize("c", [LINEAR, CURVED])
def test_the_log_determinant_is_that_of_the_jacobian(c):
    log_det = both_ways(c, POINTS)[1]
    apart = STEP * np.concatenate([np.eye(D), -np.eye(D)]).astype(np.float32)
    for x, expected in zip(POINTS, log_det, strict=True):
        ahead, behind = np.split(np.asarray(both_ways(c, x + apart)[0], np.float64), 2)
        np.testing.assert_allclose(np.linalg.slogdet((ahead - behind) / (2 * STEP))[1], expected, atol=5e-3)


@pytest.mark.slow
def test_the_estimate_of_the_log_determinant_is_unbiased():
    """The path does not depend on the probe, and the mean over probes is the exact number."""
    keys = jax.random.split(jax.random.key(0), 400)

    @jax.jit
    def run(x):
        flow = Continuous((MATRIX, CURVED), velocity, end=T)
        return jax.vmap(lambda key: flow.replace(probes=rademacher(key, (D,))).forward_and_log_det(x))(keys)

    y, estimates = run(POINTS[0])
    exact_y, exact, *_ = both_ways(CURVED, POINTS[:1])
    assert np.ptp(y, axis=0).max() == 0
    np.testing.assert_allclose(y[0], exact_y[0], atol=1e-4)
    error = np.mean(estimates) - exact[0]
    assert abs(error) < 5 * np.std(estimates) / np.sqrt(len(keys)) + 1e-4 < 0.2


def test_the_mean_over_all_probes_is_the_trace():
    """There are 2^D vectors of signs; over all of them the estimate is exact, also for an image."""
    signs = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 4, indexing="ij"), axis=-1).reshape(-1, 2, 2, 1)
    function = lambda z: jnp.tanh(jnp.cumsum(z.ravel() ** 2)).reshape(z.shape)  # noqa: E731
    z = jnp.linspace(-1.0, 1.0, 4).reshape(2, 2, 1)
    value, exact = value_and_divergence(function, z)
    np.testing.assert_allclose(exact, np.trace(jax.jacobian(function)(z).reshape(4, 4)), rtol=1e-5)
    np.testing.assert_allclose(value_and_divergence(function, z, jnp.asarray(signs))[1], exact, rtol=1e-5)
    np.testing.assert_array_equal(value, function(z))


def test_one_example_does_not_depend_on_its_batch_mates():
    """An adaptive solver takes the steps of each example by itself, also beside a much harder one."""
    batch = POINTS.copy()
    batch[1:] *= 30.0
    for a, b in zip(both_ways(CURVED, batch), both_ways(CURVED, POINTS), strict=True):
        a, b = a[0], b[0]
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_gradients_are_finite_and_right():
    """d log|det| / dA of a linear equation is t I."""
    flow = lambda a: Continuous((a, LINEAR), velocity, end=T).forward_and_log_det(POINTS[0])[1]  # noqa: E731
    np.testing.assert_allclose(jax.jit(jax.grad(flow))(MATRIX), T * np.eye(D), atol=1e-4)


@pytest.mark.slow
def test_too_few_steps_are_no_number():
    y, log_det = jax.jit(lambda x: Continuous((50.0 * MATRIX, LINEAR), velocity, max_steps=3).forward_and_log_det(x))(
        POINTS[0]
    )
    assert np.isnan(log_det) and np.isnan(y).all()


def test_without_the_extra_the_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffrax", None)
    with pytest.raises(ImportError, match=r"pip install 'vae_jax\[ode\]'"):
        Continuous((MATRIX, LINEAR), velocity).forward_and_log_det(POINTS[0])
