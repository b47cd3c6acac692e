"""Against float64, and at the ends of the range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.numerics import (
    bits_per_dim,
    effective_sample_size,
    log1mexp,
    log_mean_exp,
    scale_gradient,
    soft_clip,
    straight_through,
    sum_softplus,
)

FAR = jnp.array([-1e4, 1e4, -1e4, 1e4, 0.0, 90.0])


@pytest.mark.parametrize("shape", [(1,), (7,), (64,), (5, 3, 2), (784,)])
def test_sum_softplus_and_its_gradient(shape):
    x = np.random.default_rng(0).normal(scale=8.0, size=shape).astype(np.float32)
    value, gradient = jax.value_and_grad(sum_softplus)(jnp.asarray(x))
    np.testing.assert_allclose(value, np.logaddexp(0, x.astype(np.float64)).sum(), rtol=1e-6)
    np.testing.assert_allclose(gradient, 1 / (1 + np.exp(-x.astype(np.float64))), rtol=1e-5)


def test_sum_softplus_far_out():
    value, gradient = jax.value_and_grad(sum_softplus)(FAR)
    np.testing.assert_allclose(value, 2e4 + np.log(2) + 90.0, rtol=1e-6)
    np.testing.assert_array_equal(gradient, [0, 1, 0, 1, 0.5, 1])


def test_sum_softplus_is_linear_in_its_tangent():
    tangent = jnp.arange(6.0)
    slope = jax.jvp(sum_softplus, (FAR,), (tangent,))[1]
    np.testing.assert_allclose(slope, tangent @ jax.grad(sum_softplus)(FAR), rtol=1e-6)


def test_log1mexp_is_accurate_at_both_ends():
    x = np.array([1e-30, 1e-10, 1e-5, 0.1, 0.6931, 0.6932, 1.0, 15.0, 50.0, 80.0], np.float32)
    wide = x.astype(np.float64)
    exact = np.where(wide < 20, np.log(-np.expm1(-wide)), -np.exp(-wide))  # far out even float64 has 1 - e⁻ˣ = 1
    np.testing.assert_allclose(log1mexp(jnp.asarray(x)), exact, rtol=1e-5)
    gradient = jax.vmap(jax.grad(log1mexp))(jnp.asarray(x))
    np.testing.assert_allclose(gradient, 1 / np.expm1(wide), rtol=1e-5)


@pytest.mark.parametrize("x", [0.0, 1e-38, 88.0, 120.0, 1e4])
def test_log1mexp_is_finite_with_its_gradient(x):
    assert np.isfinite(jax.value_and_grad(log1mexp)(jnp.asarray(x))).all()


@pytest.mark.parametrize("level", [0.0, -1e4, -3e5, 1e4])
def test_effective_samples_of_ties_underflow_and_zeros(level):
    def ess(log_w):
        log_w = jnp.asarray(log_w, jnp.float32)
        return effective_sample_size(jax.nn.logsumexp(log_w), jax.nn.logsumexp(2.0 * log_w), len(log_w))

    np.testing.assert_allclose(ess(np.full(50, level)), 50.0, rtol=0.1 if abs(level) > 1e5 else 1e-2)
    assert 1.0 <= ess(np.r_[level, np.full(49, level - 1e4)]) < 1.1
    np.testing.assert_allclose(ess(np.r_[level, level, np.full(48, -np.inf)]), 2.0, rtol=0.1)
    assert ess(np.full(50, -np.inf)) == 0.0


def test_log_mean_exp():
    x = np.random.default_rng(0).normal(scale=3.0, size=(5, 4))
    np.testing.assert_allclose(log_mean_exp(jnp.asarray(x, jnp.float32)), np.log(np.exp(x).mean()), rtol=1e-5)
    np.testing.assert_allclose(
        log_mean_exp(jnp.asarray(x, jnp.float32), axis=0), np.log(np.exp(x).mean(0)), rtol=1e-4, atol=1e-5
    )
    np.testing.assert_allclose(log_mean_exp(jnp.array([-1e4, -1e4])), -1e4)
    np.testing.assert_allclose(log_mean_exp(jnp.array([1e4, -1e4])), 1e4 - np.log(2), rtol=1e-6)


def test_soft_clip_is_the_identity_near_zero_and_keeps_the_limit():
    x = jnp.array([-1e4, -0.01, 0.0, 0.01, 1e4])
    np.testing.assert_allclose(soft_clip(x, 8.0), [-8.0, -0.01, 0.0, 0.01, 8.0], rtol=1e-5)
    np.testing.assert_allclose(jax.grad(soft_clip)(0.0, 8.0), 1.0)


def test_a_uniform_byte_costs_eight_bits():
    np.testing.assert_allclose(bits_per_dim(-784 * np.log(256), 784), 8.0)


def test_straight_through_has_one_value_and_another_gradient():
    x = jnp.array([-1e8, -0.3, 0.1, 2.7, 1e8])
    given = straight_through(jnp.round(x), jnp.sin(x))
    np.testing.assert_array_equal(given, np.round(x))
    slope = jax.grad(lambda x: jnp.sum(x * straight_through(jnp.round(x), jnp.sin(x))))(x)
    np.testing.assert_allclose(slope, jnp.round(x) + x * jnp.cos(x), rtol=1e-5)


def test_scale_gradient_is_the_identity_forward():
    x = jnp.array([-2.0, 0.5])
    value, slope = jax.value_and_grad(lambda x, s: jnp.sum(scale_gradient(x, s) ** 3), (0, 1))(x, 0.25)
    np.testing.assert_array_equal(value, jnp.sum(x**3))
    np.testing.assert_allclose(slope[0], 0.25 * 3 * x**2)
    assert slope[1] == 0.0
