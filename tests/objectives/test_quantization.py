"""Vector quantisation against haiku, explicit rotations and enumeration."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.objectives import quantization as q
from vae_jax.spec import BadOption

K, D = 6, 3


def vectors(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_averages_are_those_of_haiku():
    hk = pytest.importorskip("haiku")
    layer = hk.transform_with_state(
        lambda z: hk.nets.VectorQuantizerEMA(D, K, commitment_cost=0.25, decay=0.9)(z, is_training=True)
    )
    params, state = layer.init(jax.random.key(0), jnp.asarray(vectors(0, 20, D)))
    book = q.codebook(jnp.asarray(state["vector_quantizer_ema"]["embeddings"]).T)
    apply, follow = jax.jit(layer.apply), jax.jit(lambda book, z, k: q.follow(book, z, k, decay=0.9))
    for step in range(1, 4):
        z = jnp.asarray(vectors(step, 20, D))
        output, state = apply(params, state, None, z)
        k = q.nearest_code(z, book["codes"])
        np.testing.assert_array_equal(k, output["encoding_indices"])
        commitment = 0.25 * q.commitment_loss(z, book["codes"][k]) / z.size
        np.testing.assert_allclose(commitment, output["loss"], rtol=1e-6)
        np.testing.assert_allclose(q.perplexity(jnp.bincount(k, length=K)), output["perplexity"], rtol=1e-6)
        book = follow(book, z, k)
        np.testing.assert_allclose(book["codes"].T, state["vector_quantizer_ema"]["embeddings"], atol=1e-6)


def test_a_code_that_no_vector_has_had_stays_where_it_is():
    codes = 5.0 + jnp.asarray(vectors(0, K, D))
    book = q.follow(q.codebook(codes), codes[:2] + 0.1, jnp.array([0, 1]), decay=0.99)
    np.testing.assert_array_equal(book["codes"][2:], codes[2:])
    np.testing.assert_allclose(book["codes"][:2], codes[:2] + 0.1, rtol=1e-3)


def test_the_nearest_code_is_nearest():
    z, codes = vectors(0, 2, 4, D), vectors(1, K, D)
    expected = np.argmin(np.sum((z[..., None, :] - codes) ** 2, axis=-1), axis=-1)
    np.testing.assert_array_equal(q.nearest_code(z, codes), expected)


def test_the_gradient_of_a_rotation_is_its_matrix():
    z, e, g = (vectors(seed, D).astype(np.float64) for seed in range(3))
    unit_z, unit_e = z / np.linalg.norm(z), e / np.linalg.norm(e)
    r = (unit_z + unit_e) / np.linalg.norm(unit_z + unit_e)
    rotation = np.eye(D) - 2 * np.outer(r, r) + 2 * np.outer(unit_e, unit_z)
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(D), atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(e) / np.linalg.norm(z) * rotation @ z, e, atol=1e-12)
    value, pull = jax.vjp(q.rotated, *(jnp.asarray(a, jnp.float32) for a in (z, e)))
    np.testing.assert_array_equal(value, e.astype(np.float32))
    matrix = np.linalg.norm(e) / np.linalg.norm(z) * rotation
    np.testing.assert_allclose(pull(jnp.asarray(g, jnp.float32))[0], matrix.T @ g, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("z", "e"), [(0.0, 1.0), (1.0, 0.0), (1.0, -1.0), (1e4, 1e-4), (1e-9, 1e4), (0.0, 0.0)])
def test_the_gradient_of_a_rotation_is_finite(z, e):
    value, pull = jax.vjp(lambda z: q.rotated(z, jnp.full(D, e)), jnp.full(D, z))
    np.testing.assert_array_equal(value, jnp.full(D, e))
    assert np.isfinite(pull(jnp.ones(D))[0]).all()


@pytest.mark.parametrize("levels", [(2,), (3, 4), (8, 5, 5)])
def test_finite_scalars_count_through_all_their_levels(levels):
    quantizer = q.fsq(levels=levels)
    assert quantizer.num_codes == math.prod(levels) and quantizer.dim == len(levels)
    k = jnp.arange(quantizer.num_codes)
    values = quantizer.embed(None, k)
    expected = {tuple(np.round(v, 5)) for v in itertools.product(*(np.linspace(-1, 1, n) for n in levels))}
    assert {tuple(np.round(v, 5)) for v in np.asarray(values, float).tolist()} == expected
    inside = jnp.arctanh(values * jnp.asarray([(n - 1) / n for n in levels])[None])  # the middle of each bin
    np.testing.assert_array_equal(quantizer.nearest(None, inside), k)
    extreme = quantizer.nearest(None, jnp.stack([jnp.full(len(levels), -1e4), jnp.full(len(levels), 1e4)]))
    np.testing.assert_array_equal(extreme, [0, quantizer.num_codes - 1])


def test_the_gradient_of_finite_scalars_is_that_of_their_bound():
    quantizer, z = q.fsq(levels=(3, 4)), jnp.array([[0.3, -0.2], [50.0, -50.0]])
    e = quantizer.embed(None, quantizer.nearest(None, z))
    value, pull = jax.vjp(lambda z: quantizer.passed(z, e), z)
    np.testing.assert_array_equal(value, e)
    slope = np.array([3 / 2, 4 / 3]) * (1 - np.tanh(np.asarray(z)) ** 2)
    np.testing.assert_allclose(pull(jnp.ones((2, 2)))[0], slope, atol=1e-6)


def test_k_means_finds_clusters_and_never_raises_the_distance():
    centres = 10.0 * vectors(0, 4, D)
    z = jnp.asarray(centres.repeat(25, axis=0) + 0.01 * vectors(1, 100, D))
    cost = lambda codes: float(jnp.mean(jnp.min(q.squared_distances(z, codes), axis=-1)))  # noqa: E731
    costs = [cost(q.k_means(jax.random.key(3), z, 8, num_steps=steps)) for steps in (0, 1, 10)]
    assert costs[0] >= costs[1] >= costs[2] and costs[2] < 1.0 < np.var(centres)


def test_more_codes_than_vectors_are_refused_with_the_numbers():
    with pytest.raises(BadOption, match=r"a codebook of 9 codes cannot start from 8 vectors.*fewer codes, or a larger"):
        q.k_means(jax.random.key(0), jnp.zeros((8, D)), 9)


def test_dead_codes_come_back_at_vectors_of_the_batch():
    quantizer = q.vq(num_codes=4, dim=D, decay=0.5, revive_below=0.1)
    z = jnp.asarray(vectors(0, 50, D))
    book = q.codebook(jnp.concatenate([z[:2], jnp.full((2, D), 100.0)]))  # two are far from everything
    used, nearest, update = [], jax.jit(quantizer.nearest), jax.jit(quantizer.update)
    for step in range(8):
        k = nearest(book, z)
        used.append(len(set(np.asarray(k).tolist())))
        book = update(jax.random.key(step), book, z, k)
    assert used[0] == 2 and used[-1] == 4
    first = quantizer.update(
        jax.random.key(0), q.codebook(jnp.full((4, D), 100.0).at[0].set(0.0)), z, jnp.zeros(50, int)
    )
    new = np.asarray(first["codes"][1:])
    assert all(np.any(np.all(row == np.asarray(z), axis=1)) for row in new)
    never = q.vq(num_codes=4, dim=D, revive_below=0.0).update(jax.random.key(0), book, z, jnp.zeros(50, int))
    assert float(never["count"][1:].max()) < float(book["count"][1:].max())


def test_perplexity_is_the_number_of_codes_in_even_use():
    np.testing.assert_allclose(q.perplexity(jnp.array([5.0, 5.0, 5.0, 0.0])), 3.0, rtol=1e-6)
    np.testing.assert_allclose(q.perplexity(jnp.array([0.0, 7.0])), 1.0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: q.fsq(levels=(8, 1)), "levels: each entry must be at least 2, got 1"),
        (lambda: q.fsq(levels=()), "levels must have at least one entry"),
        (lambda: q.vq(num_codes=1, dim=2), "num_codes must be at least 2, got 1"),
        (lambda: q.vq(num_codes=2, dim=2, decay=1.0), "decay must be at least 0 and below 1"),
        (lambda: q.vq(num_codes=2, dim=2, gradient="rotate"), "gradient: unknown value 'rotate'"),
    ],
)
def test_wrong_options_are_named(make, message):
    with pytest.raises(BadOption, match=message):
        make()
