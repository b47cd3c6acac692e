"""Networks that also see a time: `apply(variables, x, t, context)` -> arrays of the shapes `outputs` at a scalar t."""

from vae_jax.networks import time_mlp, unet

__all__ = ["time_mlp", "unet"]
