"""Decoding against the enumeration of all rows there are."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.conditionals import chains
from vae_jax.distributions import Normal
from vae_jax.networks import language
from vae_jax.tasks import decode

V, T, ROWS = 5, 4, 121
NETWORK = language.lstm(V, T, width=6)
Z = jnp.linspace(-2.0, 2.0, 12)[:, None]  # contexts: as many sentences' distributions


def sentence(z):
    """The distribution of a network whose parameters are all different from zero."""
    shapes = jax.eval_shape(NETWORK.init, jax.random.key(0), jnp.zeros(T, jnp.int32), jnp.zeros(1))
    rng = np.random.default_rng(1)
    variables = jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.8, size=a.shape), a.dtype), shapes)
    return chains.sentence(NETWORK, T, V)(variables, z)


@pytest.fixture(scope="module")
def of_all(all_sentences):
    """All rows, and their log p(x) for every z [Z, N]."""
    x = all_sentences(T, V)
    assert len(x) == ROWS
    return x, np.asarray(jax.jit(jax.vmap(lambda z: jax.vmap(sentence(z).log_prob)(x)))(Z))


@functools.cache
def beams(width, length_power=0.0):
    search = lambda z: decode.beam(sentence(z), width=width, length_power=length_power)  # noqa: E731
    return jax.tree.map(np.asarray, jax.jit(jax.vmap(search))(Z))


@functools.cache
def greedy():
    return np.asarray(jax.jit(jax.vmap(lambda z: decode.greedy(sentence(z))))(Z))


def test_a_beam_as_wide_as_there_are_rows_finds_all_of_them_in_order(of_all):
    x, log_p = of_all
    found = beams(ROWS + 4)
    order = np.argsort(-log_p, axis=1)
    np.testing.assert_allclose(found.log_prob[:, :ROWS], np.take_along_axis(log_p, order, axis=1), rtol=1e-5)
    np.testing.assert_array_equal(found.x[:, :10], x[order[:, :10]])  # beyond, rounding may swap
    assert np.all(found.log_prob[:, ROWS:] == -np.inf)


def test_a_beam_of_one_is_greedy_and_greedy_is_not_the_best(of_all):
    x, log_p = of_all
    np.testing.assert_array_equal(beams(1).x[:, 0], greedy())
    best = x[log_p.argmax(axis=1)]
    assert 0 < np.all(greedy() == best, axis=1).sum() < len(Z)


def test_ranks_by_the_mean_over_words_where_asked(of_all):
    x, log_p = of_all
    mean = log_p / (x != 0).sum(axis=1)
    found = beams(ROWS, length_power=1.0)
    np.testing.assert_array_equal(found.x[:, 0], x[mean.argmax(axis=1)])
    np.testing.assert_allclose(found.log_prob[:, 0], log_p[np.arange(len(Z)), mean.argmax(axis=1)], rtol=1e-5)
    assert np.any(mean.argmax(axis=1) != log_p.argmax(axis=1))


def test_temperature(of_all, assert_mean):
    x, log_p = of_all
    keys = jax.random.split(jax.random.key(0), 4000)
    at = jax.jit(
        lambda keys, t: jax.vmap(lambda k: decode.sampled(sentence(Z[0]), k, temperature=t))(keys), static_argnums=1
    )
    plain = jax.jit(jax.vmap(sentence(Z[0]).sample))(keys)
    np.testing.assert_array_equal(at(keys, 1.0), plain)
    first = np.array([np.exp(log_p[0][x[:, 0] == word]).sum() for word in range(1, V)])  # p(w_1)
    drawn = np.asarray(at(keys, 0.5))[:, 0]
    assert_mean((drawn[:, None] == np.arange(1, V)).astype(float), first**2 / np.sum(first**2))


def test_what_cannot_be_decoded_is_refused():
    for temperature in (0.0, -1.0):
        with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature}"):
            decode.sampled(None, jax.random.key(0), temperature=temperature)
    for width, power in ((0, 0.0), (2, -0.5)):
        with pytest.raises(ValueError, match=f"at least 1 and length_power at least 0, got {width} and {power}"):
            decode.beam(None, width=width, length_power=power)


def test_the_value_that_shows_a_distribution():
    loc = jnp.asarray([1.0, -2.0])
    np.testing.assert_array_equal(decode.typical(Normal(loc, jnp.zeros(2))), loc)
    np.testing.assert_array_equal(decode.typical(sentence(Z[0])), decode.greedy(sentence(Z[0])))
