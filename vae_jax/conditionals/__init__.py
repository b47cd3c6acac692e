"""Conditional distributions p(y | x, context): heads, priors, and chains of networks."""

from vae_jax.conditionals.conditional import Head, conditional

__all__ = ["Head", "conditional"]
