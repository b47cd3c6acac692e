"""Averages of chains over vectors, by enumeration; those of images are in tests/models/test_pixel_cnn.py."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.distributions import Autoregressive, Bernoulli, RasterScan, Squares, averaged
from vae_jax.support import Binary

BITS = np.array(list(itertools.product([0.0, 1.0], repeat=3)), np.float32)


def chain(seed):
    weights = np.tril(np.random.default_rng(seed).normal(scale=2.0, size=(3, 3)), -1).astype(np.float32)
    return Autoregressive(weights, lambda w, x: Bernoulli(w @ x + 0.3 * seed), (3,), Binary())


def test_the_average_of_vectors_has_the_mean_of_every_conditional():
    log_p = jax.jit(jax.vmap(averaged([chain(1), chain(2)]).log_prob))(BITS)
    bright = np.mean([1 / (1 + np.exp(-(BITS @ chain(s).params.T + 0.3 * s))) for s in (1, 2)], axis=0)
    np.testing.assert_allclose(np.exp(log_p), np.prod(np.where(BITS > 0, bright, 1 - bright), axis=1), rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-6)


def test_draws_have_the_masses(assert_mean):
    average = averaged([chain(1), chain(2)])
    drawn = jax.jit(jax.vmap(average.sample))(jax.random.split(jax.random.key(0), 10_000))
    same = (np.asarray(drawn)[:, None] == BITS[None]).all(axis=2)
    assert_mean(same.astype(float), np.exp(jax.jit(jax.vmap(average.log_prob))(BITS)))


def test_squares_of_other_sizes_are_refused():
    base = RasterScan(jnp.zeros(()), None, None, (2, 2, 4), Binary())
    with pytest.raises(ValueError, match=r"same order .*Squares of 2x2 after 0 quarter turns over .*of 4x4"):
        averaged([Squares(base, (4, 4, 1), block) for block in (2, 4)])
