"""Maps of one number that a coupling can use, by name."""

from vae_jax.bijectors.elementwise import affine
from vae_jax.bijectors.mixture import mixture
from vae_jax.bijectors.spline import spline

__all__ = ["affine", "mixture", "spline"]
