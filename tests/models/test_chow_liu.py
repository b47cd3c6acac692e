"""The tree against scipy's spanning trees, a known tree, and the entropies it must have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from sklearn.datasets import load_digits
from sklearn.metrics import mutual_info_score

from vae_jax.distributions import Tree
from vae_jax.models.chow_liu import chow_liu, maximum_spanning_tree, mutual_information, pairs
from vae_jax.models.naive_bayes import naive_bayes
from vae_jax.training import em

IMAGES = jnp.asarray(load_digits().images > 7, jnp.float32)
TRAIN, TEST = IMAGES[:1500], IMAGES[1500:]


def count(model, x, size=100):
    """Params after one pass, in batches."""
    learner = em.counting(model)
    state = learner.init(jax.random.key(0), {"x": x[:size]})
    parts = x.reshape(-1, size, *x.shape[1:])
    state, _ = jax.lax.scan(lambda state, x: learner.step(state, {"x": x}), state, parts)
    return learner.params(state)


def mean_log_prob(model, params, x):
    return float(jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, x).mean())


def edges(parent):
    return {frozenset((d, int(p))) for d, p in enumerate(parent) if d != p}


def test_the_spanning_tree_is_that_of_scipy():
    rng = np.random.default_rng(0)
    weights = rng.uniform(size=(3, 30, 30))
    weights = jnp.asarray(weights + weights.transpose(0, 2, 1), jnp.float32)
    orders, parents = jax.jit(jax.vmap(maximum_spanning_tree))(weights)
    for weight, order, parent in zip(np.asarray(weights, np.float64), orders, parents, strict=True):
        lightest = minimum_spanning_tree(np.triu(10.0 - weight, 1)).tocoo()
        assert edges(parent) == {frozenset(pair) for pair in zip(lightest.row, lightest.col, strict=True)}
        place = np.argsort(order)
        assert order[0] == 0 and parent[0] == 0 and np.all(place[parent[order[1:]]] < np.arange(1, 30))


def test_mutual_information_is_that_of_scikit_learn():
    x = np.asarray(TRAIN[:, 2:4]).reshape(1500, -1)
    information = mutual_information(pairs(jnp.asarray(x.T @ x), 1500.0, 1e-6))
    expected = [[mutual_info_score(a, b) for b in x.T] for a in x.T]
    np.testing.assert_allclose(information, expected, atol=2e-6)


def test_a_known_tree_is_found():
    parent = np.array([0, 4, 0, 2, 2, 6, 0, 1])
    order = np.array([0, 2, 6, 3, 4, 5, 1, 7])
    logits = np.array([[0.3, 0.3], [-1, 2], [1, -2], [-2, 1], [-1.5, 1.5], [2, -1], [-1, 1], [1.5, -1.5]])
    truth = Tree(jnp.asarray(order), jnp.asarray(parent), jnp.asarray(logits, jnp.float32))
    x = jax.jit(jax.vmap(truth.sample))(jax.random.split(jax.random.key(0), 5000))
    model = chow_liu((8,), smoothing=0.5)
    params = jax.jit(lambda x: count(model, x))(x)
    assert edges(params["parent"]) == edges(parent)
    # The fit of 15 numbers gains about 15 / 2 nats in all over the truth.
    gain = len(x) * (mean_log_prob(model, params, x) - float(jax.vmap(truth.log_prob)(x).mean()))
    assert 0 < gain < 30


@pytest.fixture(scope="module")
def fitted():
    model = chow_liu((8, 8), smoothing=0.01)
    return model, jax.jit(lambda x: count(model, x))(TRAIN)


def test_its_likelihood_is_information_less_entropy(fitted):
    model, params = fitted
    x = np.asarray(TRAIN, np.float64).reshape(1500, 64)
    information = sum(mutual_info_score(x[:, d], x[:, p]) for d, p in enumerate(params["parent"]) if d != p)
    entropy = sum(mutual_info_score(column, column) for column in x.T)
    np.testing.assert_allclose(mean_log_prob(model, params, TRAIN), information - entropy, rtol=1e-3)


def test_it_beats_independent_pixels_on_images_not_seen(fitted):
    flips = naive_bayes((8, 8), smoothing=1.0)
    ours, theirs = mean_log_prob(*fitted, TEST), mean_log_prob(flips, count(flips, TRAIN), TEST)
    assert ours > theirs + 3  # nats


def test_draws_have_the_mean_of_the_data(fitted):
    model, params = fitted
    np.testing.assert_allclose(model.density(params).mean(), TRAIN.mean(axis=0), atol=1e-4)
    assert model.sample(params, jax.random.key(0)).shape == (8, 8)


def test_no_smoothing_is_refused():
    with pytest.raises(ValueError, match="smoothing must be above 0, got 0"):
        chow_liu((4,), smoothing=0.0)
