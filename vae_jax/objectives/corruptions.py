"""Noise that a denoising auto-encoder must undo: `(key, x) -> x̃`, on the scale of the data.

Vincent, Larochelle, Bengio and Manzagol 2008, doi:10.1145/1390156.1390294.
"""

import jax
import jax.numpy as jnp

from vae_jax.spec import numbers

__all__ = ["gaussian", "masking", "none", "salt_and_pepper"]


def none():
    """No noise: x̃ = x."""
    return lambda key, x: x


def gaussian(*, scale):
    """Gaussian noise: x̃ = x + `scale` ε, ε ~ N(0, I). Raises `BadOption` for a negative scale."""
    numbers(scale=scale, at_least=0)
    return lambda key, x: x + scale * jax.random.normal(key, x.shape)


def masking(*, rate):
    """Masking noise: each dimension is 0 with probability `rate`, else unchanged.

    Raises `BadOption` for a rate outside [0, 1].
    """
    numbers(rate=rate, at_least=0, at_most=1)
    return lambda key, x: jnp.where(jax.random.bernoulli(key, rate, x.shape), 0.0, x)


def salt_and_pepper(*, rate, low, high):
    """Salt-and-pepper noise: with probability `rate` each dimension becomes `low` or `high`, equally likely.

    `low` and `high` are the ends of the data. Raises `BadOption` for a rate outside [0, 1].
    """
    numbers(rate=rate, at_least=0, at_most=1)
    numbers(low=low, high=high)

    def corrupt(key, x):
        u = jax.random.uniform(key, x.shape)  # one number decides if a dimension changes, and to what
        return jnp.where(u < rate / 2, low, jnp.where(u < rate, high, x))

    return corrupt
