"""Images of a two-dimensional latent space, decoded on a grid."""

import jax
import jax.numpy as jnp


def grid_values(n, extent=2.0):
    """Return n evenly spaced values from -extent to extent."""
    return jnp.linspace(-extent, extent, n)


def normal_quantiles(n):
    """Return the quantiles Φ⁻¹((i + ½)/n) of the standard normal, i = 0, ..., n - 1, arXiv:1312.6114 app. A."""
    return jax.scipy.stats.norm.ppf((jnp.arange(n) + 0.5) / n)


def decode_grid(latent, params, values, context=None):
    """Return the mean of p(x|z) on a grid, `[n, n, *event]`: entry [i, j] is at z = (values[j], values[i]).

    Args:
      latent: a `core.Latent` with a prior over two dimensions.
      params: its parameters.
      values: the n values of both dimensions; z_1 changes along a row.
      context: one context for all images, if the model is conditional.

    Raises `ValueError` if there is no prior, or its dimension is not two.
    """
    if latent.prior is None:
        raise ValueError("the manifold requires a prior over two dimensions, but this model has no prior")
    shape = jax.tree.map(jnp.shape, latent.prior(params, context).mean())
    if shape != (2,):
        raise ValueError(f"the manifold requires two latent dimensions, but this prior has the shape {shape}")
    decode = lambda z1, z2: latent.likelihood(params, jnp.stack([z1, z2]), context).mean()  # noqa: E731
    return jax.vmap(lambda z2: jax.vmap(lambda z1: decode(z1, z2))(values))(values)
