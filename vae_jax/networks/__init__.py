"""Flax linen modules, for one example: `(x, context) -> tuple of arrays`, of the shapes given by `outputs`.

The only place that knows of linen: a model sees `init(key, x, context)` and `apply(variables, x, context)`.
`context` is a vector (a one-hot label) or None.
"""

from vae_jax.networks.conv import ConvDecoder as conv_decoder
from vae_jax.networks.conv import ConvEncoder as conv_encoder
from vae_jax.networks.mlp import MLP as mlp
from vae_jax.networks.resnet import ResNetDecoder as resnet_decoder
from vae_jax.networks.resnet import ResNetEncoder as resnet_encoder

__all__ = ["conv_decoder", "conv_encoder", "mlp", "resnet_decoder", "resnet_encoder"]
