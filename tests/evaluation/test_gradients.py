"""The moments of gradients whose moments are known."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.core import Learner
from vae_jax.evaluation.gradients import (
    against_exact,
    gradient_moments,
    signal_to_noise,
    total_variance,
    variance_along,
)

PARAMS = {"a": jnp.array([3.0, -200.0]), "b": jnp.float32(1.0)}


def noisy(latent, params, key, x, context=None, *, scale=1.0, bias=0.0):
    """∂/∂a = x + noise of deviation scale (1, 10), ∂/∂b = 2 b + bias without noise."""
    noise = scale * jnp.array([1.0, 10.0]) * jax.random.normal(key, (2,))
    return params["a"] @ (x + noise) + params["b"] ** 2 + bias * params["b"], {}


X, EXACT = jnp.array([0.5, -1e3]), {"a": np.array([0.5, -1e3]), "b": np.array(2.0)}


@pytest.mark.parametrize("num_draws", [7, 3000])
def test_the_moments_are_those_of_the_draws(num_draws):
    """Against NumPy in float64 on the same draws: merging pieces loses nothing, even at a mean of -1000."""
    given = gradient_moments(noisy, None, PARAMS, jax.random.key(0), X, num_draws=num_draws)
    pieces = [jax.random.fold_in(jax.random.key(0), i) for i in range(3 if num_draws == 3000 else 7)]
    keys = jnp.concatenate([jax.random.split(k, num_draws // len(pieces)) for k in pieces])
    noise = np.asarray(jax.vmap(lambda k: jax.random.normal(k, (2,)))(keys), np.float64)
    draws = np.asarray(X, np.float64) + np.array([1.0, 10.0]) * noise
    np.testing.assert_allclose(given.mean["a"], draws.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(given.variance["a"], draws.var(axis=0, ddof=1), rtol=1e-4)
    assert given.num_draws == num_draws and given.mean["b"] == 2.0 and given.variance["b"] == 0.0


def test_an_unbiased_gradient_is_told_from_a_biased_one():
    estimate = functools.partial(gradient_moments, latent=None, params=PARAMS, x=X, num_draws=10_000)
    good = against_exact(estimate(noisy, key=jax.random.key(0)), EXACT)
    assert np.all(np.abs(good["z"]["a"]) < 5) and good["z"]["b"] == 0.0
    wrong = estimate(functools.partial(noisy, bias=0.01), key=jax.random.key(0))
    assert np.isinf(against_exact(wrong, EXACT)["z"]["b"])
    shifted = against_exact(wrong, {"a": EXACT["a"] + np.array([0.1, 1.0]), "b": np.array(2.01)})
    np.testing.assert_allclose(shifted["z"]["a"], -10.0, atol=5.0)
    np.testing.assert_allclose(shifted["bias"]["a"], [-0.1, -1.0], atol=0.5)


def test_signal_to_noise_and_total_variance():
    moments = gradient_moments(noisy, None, PARAMS, jax.random.key(0), X, num_draws=10_000)
    np.testing.assert_allclose(signal_to_noise(moments)["a"], [0.5, 100.0], rtol=0.1)
    np.testing.assert_allclose(total_variance(moments), 101.0, rtol=0.1)


def test_one_draw_has_no_variance():
    with pytest.raises(ValueError, match="num_draws must be at least 2, got 1"):
        gradient_moments(noisy, None, PARAMS, jax.random.key(0), X, num_draws=1)


def test_the_variance_is_followed_through_training():
    """A learner that doubles `size`, then adds the batch of the step; the gradient is `size` times the mean of four
    draws of a normal, so its variance is size²/4 in each of two coordinates, and four times that of twice the loss.
    """

    def loss(params, key, batch, step, scale=1.0):
        noise = jax.random.normal(key, (len(batch["x"]), 2))
        return scale * params["size"] * (noise @ params["encoder"]) + params["other"], {}

    learner = Learner(
        init=lambda key, batch: {"encoder": jnp.ones(2), "size": 1.0 + 0.0 * batch["x"][0], "other": jnp.ones(())},
        step=lambda state, batch: ({**state, "size": 2.0 * state["size"] + batch["x"][0]}, {}),
        params=lambda state: state,
    )
    losses = {"one": loss, "two": functools.partial(loss, scale=2.0)}
    batches = lambda step: {"x": jnp.full(8, step, jnp.float32)}  # noqa: E731
    place = (learner, losses, batches, jax.random.key(0), {"x": jnp.zeros(4)})
    given = variance_along(*place, steps=[0, 1, 3], num_draws=2000)
    expected = 2 * np.square([1.0, 2.0, 2 * (2 * 2 + 1) + 2]) / 4
    np.testing.assert_allclose(given["one"], expected, rtol=0.15)  # five standard errors
    np.testing.assert_allclose(given["two"], 4 * expected, rtol=0.15)
    for steps in ([], [3, 1], [-1, 2]):
        with pytest.raises(ValueError, match="steps must rise"):
            variance_along(*place, steps=steps, num_draws=2)
