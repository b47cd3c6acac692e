"""Clustering without labels: the component of a mixture to which an example belongs."""

import jax
import jax.numpy as jnp


def responsibilities(model, params, x, context=None):
    """Return p(k|x) = π_k p_k(x) / p(x) [K] for a family whose density is a `distributions.Mixture`.

    Args:
      model: a `core.Model`.
      params: its parameters.
      x: one example.
      context: its context, if the model is conditional.

    Raises `ValueError` for a family whose density has no components.
    """
    density = model.density(params, context) if model.density else None
    if not hasattr(density, "log_joint"):
        raise ValueError("clusters are the components of a mixture, and this density has none; use a mixture")
    return jax.nn.softmax(density.log_joint(x))


def label(model, params, x, context=None):
    """Return the component with the largest responsibility, 0..K-1. Arguments are those of `responsibilities`."""
    return jnp.argmax(responsibilities(model, params, x, context))
