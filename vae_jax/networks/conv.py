"""Strided convolutional encoders and decoders for images [H, W, C].

XLA's CPU backend runs the gradient of a convolution inside `scan` many times slower than outside, so on that backend
a convolution is written as a gather of patches and one matrix product; on accelerators it is `lax.conv`. Both read
the same parameters, so a checkpoint moves between backends.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from vae_jax.networks.mlp import MLP, activation_function, join, split

_NHWC = ("NHWC", "HWIO", "NHWC")


def as_matrix_product() -> bool:
    """The rule: convolutions are matrix products on the CPU backend, native convolutions elsewhere."""
    return jax.default_backend() == "cpu"


class Conv(nn.Module):
    """Convolution of an image [H, W, C] -> [H/s, W/s, features]; the kernel reaches evenly over every s x s block."""

    features: int
    kernel: int = 3
    stride: int = 1
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve(x, kernel, self.stride) + bias


class ConvTranspose(nn.Module):
    """Transposed convolution of an image [H, W, C] -> [H s, W s, features]: the adjoint of `Conv`."""

    features: int
    kernel: int = 4
    stride: int = 2

    @nn.compact
    def __call__(self, x):
        # Each output pixel sees (kernel/stride)² inputs: that, not kernel², is the fan-in of the initialiser.
        init = nn.initializers.variance_scaling(self.stride**2, "fan_in", "truncated_normal")
        kernel = self.param("kernel", init, (self.kernel, self.kernel, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve_transpose(x, kernel, self.stride) + bias


def convolve(x, kernel, stride):
    """Σ_ij x[s h + i - p, s w + j - p] K[i, j], padding p = (k - s)/2 on each side;  x [H, W, C], kernel [k, k, C, F]."""
    pad = _padding(kernel, stride)
    if not as_matrix_product():
        return lax.conv_general_dilated(x[None], kernel, (stride,) * 2, [(pad, pad)] * 2, dimension_numbers=_NHWC)[0]
    height, width = x.shape[0] // stride, x.shape[1] // stride
    reach = kernel.shape[0] // stride  # the kernel in units of s x s blocks
    blocks = _to_blocks(jnp.pad(x, ((pad, pad), (pad, pad), (0, 0))), stride)
    patches = [blocks[i : i + height, j : j + width] for i in range(reach) for j in range(reach)]
    return jnp.concatenate(patches, -1) @ _block_kernel(kernel, stride).reshape(-1, kernel.shape[-1])


def convolve_transpose(x, kernel, stride):
    """y[s h + i - p, s w + j - p] += x[h, w] K[i, j];  x [h, w, C], kernel [k, k, C, F] -> [s h, s w, F]."""
    pad = _padding(kernel, stride)
    height, width = x.shape[0], x.shape[1]
    if not as_matrix_product():
        padding = [(kernel.shape[0] - 1 - pad,) * 2] * 2
        flipped = kernel[::-1, ::-1]
        y = lax.conv_general_dilated(x[None], flipped, (1, 1), padding, (stride,) * 2, dimension_numbers=_NHWC)
        return y[0]
    features, reach = kernel.shape[-1], kernel.shape[0] // stride
    # [h, w, C] @ [C, blocks · s² F], then every piece is added where its block lies.
    weights = jnp.moveaxis(_block_kernel(kernel, stride), 2, 0).reshape(kernel.shape[2], -1)
    pieces = (x @ weights).reshape(height, width, reach * reach, stride * stride * features)
    rest = reach - 1
    blocks = sum(
        jnp.pad(pieces[:, :, i * reach + j], ((i, rest - i), (j, rest - j), (0, 0)))
        for i in range(reach)
        for j in range(reach)
    )
    y = _from_blocks(blocks, stride)
    return y[pad : pad + height * stride, pad : pad + width * stride]


def _padding(kernel, stride):
    size = kernel.shape[0]
    if size % stride or (size - stride) % 2:
        raise ValueError(f"convolution: kernel {size} must be a multiple of stride {stride}, and differ by an even number")
    return (size - stride) // 2


def _to_blocks(x, s):
    """Space to depth: [H, W, C] -> [H/s, W/s, s² C]."""
    height, width, channels = x.shape
    if height % s or width % s:
        raise ValueError(f"convolution: image {height}x{width} (padded) is not divisible by stride {s}")
    x = x.reshape(height // s, s, width // s, s, channels)
    return jnp.swapaxes(x, 1, 2).reshape(height // s, width // s, s * s * channels)


def _from_blocks(x, s):
    """Depth to space, the inverse of `_to_blocks`."""
    height, width, depth = x.shape
    x = x.reshape(height, width, s, s, depth // (s * s))
    return jnp.swapaxes(x, 1, 2).reshape(height * s, width * s, depth // (s * s))


def _block_kernel(kernel, s):
    """[k, k, C, F] as reach² blocks of s² taps: [reach², s², C, F]; for C last before F, as the patches have it."""
    k, _, channels, features = kernel.shape
    m = k // s
    return jnp.swapaxes(kernel.reshape(m, s, m, s, channels, features), 1, 2).reshape(m * m, s * s, channels, features)


def with_context(x, context):
    """The image with a constant plane for every entry of the context."""
    if context is None:
        return x
    planes = jnp.broadcast_to(context, (*x.shape[:2], context.shape[-1]))
    return jnp.concatenate([x, planes], -1)


def coarse_shape(shape, num_halvings):
    """(H, W) after halving. Raises `ValueError` where the image does not halve so often."""
    height, width, factor = shape[0], shape[1], 2**num_halvings
    if height % factor or width % factor:
        raise ValueError(f"an image of {height}x{width} cannot be halved {num_halvings} times; use fewer stages or pad it")
    return height // factor, width // factor


def image_channels(outputs):
    """Channels of each output [H, W, *rest] at every pixel, for a decoder whose outputs share their H and W."""
    if any(len(shape) < 3 or shape[:2] != outputs[0][:2] for shape in outputs):
        raise ValueError(f"a convolutional decoder wants image outputs (H, W, C, ...) of one size, got {outputs}")
    return [math.prod(shape[2:]) for shape in outputs]


def image_head(h, outputs):
    """[H, W, all channels] -> tuple of arrays of the shapes `outputs`."""
    pieces = split(h, image_channels(outputs))
    return tuple(piece.reshape(shape) for piece, shape in zip(pieces, outputs, strict=True))


class ConvEncoder(nn.Module):
    """Convolutions 4x4 of stride 2, one for each entry of `channels`, then a dense head."""

    outputs: tuple
    channels: tuple = (32, 64)
    hidden: tuple = ()
    activation: str = "relu"

    @nn.compact
    def __call__(self, x, context=None):
        act = activation_function(self.activation)
        coarse_shape(x.shape, len(self.channels))
        h = with_context(x, context)
        for features in self.channels:
            h = act(Conv(features, kernel=4, stride=2)(h))
        return MLP(self.outputs, self.hidden, self.activation)(h)


class ConvDecoder(nn.Module):
    """The mirror image: dense, then transposed convolutions 4x4 of stride 2 up to the image."""

    outputs: tuple
    channels: tuple = (64, 32)
    hidden: tuple = ()
    activation: str = "relu"

    @nn.compact
    def __call__(self, z, context=None):
        act = activation_function(self.activation)
        h = join(z, context)
        for width in self.hidden:
            h = act(nn.Dense(width)(h))
        height, width = coarse_shape(self.outputs[0], len(self.channels))
        h = act(nn.Dense(height * width * self.channels[0])(h)).reshape(height, width, self.channels[0])
        for features in self.channels[1:]:
            h = act(ConvTranspose(features)(h))
        return image_head(ConvTranspose(sum(image_channels(self.outputs)))(h), self.outputs)
