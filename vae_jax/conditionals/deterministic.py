"""Heads of deterministic codes, z = f(x), for auto-encoders."""

import jax
import jax.numpy as jnp

from vae_jax.conditionals.conditional import Head
from vae_jax.distributions import Deterministic
from vae_jax.spec import integers

__all__ = ["k_sparse", "linear", "sigmoid"]


def linear(event_shape) -> Head:
    """z = the encoder's output."""
    return Head((event_shape,), Deterministic)


def sigmoid(event_shape) -> Head:
    """z = σ(the encoder's output), in (0, 1): activations, which can be rare (`penalties.target_activation`)."""
    return Head((event_shape,), lambda a: Deterministic(jax.nn.sigmoid(a)))


def k_sparse(event_shape, *, num_active) -> Head:
    """z = a where a is among the `num_active` largest of the encoder's outputs, else 0.  arXiv:1312.5663.

    The paper keeps more of them when it encodes than when it trains; here they are the same.
    Raises `ValueError` unless 1 ≤ num_active ≤ D.
    """
    (dim,) = event_shape
    integers(num_active=num_active, at_most=dim)

    def distribution(a):
        largest, index = jax.lax.top_k(a, num_active)
        return Deterministic(jnp.zeros_like(a).at[index].set(largest))

    return Head((event_shape,), distribution)
