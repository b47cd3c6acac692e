"""Convolutional networks whose code is a map [h, w, D], and networks of maps of integer codes."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.conv import Conv, ConvTranspose, image_channels, image_head, with_context
from vae_jax.networks.mlp import activation_function
from vae_jax.networks.pixel_cnn import GatedPixelCNN
from vae_jax.networks.resnet import ResidualBlock
from vae_jax.spec import MANY, integers, sizes


class MapEncoder(nn.Module):
    """An encoder to a map: a halving for each of `channels`, residual blocks, and a 1x1 convolution to `outputs`.

    An image that is a context is joined to the input at its size.
    """

    outputs: tuple
    channels: tuple = (32, 64)
    num_blocks: int = 2
    activation: str = "relu"

    def __post_init__(self):
        _check(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, x, context=None):
        act = activation_function(self.activation)
        h = with_context(x, context)
        for features in self.channels[:-1]:
            h = act(Conv(features, kernel=4, stride=2)(h))
        width = self.channels[-1] if self.channels else h.shape[-1]
        h = Conv(width, kernel=4, stride=2)(h) if self.channels else Conv(width)(h)
        for _ in range(self.num_blocks):
            h = ResidualBlock(self.activation)(h)
        return image_head(Conv(sum(image_channels(self.outputs)), kernel=1)(act(h)), self.outputs)


class MapDecoder(nn.Module):
    """The mirror image of `MapEncoder`: a 3x3 convolution, residual blocks, and a doubling for each of `channels`."""

    outputs: tuple
    channels: tuple = (64, 32)
    num_blocks: int = 2
    activation: str = "relu"

    def __post_init__(self):
        _check(self)
        sizes(channels=self.channels, at_least_one=True)
        super().__post_init__()

    @nn.compact
    def __call__(self, z, context=None):
        act = activation_function(self.activation)
        h = Conv(self.channels[0])(with_context(z, context))
        for _ in range(self.num_blocks):
            h = ResidualBlock(self.activation)(h)
        for features in self.channels[1:]:
            h = ConvTranspose(features)(act(h))
        return image_head(ConvTranspose(sum(image_channels(self.outputs)))(act(h)), self.outputs)


class CodePixelCNN(GatedPixelCNN):
    """A `GatedPixelCNN` of maps of codes k [H, W, 1]: it sees a learned vector of `embedding` numbers for each code."""

    num_codes: int = 2
    embedding: int = 16

    def __post_init__(self):
        integers(num_codes=self.num_codes, at_least=2)
        integers(embedding=self.embedding)
        super().__post_init__()

    def setup(self):
        super().setup()
        self.table = self.param("table", nn.initializers.normal(1.0), (self.num_codes, self.embedding))

    def __call__(self, x, context=None):
        return super().__call__(self.vectors(x), context)

    def row(self, above, state, i, context=None):
        """Return what `GatedPixelCNN.row` does for row i - 1 [W, 1] of codes."""
        return super().row(self.vectors(above), state, i, context)

    def step(self, left, state, i, j, from_above, context=None):
        """Return what `GatedPixelCNN.step` does for the code [1] on the left."""
        return super().step(self.vectors(left), state, i, j, from_above, context)

    def start(self, height, width, num_channels):
        """Return the state before the first place."""
        return super().start(height, width, self.embedding)

    def vectors(self, k):
        """Return the vectors [..., F] of codes [..., 1]."""
        # A product with indicators, whose gradient is a product; that of indexing is a slow scatter on CPU.
        return jax.nn.one_hot(k[..., 0].astype(jnp.int32), self.num_codes, dtype=self.table.dtype) @ self.table


class CodeFeatures(nn.Module):
    """Features [h, w, F] of a map of codes [h, w]: a learned vector for each code, then residual blocks."""

    outputs: tuple
    num_codes: int = 2
    num_blocks: int = 1
    activation: str = "relu"

    @nn.compact
    def __call__(self, k, context=None):
        width = sum(image_channels(self.outputs))
        table = self.param("table", nn.initializers.normal(1.0), (self.num_codes, width))
        h = jax.nn.one_hot(k.astype(jnp.int32), self.num_codes, dtype=table.dtype) @ table
        for _ in range(self.num_blocks):
            h = ResidualBlock(self.activation)(h)
        return image_head(h, self.outputs)


def _check(network):
    sizes(channels=network.channels)
    integers(num_blocks=network.num_blocks, at_least=0, at_most=MANY)
    activation_function(network.activation)
    image_channels(network.outputs)
