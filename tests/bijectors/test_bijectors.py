"""The laws of a bijector: the inverse undoes it, and its log-determinant is that of its Jacobian."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.bijectors import (
    AffineCoupling,
    Chain,
    Flip,
    InverseAutoregressive,
    Permutation,
    Planar,
    Sylvester,
    dense_conditioner,
)
from vae_jax.networks.masked import MADE


def array(seed, *shape, scale=1.0):
    return jnp.asarray(np.random.default_rng(seed).normal(scale=scale, size=shape), jnp.float32)


def coupling(seed, dim, hidden=4):
    given, changed = dim // 2, dim - dim // 2
    shapes = ((hidden, given), (hidden,), (2, changed, hidden), (2, changed))
    return AffineCoupling(tuple(array(seed + i, *shape) for i, shape in enumerate(shapes)), dense_conditioner)


def planar(seed, dim, against=False):
    """`against`: w·u is so negative that without û the map would fold."""
    w = array(seed, dim)
    return Planar(-3.0 * w if against else array(seed + 1, dim), w, jnp.asarray(0.3))


def sylvester(seed, dim, reflections, against=False):
    """`against`: r₁ᵢ r₂ᵢ is as near to -1 as it can be."""
    diagonal = jnp.tile(jnp.array([[-9.0], [9.0]]), (1, dim)) if against else array(seed + 2, 2, dim)
    return Sylvester(array(seed, reflections, dim), array(seed + 1, 2, dim, dim), diagonal, array(seed + 3, dim))


def inverse_autoregressive(seed, dim):
    network = MADE(((dim,), (dim,)), (8,), "tanh")
    shapes = jax.eval_shape(network.init, jax.random.key(0), jnp.zeros(dim), jnp.zeros(2))
    leaves, tree = jax.tree.flatten(shapes)
    weights = tree.unflatten([array(seed + i, *leaf.shape, scale=0.7) for i, leaf in enumerate(leaves)])
    return InverseAutoregressive(weights, array(seed, 2), network.apply)


BIJECTORS = {
    "coupling": coupling(0, 4),
    "coupling of odd size": coupling(5, 3),
    "planar": planar(0, 3),
    "planar that would fold": planar(1, 3, against=True),
    "planar in one dimension": planar(2, 1, against=True),
    "sylvester": sylvester(20, 4, 3),
    "triangular sylvester": sylvester(30, 4, 0),
    "sylvester that would fold": sylvester(40, 2, 1, against=True),
    "inverse autoregressive": inverse_autoregressive(50, 4),
    "permutation": Permutation(jnp.array([2, 0, 3, 1])),
    "flip": Flip(),
    "chain": Chain((planar(3, 4), coupling(7, 4), Permutation(jnp.array([2, 0, 3, 1])), coupling(9, 4), Flip())),
}
DIMS = {"coupling of odd size": 3, "planar": 3, "planar that would fold": 3, "planar in one dimension": 1}
DIMS["sylvester that would fold"] = 2


@functools.cache
def computed(name):
    """At 20 points: the images with Jacobians and log-determinants, both ways."""
    bijector, x = BIJECTORS[name], array(11, 20, DIMS.get(name, 4), scale=2.0)

    def with_jacobian(function):
        return jax.jit(jax.vmap(lambda x: (*function(x), jax.jacobian(lambda x: function(x)[0])(x))))

    forward = with_jacobian(bijector.forward_and_log_det)(x)
    return x, forward, with_jacobian(bijector.inverse_and_log_det)(forward[0])


@pytest.mark.parametrize("name", BIJECTORS)
def test_the_inverse_undoes_it(name):
    x, (_, log_det, _), (back, inverse_log_det, _) = computed(name)
    np.testing.assert_allclose(back, x, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(inverse_log_det, -log_det, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BIJECTORS)
def test_the_log_determinant_is_that_of_the_jacobian(name):
    _, (_, log_det, jacobian), _ = computed(name)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(np.asarray(jacobian, np.float64))[1], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", BIJECTORS)
def test_the_jacobian_of_the_inverse_is_the_inverse_jacobian(name):
    """Also where the inverse is a root that a loop has found."""
    _, (_, _, jacobian), (_, _, inverse) = computed(name)
    product = np.einsum("nij,njk->nik", np.asarray(inverse, np.float64), np.asarray(jacobian, np.float64))
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(product.shape[1]), product.shape), atol=1e-4)


@pytest.mark.parametrize("name", ["planar", "coupling", "sylvester", "inverse autoregressive"])
def test_the_inverse_follows_the_parameters(name):
    """x = f⁻¹_θ(f_θ(x)) at every θ: the whole derivative by θ is zero, though neither part's is."""
    bijector, x = BIJECTORS[name], array(12, DIMS.get(name, 4))
    y = bijector.forward_and_log_det(x)[0]

    @jax.jit
    def slopes(bijector):
        there_and_back = lambda b: b.inverse_and_log_det(b.forward_and_log_det(x)[0])[0]  # noqa: E731
        back = lambda b: b.inverse_and_log_det(y)[0]  # noqa: E731
        return jax.jacobian(there_and_back)(bijector), jax.jacobian(back)(bijector)

    whole, part = slopes(bijector)
    for zero, moved in zip(jax.tree.leaves(whole), jax.tree.leaves(part), strict=True):
        np.testing.assert_allclose(zero, 0.0, atol=1e-4)
        assert np.abs(moved).max() > 1e-2


def test_a_planar_map_without_a_ridge_is_the_identity_up_to_a_shift():
    x, zero = array(13, 3), jnp.zeros(3)
    for u, w in ((zero, array(14, 3)), (array(14, 3), zero), (zero, zero)):
        y, log_det = Planar(u, w, jnp.asarray(0.4)).forward_and_log_det(x)
        np.testing.assert_allclose(y - x, u * np.tanh(0.4), atol=1e-6)
        np.testing.assert_allclose(log_det, 0.0, atol=1e-6)


def test_no_planar_map_leaves_the_finite():
    """u, w and b of either sign and any size up to 8, and points up to 1e4: values and gradients, both ways."""
    rng = np.random.default_rng(0)
    u, w = (jnp.asarray(rng.choice([-8.0, -1e-7, 0.0, 1e-3, 8.0], (200, 5)), jnp.float32) for _ in range(2))
    w = w.at[:50].set(-u[:50]).at[50:60].set(0.0)
    x = jnp.asarray(rng.choice([-1e4, 0.0, 3.0, 1e4], (200, 5)), jnp.float32)

    @jax.jit
    @jax.vmap
    def both(u, w, b, x):
        def total(u, w, b, x):
            y, log_det = Planar(u, w, b).forward_and_log_det(x)
            back, inverse_log_det = Planar(u, w, b).inverse_and_log_det(x)
            return jnp.sum(y) + log_det + jnp.sum(back) + inverse_log_det

        return jax.value_and_grad(total, (0, 1, 2, 3))(u, w, b, x)

    for leaf in jax.tree.leaves(both(u, w, jnp.tile(jnp.array([-8.0, 0.0]), 100), x)):
        assert np.isfinite(leaf).all()
