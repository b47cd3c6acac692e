"""Heads for deterministic codes, z = f(x), of auto-encoders."""

import jax
import jax.numpy as jnp

from vae_jax.conditionals.conditional import Head
from vae_jax.distributions import Deterministic
from vae_jax.spec import integers

__all__ = ["k_sparse", "linear", "sigmoid"]


def linear(event_shape) -> Head:
    """Return z = a, the output of the encoder."""
    return Head((event_shape,), Deterministic)


def sigmoid(event_shape) -> Head:
    """Return z = σ(a) in (0, 1), a the output of the encoder: the codes that `penalties.target_activation` needs."""
    return Head((event_shape,), lambda a: Deterministic(jax.nn.sigmoid(a)))


def k_sparse(event_shape, *, num_active) -> Head:
    """Return z = a where a is among the `num_active` largest outputs of the encoder, else 0.  arXiv:1312.5663.

    The paper uses more active units for encoding than for training; here the number is the same.
    Raises `BadOption` unless 1 ≤ num_active ≤ D.
    """
    (dim,) = event_shape
    integers(num_active=num_active, at_most=dim)

    def distribution(a):
        largest, index = jax.lax.top_k(a, num_active)
        return Deterministic(jnp.zeros_like(a).at[index].set(largest))

    return Head((event_shape,), distribution)
