"""Bias and variance of a gradient estimator, from many draws at one place."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

DRAWS_AT_ONCE, BATCHES_AT_ONCE = 1000, 10


class Moments(NamedTuple):
    """Mean and variance of independent draws of a gradient: trees like the parameters."""

    mean: Any
    variance: Any  # of one draw; `mean` has this variance divided by num_draws
    num_draws: int


def gradient_moments(objective, latent, params, key, x, context=None, *, num_draws) -> Moments:
    """Return mean and variance of ∂ objective / ∂ params over `num_draws` keys, for one example.

    Memory does not grow with `num_draws`.

    Args:
      objective: an equation of one example; set its options by `functools.partial`.
      latent: a `core.Latent`.
      params: where the gradient is taken.
      key: the randomness.
      x: the example.
      context: its context, or None.
      num_draws: the number of keys, at least 2; else raises `ValueError`.
    """
    _check_draws(num_draws)
    return Moments(*_moments(objective, latent, num_draws, params, key, x, context), num_draws)


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _moments(objective, latent, num_draws, params, key, x, context):
    gradient = jax.grad(lambda params, key: objective(latent, params, key, x, context)[0])
    return _moments_of(lambda key: gradient(params, key), params, key, num_draws, DRAWS_AT_ONCE)


def _moments_of(gradient, like, key, num_draws, at_once):
    """Return mean and variance of `gradient(key)`, a tree like `like`, over `num_draws` keys, `at_once` in memory."""
    size = math.gcd(num_draws, at_once)

    def add(carry, index):
        """Add sums of squares about the mean without cancellation: Chan, Golub and LeVeque (1979)."""
        mean, squares = carry
        drawn = jax.vmap(gradient)(jax.random.split(jax.random.fold_in(key, index), size))
        shift = jax.tree.map(lambda d, m: jnp.mean(d, axis=0) - m, drawn, mean)
        within = jax.tree.map(lambda d: size * jnp.var(d, axis=0), drawn)
        fraction = 1.0 / (index + 1.0)  # the share of this piece in all draws so far
        mean = jax.tree.map(lambda m, h: m + fraction * h, mean, shift)
        between = jax.tree.map(lambda h: size * index * fraction * jnp.square(h), shift)
        return (mean, jax.tree.map(lambda *parts: sum(parts), squares, within, between)), None

    zeros = jax.tree.map(jnp.zeros_like, like)
    (mean, squares), _ = jax.lax.scan(add, (zeros, zeros), jnp.arange(num_draws // size))
    return mean, jax.tree.map(lambda s: s / (num_draws - 1), squares)


def variance_along(learner, losses, batches, key, batch, *, steps, num_draws, part="encoder") -> dict:
    """Return {name: [S]}: the total variance of each gradient after `steps` [S] of training.

    At each of `steps` the gradient of mean_B loss by params[part] on `batch` is drawn `num_draws` times for each loss.
    All losses are taken at the parameters that `learner` evaluates with. Training and draws are one compiled program.

    Args:
      learner: trains on `batches(step)`.
      losses: {name: `Model.loss`} of models that differ only in their objective. The parameters must hold all that
        these objectives learn.
      batches: step -> batch.
      key: the randomness.
      batch: where the variance is measured.
      steps: whole numbers that rise, the first at least 0.
      num_draws: draws for each variance, at least 2.
      part: the part of the parameters.

    Raises `ValueError` below 2 draws, and for steps that do not rise.
    """
    _check_draws(num_draws)
    steps = np.asarray(steps)
    if steps.ndim != 1 or steps.size == 0 or steps[0] < 0 or np.any(np.diff(steps) <= 0):
        raise ValueError(f"steps must rise, from 0 or later, got {steps.tolist()}")

    def measure(params, key, step):
        def variance(loss, key):
            mean_loss = lambda moved, key: jnp.mean(loss({**params, part: moved}, key, batch, step)[0])  # noqa: E731
            draw = lambda key: jax.grad(mean_loss)(params[part], key)  # noqa: E731
            _, variance = _moments_of(draw, params[part], key, num_draws, BATCHES_AT_ONCE)
            return sum(jnp.sum(v) for v in jax.tree.leaves(variance))

        keys = jax.random.split(jax.random.fold_in(key, step), len(losses))
        return {name: variance(loss, k) for (name, loss), k in zip(losses.items(), keys, strict=True)}

    @jax.jit
    def run(key, steps):
        key_init, key_draws = jax.random.split(key)

        def until(carry, goal):
            state, step = jax.lax.while_loop(
                lambda carry: carry[1] < goal,
                lambda carry: (learner.step(carry[0], batches(carry[1]))[0], carry[1] + 1),
                carry,
            )
            return (state, step), measure(learner.params(state), key_draws, goal)

        start = learner.init(key_init, batches(jnp.int32(0))), jnp.int32(0)
        return jax.lax.scan(until, start, steps)[1]

    variances = run(key, jnp.asarray(steps, jnp.int32))
    return {name: variances[name] for name in losses}  # in the order of `losses`, which a compiled dict loses


def against_exact(moments, exact) -> dict:
    """Return {"bias": mean - exact, "z": bias in standard errors of the mean} of every coordinate, as trees of float64.

    z is infinite if a gradient without variance is wrong. An unbiased estimator has |z| < 5 in all but one coordinate
    of two million. If the variance is nearly zero, rounding alone exceeds this.
    """
    as64 = lambda tree: jax.tree.map(lambda a: np.asarray(a, np.float64), tree)  # noqa: E731
    bias = jax.tree.map(np.subtract, as64(moments.mean), as64(exact))
    error = jax.tree.map(lambda v: np.sqrt(v / moments.num_draws), as64(moments.variance))

    def score(b, e):
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(b == 0, 0.0, b / e)

    return {"bias": bias, "z": jax.tree.map(score, bias, error)}


def signal_to_noise(moments):
    """Return |mean| / standard deviation of one draw, for every coordinate.  arXiv:1802.04537 sec. 3."""
    return jax.tree.map(lambda m, v: jnp.abs(m) / jnp.sqrt(v), moments.mean, moments.variance)


def total_variance(moments) -> float:
    """Return the variance of one draw, summed over coordinates: the expected squared error if it is unbiased."""
    return float(sum(jnp.sum(v) for v in jax.tree.leaves(moments.variance)))


def _check_draws(num_draws):
    if num_draws < 2:
        raise ValueError(f"num_draws must be at least 2, got {num_draws}: one draw has no variance")
