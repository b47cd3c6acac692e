"""Trees of bits against the enumeration of all images, and vectors in another shape."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.distributions import Reshaped, Tree
from vae_jax.support import Binary

DIM = 9
IMAGES = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=DIM)))


@pytest.fixture(scope="module")
def tree():
    """Random, its pixels numbered in no order of the tree."""
    rng = np.random.default_rng(0)
    order = rng.permutation(DIM)
    parent = np.zeros(DIM, np.int32)
    parent[order[0]] = order[0]
    for place in range(1, DIM):
        parent[order[place]] = rng.choice(order[:place])
    logits = rng.normal(scale=1.5, size=(DIM, 2))
    logits[order[0]] = logits[order[0], 0]
    return Tree(jnp.asarray(order), jnp.asarray(parent), jnp.asarray(logits, jnp.float32))


@pytest.fixture(scope="module")
def log_probs(tree):
    return np.asarray(jax.jit(jax.vmap(tree.log_prob))(IMAGES), np.float64)


def test_it_sums_to_one_and_its_mean_is_that_of_all_images(tree, log_probs):
    np.testing.assert_allclose(np.exp(log_probs).sum(), 1.0, rtol=1e-5)
    np.testing.assert_allclose(tree.mean(), np.exp(log_probs) @ np.asarray(IMAGES), rtol=1e-5)


def test_a_pixel_depends_on_its_parent_alone(tree, log_probs):
    joint = np.exp(log_probs).reshape((2,) * DIM)
    for d in range(DIM):
        parent = int(tree.parent[d])
        pair = joint.sum(axis=tuple(set(range(DIM)) - {d, parent}))
        if parent == d:
            conditional = np.stack([pair, pair])
        else:
            pair = pair if parent < d else pair.T  # [parent, d]
            conditional = pair / pair.sum(axis=1, keepdims=True)
        np.testing.assert_allclose(np.log(conditional[:, 1] / conditional[:, 0]), tree.logits[d], rtol=1e-4, atol=1e-5)


def test_draws_have_the_frequencies_of_all_images(tree, log_probs, assert_mean):
    drawn = np.asarray(jax.jit(jax.vmap(tree.sample))(jax.random.split(jax.random.key(1), 20_000)))
    assert_mean(drawn, np.asarray(tree.mean()))
    image = drawn @ 2 ** np.arange(DIM)[::-1]
    common = np.flatnonzero(np.exp(log_probs) > 1e-3)
    assert_mean((image[:, None] == common[None]).astype(float), np.exp(log_probs[common]))


def test_another_shape_changes_no_number(tree, log_probs):
    square = Reshaped(tree, (3, 3))
    np.testing.assert_array_equal(square.mean(), tree.mean().reshape(3, 3))
    np.testing.assert_array_equal(square.sample(jax.random.key(0)).ravel(), tree.sample(jax.random.key(0)))
    np.testing.assert_allclose(square.log_prob(IMAGES[5].reshape(3, 3)), log_probs[5], rtol=1e-6)
    assert square.support == Binary()


def test_the_posterior_of_a_tree_is_a_tree():
    """Against Bayes' rule on all vectors; entry 3 is given exactly, entry 1 not at all."""
    size, rng = 6, np.random.default_rng(0)
    parent = np.array([0, 0, 1, 1, 0, 4])
    logits = rng.normal(size=(size, 2)).astype(np.float32)
    logits[0, 1] = logits[0, 0]
    tree = Tree(np.arange(size), parent, logits)
    evidence = rng.normal(size=(size, 2)).astype(np.float32)
    evidence[1], evidence[3] = 0.0, [-np.inf, 0.0]
    x = jnp.asarray((np.arange(2**size)[:, None] >> np.arange(size)) & 1, jnp.float32)
    joint = jax.vmap(tree.log_prob)(x) + jnp.where(x > 0, evidence[None, :, 1], evidence[None, :, 0]).sum(1)
    posterior, log_evidence = tree.posterior(jnp.asarray(evidence))
    np.testing.assert_allclose(log_evidence, jax.nn.logsumexp(joint), rtol=1e-5)
    exact = jax.nn.softmax(joint)
    np.testing.assert_allclose(jnp.exp(jax.vmap(posterior.log_prob)(x)), exact, atol=1e-6)
    np.testing.assert_allclose(posterior.mean(), exact @ x, atol=1e-5)
