"""Heads of bits and of deterministic codes."""

import jax.numpy as jnp

from vae_jax.conditionals.conditional import Head
from vae_jax.distributions import Bernoulli, RelaxedBernoulli
from vae_jax.spec import numbers

__all__ = ["bernoulli", "relaxed_bernoulli"]


def bernoulli(event_shape) -> Head:
    """Binary pixels: the decoder gives the log-odds of each being 1."""
    return Head((event_shape,), Bernoulli)


def relaxed_bernoulli(event_shape, *, temperature=2 / 3) -> Head:
    """A Concrete posterior, arXiv:1611.00712: z is the logit of a relaxed bit, σ(z) its value in (0, 1). A decoder that
    is to see bits applies σ itself; 2/3 is that paper's choice for binary posteriors.

    Raises `ValueError` for a temperature that is not positive.
    """
    numbers(temperature=temperature, above=0)
    return Head((event_shape,), lambda logits: RelaxedBernoulli(logits, jnp.float32(temperature)))
