"""Groups found without labels: to which component of a mixture an example belongs."""

import jax
import jax.numpy as jnp


def responsibilities(model, params, x, context=None):
    """p(k|x) = π_k p_k(x) / p(x) [K], of a family whose density is a `distributions.Mixture`.

    Raises `ValueError` for a family whose density has no components.
    """
    density = model.density(params, context) if model.density else None
    if not hasattr(density, "log_joint"):
        raise ValueError("clusters are the components of a mixture; this family's density has none")
    return jax.nn.softmax(density.log_joint(x))


def label(model, params, x, context=None):
    """The component of the largest responsibility, 0..K-1."""
    return jnp.argmax(responsibilities(model, params, x, context))
