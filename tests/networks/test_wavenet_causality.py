"""Causality in time as exact zeros of a gradient, the reach of the dilations as the others."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.networks import wavenet

T = 16


@functools.cache
def network(dilations=(1, 2, 4), first_kernel=2):
    """A network with parameters of which none is zero."""
    net = wavenet(((T, 3), (T,)), width=4, skip=6, hidden=(8,), dilations=dilations, first_kernel=first_kernel)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros(T), jnp.zeros(2))
    rng = np.random.default_rng(0)
    return net, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape), a.dtype), shapes)


X, C = jnp.asarray(np.random.default_rng(1).normal(size=T), jnp.float32), jnp.array([1.0, 0.0])


@pytest.mark.parametrize("dilations", [(1, 2, 4), (3,)])
def test_a_place_sees_as_far_back_as_it_reaches_and_nothing_else(dilations):
    net, variables = network(dilations)
    by_x = jax.jit(jax.jacobian(lambda x: net.apply(variables, x, C)))(X)
    seen = sum(np.abs(np.asarray(j)).reshape(T, -1, T).max(axis=1) for j in by_x)
    back = np.arange(T)[:, None] - np.arange(T)[None]
    assert back[seen > 0].max() == 2 + sum(dilations)
    sums = {
        sum(d for d, taken in zip(dilations, bits, strict=True) if taken) for bits in np.ndindex((2,) * len(dilations))
    }
    reached = np.isin(back, [n + s for n in (1, 2) for s in sums])  # x_{t-1}, x_{t-2}, moved by any of the dilations
    np.testing.assert_array_equal(seen > 0, reached)


def test_step_by_step_is_all_at_once():
    net, variables = network()
    expected = net.apply(variables, X, C)

    def walk(kept, item):
        t, previous = item
        return net.step(variables, kept, previous, t, C)

    before = jnp.concatenate([jnp.full(1, 7.0), X[:-1]])  # what stands before the first does not count
    _, found = jax.lax.scan(walk, net.start(variables), (jnp.arange(T), before))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), found, expected)


def test_silence_is_not_the_beginning():
    (net, variables), reach = network(), 2 + sum((1, 2, 4))
    logits = np.asarray(net.apply(variables, jnp.zeros(T), C)[0])
    assert np.all(np.abs(np.diff(logits[:reach], axis=0)).max(axis=1) > 1e-6)
    np.testing.assert_allclose(logits[reach:], logits[reach][None].repeat(T - reach, 0), rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilations": (1, 0)}, "dilations: each entry must be at least 1, got 0"),
        ({"dilations": ()}, "dilations must have at least one entry"),
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"outputs": ((4, 4, 2),)}, "outputs must be series .* of one length"),
    ],
)
def test_options_out_of_range_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        wavenet(**{"outputs": ((T, 2),), **options}).init(jax.random.key(0), jnp.zeros(T))
