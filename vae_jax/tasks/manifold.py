"""A two-dimensional latent space, drawn through the decoder."""

import jax
import jax.numpy as jnp


def grid_values(n, extent=2.0):
    """n equal steps on [-extent, extent]."""
    return jnp.linspace(-extent, extent, n)


def normal_quantiles(n):
    """n values that cut the standard normal into pieces of equal mass: Φ⁻¹((i + ½)/n).  arXiv:1312.6114 app. A."""
    return jax.scipy.stats.norm.ppf((jnp.arange(n) + 0.5) / n)


def decode_grid(latent, params, values, context=None):
    """[n, n, *event]: entry [i, j] is the mean of p(x | z = (values[j], values[i])), so z1 runs along a row.

    Raises `ValueError` for a prior that is not two-dimensional, and where there is none.
    """
    if latent.prior is None:
        raise ValueError("the manifold needs a prior of two latent dimensions, this model has none")
    shape = jax.tree.map(jnp.shape, latent.prior(params, context).mean())
    if shape != (2,):
        raise ValueError(f"the manifold needs two latent dimensions, this prior has shape {shape}")
    decode = lambda z1, z2: latent.likelihood(params, jnp.stack([z1, z2]), context).mean()  # noqa: E731
    return jax.vmap(lambda z2: jax.vmap(lambda z1: decode(z1, z2))(values))(values)
