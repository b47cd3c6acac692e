"""The residual networks of two players: a generator of images [H, W, C], and a critic of them.

No layer normalises: over a batch it would make the critic's gradient penalties wrong (arXiv:1704.00028 sec. 4). A
residual block begins as the identity instead. Images are doubled and halved by bilinear resampling, as in
arXiv:2501.05441 sec. 3.3, which is free of the checkerboards of strided convolutions.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.conv import Conv, check_decoder, coarse_shape, image_channels, image_head
from vae_jax.networks.mlp import DenseHead, activation_function, join
from vae_jax.networks.resnet import ResidualBlock
from vae_jax.spec import MANY, BadOption, integers, one_of, sizes

RESAMPLINGS = ("bilinear", "nearest")


class Generator(nn.Module):
    """A generator: a dense layer, then residual blocks and a doubling for each of `channels`, coarse to fine.

    A 3x3 convolution at full size returns the image, without limits; `models.gan` brings it into its range.
    """

    outputs: tuple
    channels: tuple = (64, 32)
    num_blocks: int = 1
    activation: str = "leaky_relu"
    resampling: str = "bilinear"

    def __post_init__(self):
        check_decoder(self)
        integers(num_blocks=self.num_blocks, at_least=0, at_most=MANY)
        one_of(RESAMPLINGS, resampling=self.resampling)
        super().__post_init__()

    @nn.compact
    def __call__(self, z, context=None):
        act = activation_function(self.activation)
        height, width = coarse_shape(self.outputs[0][:3], self.channels)
        h = nn.Dense(height * width * self.channels[0])(join(z, context)).reshape(height, width, self.channels[0])
        for features in (*self.channels[1:], self.channels[-1]):
            for _ in range(self.num_blocks):
                h = ResidualBlock(self.activation)(h)
            if features != h.shape[-1]:
                h = Conv(features, kernel=1)(h)
            h = doubled(h, self.resampling)
        return image_head(Conv(sum(image_channels(self.outputs)))(act(h)), self.outputs)


class Critic(nn.Module):
    """A critic: a 3x3 convolution, then a halving and residual blocks for each of `channels`, fine to coarse.

    A dense layer of the width `hidden` sees the coarsest image. A context, a vector, enters by projection as in
    arXiv:1802.05637 eq. (3): the outputs are A h + a + (B c) ⊙ (A' h) with the last features h.
    """

    outputs: tuple
    channels: tuple = (32, 64)
    num_blocks: int = 1
    hidden: int = 64
    activation: str = "leaky_relu"

    def __post_init__(self):
        sizes(channels=self.channels, at_least_one=True)
        integers(num_blocks=self.num_blocks, at_least=0, at_most=MANY)
        integers(hidden=self.hidden)
        activation_function(self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, x, context=None):
        act = activation_function(self.activation)
        coarse_shape(x.shape, self.channels)
        h = Conv(self.channels[0])(x)
        for features in self.channels:
            h = halved(h)
            if features != h.shape[-1]:
                h = Conv(features, kernel=1)(h)
            for _ in range(self.num_blocks):
                h = ResidualBlock(self.activation)(h)
        h = act(nn.Dense(self.hidden)(act(h).ravel()))
        outputs = DenseHead(self.outputs)(h)
        if context is None:
            return outputs
        if context.ndim != 1:
            raise BadOption(
                f"name: 'critic' requires a label or a vector as context, got shape {context.shape}; use 'mlp'"
            )
        projected = nn.Dense(self.hidden, use_bias=False)(context)
        return tuple(a + b for a, b in zip(outputs, DenseHead(self.outputs)(h * projected), strict=True))


def doubled(x, resampling="bilinear"):
    """Return an image [H, W, C] at twice its size, [2H, 2W, C]; "bilinear" with the edges repeated, or "nearest"."""
    if resampling == "nearest":
        return jnp.repeat(jnp.repeat(x, 2, axis=0), 2, axis=1)
    for axis in (0, 1):
        last = x.shape[axis] - 1
        cut = lambda start, stop, x=x, axis=axis: jax.lax.slice_in_dim(x, start, stop, axis=axis)  # noqa: E731
        before = jnp.concatenate([cut(0, 1), cut(0, last)], axis)
        after = jnp.concatenate([cut(1, last + 1), cut(last, last + 1)], axis)
        pairs = jnp.stack([0.75 * x + 0.25 * before, 0.75 * x + 0.25 * after], axis + 1)
        x = pairs.reshape(*x.shape[:axis], 2 * x.shape[axis], *x.shape[axis + 1 :])
    return x


def halved(x):
    """Return an image [H, W, C] at half its size, [H/2, W/2, C]: the mean of each 2x2 block, which is bilinear."""
    height, width, channels = x.shape
    return jnp.mean(x.reshape(height // 2, 2, width // 2, 2, channels), axis=(1, 3))
