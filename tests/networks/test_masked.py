"""Causality as exact zeros of a gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.networks.autoregressive import made

DIM = 6


@functools.cache
def jacobians(hidden, event=(), context=False):
    """Of smooth units, no weight zero: the two outputs by the input and, of a conditional network, by the context."""
    network = made(((DIM,), (DIM, 3)), hidden, "tanh")
    rng = np.random.default_rng(0)
    x, c = jnp.asarray(rng.normal(size=(DIM, *event)), jnp.float32), jnp.ones(2) if context else None
    shapes = jax.eval_shape(network.init, jax.random.key(0), x, c)
    variables = jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape), a.dtype), shapes)
    return jax.jit(jax.jacobian(network.apply, (1, 2) if context else (1,)))(variables, x, c)


@pytest.mark.parametrize(
    "hidden, event, context", [((), (), False), ((20, 5), (), False), ((9, 9), (4,), False), ((12,), (), True)]
)
def test_outputs_see_what_is_before_them_and_no_more(hidden, event, context):
    for by_x, *by_context in jacobians(hidden, event, context):
        by_x = np.abs(by_x).reshape(DIM, -1, DIM, max((1, *event))).max(axis=(1, 3))
        assert np.all(by_x[np.triu_indices(DIM)] == 0.0) and np.all(by_x[np.tril_indices(DIM, -1)] > 0.0)
        for given in by_context:
            assert np.all(np.abs(given).reshape(DIM, -1).max(axis=1) > 0.0)


def test_no_input_but_the_last_goes_unseen_however_narrow_the_network():
    for (by_x,) in jacobians((2,)):
        by_x = np.abs(by_x).reshape(DIM, -1, DIM).max(axis=1)
        assert np.all(np.triu(by_x) == 0.0) and np.all(by_x.max(axis=0)[:-1] > 0.0)


def test_one_dimension_sees_the_context_alone():
    network, x, context = made(((1,),), (3,), "tanh"), jnp.ones(1), jnp.ones(2)
    apply = lambda x, context: network.apply(network.init(jax.random.key(0), x, context), x, context)[0]  # noqa: E731
    by_x, by_context = jax.jit(jax.jacobian(apply, (0, 1)))(x, context)
    assert np.all(by_x == 0.0) and np.all(by_context != 0.0)
    assert jax.eval_shape(apply, x, None).shape == (1,)


def test_outputs_begin_at_zero_where_asked():
    network = made(((DIM,),), zero_output=True)
    inputs = jnp.arange(1.0, DIM + 1), jnp.ones(2)
    (output,) = jax.jit(lambda *inputs: network.apply(network.init(jax.random.key(0), *inputs), *inputs))(*inputs)
    assert np.all(output == 0.0)


def test_another_length_is_refused():
    with pytest.raises(ValueError, match=r"MADE: 5 inputs, but outputs of shapes \(\(6,\),\): each must begin with 5"):
        made(((DIM,),)).init(jax.random.key(0), jnp.ones(5))
