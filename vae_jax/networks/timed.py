"""Networks that also see a time: `apply(variables, x, t, context)` -> arrays of the shapes `outputs` at a scalar t."""

from vae_jax.networks.network import network
from vae_jax.networks.unet import TimeMLP, UNet

mlp, unet = network(TimeMLP), network(UNet)

__all__ = ["mlp", "unet"]
