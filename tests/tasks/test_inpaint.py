"""Completions of what is drawn in no order are refused, those of a vector drawn in order are right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.core import tractable
from vae_jax.distributions import Autoregressive, Bernoulli, Normal, Reshaped
from vae_jax.support import Binary
from vae_jax.tasks import inpaint


def copies(params, x):
    """Every bit is likely to be the one before it."""
    return Bernoulli(20.0 * jnp.concatenate([jnp.zeros(1), 2.0 * x[:-1] - 1.0]))


def test_the_rest_follows_what_is_given():
    model = tractable(None, lambda params, context=None: Reshaped(Autoregressive(None, copies, (6,), Binary()), (2, 3)))
    x, keys = jnp.array([[0.0, 1.0, 0.0], [1.0, 0.0, jnp.nan]]), jax.random.split(jax.random.key(0), 200)
    draw = jax.jit(jax.vmap(lambda key, n: inpaint.complete(model, None, key, x, num_given=n), in_axes=(0, None)))
    for num_given in (2, 3, 5):
        expected = jnp.where(jnp.arange(6) < num_given, x.ravel(), x.ravel()[num_given - 1]).reshape(2, 3)
        np.testing.assert_array_equal(draw(keys, num_given), jnp.broadcast_to(expected, (200, 2, 3)))
    assert 50 < draw(keys, 0)[:, 0, 0].sum() < 150
    with pytest.raises(ValueError, match="num_given must be between 0 and 6 pixels, got 7"):
        inpaint.complete(model, None, keys[0], x, num_given=7)


def test_what_has_no_order_is_refused():
    model = tractable(None, lambda params, context=None: Normal.standard((3,)))
    for other in (model, model._replace(density=None)):
        with pytest.raises(ValueError, match="requires a model that draws pixel by pixel"):
            inpaint.complete(other, None, jax.random.key(0), jnp.zeros(3), num_given=1)
