"""Heads for bits."""

import jax.numpy as jnp

from vae_jax.conditionals.conditional import Head
from vae_jax.distributions import Bernoulli, RelaxedBernoulli
from vae_jax.spec import numbers

__all__ = ["bernoulli", "relaxed_bernoulli"]


def bernoulli(event_shape) -> Head:
    """Return independent bits: the network returns the log-odds of 1 for each."""
    return Head((event_shape,), Bernoulli)


def relaxed_bernoulli(event_shape, *, temperature=2 / 3) -> Head:
    """Return a Concrete posterior, arXiv:1611.00712: z is the logit of a relaxed bit, σ(z) its value in (0, 1).

    A decoder that must see bits applies σ to z. The default 2/3 is the paper's temperature for binary posteriors.
    Raises `BadOption` for a temperature that is not positive.
    """
    numbers(temperature=temperature, above=0)
    return Head((event_shape,), lambda logits: RelaxedBernoulli(logits, jnp.float32(temperature)))
