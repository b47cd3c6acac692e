"""Residual convolutional encoders and decoders for images [H, W, C]."""

import flax.linen as nn

from vae_jax.networks.conv import (
    Conv,
    ConvTranspose,
    check_decoder,
    coarse_shape,
    image_channels,
    image_head,
    with_context,
)
from vae_jax.networks.mlp import DenseHead, activation_function, join
from vae_jax.spec import MANY, integers, sizes


class ResidualBlock(nn.Module):
    """A residual block, x + conv(act(conv(act(x)))).

    The last convolution is zero at initialisation: a deep stack begins as the identity. There is no batch
    normalisation, because it couples the examples of a batch.
    """

    activation: str

    @nn.compact
    def __call__(self, x):
        act = activation_function(self.activation)
        h = Conv(x.shape[-1])(act(x))
        return x + Conv(x.shape[-1], kernel_init=nn.initializers.zeros)(act(h))


class ResNetEncoder(nn.Module):
    """An encoder: each entry of `channels` halves the image and adds residual blocks; a dense layer follows."""

    outputs: tuple
    channels: tuple = (32, 64)
    num_blocks: int = 2
    activation: str = "elu"

    def __post_init__(self):
        sizes(channels=self.channels)
        integers(num_blocks=self.num_blocks, at_least=0, at_most=MANY)
        activation_function(self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, x, context=None):
        coarse_shape(x.shape, self.channels, "encoder.channels")
        h = with_context(x, context)
        for features in self.channels:
            h = Conv(features, kernel=4, stride=2)(h)
            for _ in range(self.num_blocks):
                h = ResidualBlock(self.activation)(h)
        return DenseHead(self.outputs)(activation_function(self.activation)(h).ravel())


class ResNetDecoder(nn.Module):
    """The mirror image of `ResNetEncoder`: a dense layer, then blocks and a doubling for each of `channels`."""

    outputs: tuple
    channels: tuple = (64, 32)
    num_blocks: int = 2
    activation: str = "elu"

    def __post_init__(self):
        check_decoder(self)
        integers(num_blocks=self.num_blocks, at_least=0, at_most=MANY)
        super().__post_init__()

    @nn.compact
    def __call__(self, z, context=None):
        act = activation_function(self.activation)
        height, width = coarse_shape(self.outputs[0][:3], self.channels)
        h = nn.Dense(height * width * self.channels[0])(join(z, context)).reshape(height, width, self.channels[0])
        for features in (*self.channels[1:], sum(image_channels(self.outputs))):
            for _ in range(self.num_blocks):
                h = ResidualBlock(self.activation)(h)
            h = ConvTranspose(features)(act(h))
        return image_head(h, self.outputs)
