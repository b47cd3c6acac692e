"""Strided convolutional encoders and decoders for images [H, W, C].

XLA's CPU backend computes the gradient of a convolution inside `scan` many times slower than outside. On CPU a
convolution is therefore a gather of patches and one matrix product; on accelerators it is `lax.conv`. The choice is
made when a program is lowered, so one program runs on every platform. Both forms read the same parameters, so a
checkpoint moves between platforms.
"""

import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from vae_jax.networks.mlp import MLP, activation_function, join, split
from vae_jax.spec import BadOption, sizes

_NHWC = ("NHWC", "HWIO", "NHWC")
FEW_OUTPUTS = 2  # with so many times more input than output channels, a convolution multiplies before it moves pixels


class Conv(nn.Module):
    """A convolution of an image [H, W, C] -> [H/s, W/s, features], with the kernel centred on each s x s block."""

    features: int
    kernel: int = 3
    stride: int = 1
    kernel_init: nn.initializers.Initializer = nn.initializers.lecun_normal()

    @nn.compact
    def __call__(self, x):
        shape = (self.kernel, self.kernel, x.shape[-1], self.features)
        kernel = self.param("kernel", self.kernel_init, shape)
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve(x, kernel, self.stride) + bias[None, None]


class ConvTranspose(nn.Module):
    """A transposed convolution of an image [H, W, C] -> [H s, W s, features], the adjoint of `Conv`."""

    features: int
    kernel: int = 4
    stride: int = 2
    kernel_init: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x):
        # Each output pixel depends on (kernel/stride)² inputs, so the fan-in is smaller than kernel² by stride².
        init = self.kernel_init or nn.initializers.variance_scaling(self.stride**2, "fan_in", "truncated_normal")
        kernel = self.param("kernel", init, (self.kernel, self.kernel, x.shape[-1], self.features))
        bias = self.param("bias", nn.initializers.zeros, (self.features,))
        return convolve_transpose(x, kernel, self.stride) + bias[None, None]


def convolve(x, kernel, stride):
    """Return y[h, w] = Σ_ij x[s h + i - p, s w + j - p] K[i, j], with zeros outside the image and p = (k - s)/2.

    x [H, W, C], kernel K [k, k, C, F], stride s -> y [H/s, W/s, F]. Raises `ValueError` where s does not divide.
    """
    pad = _padding(kernel, stride)

    def products(x, kernel):
        if stride == 1 and kernel.shape[2] > FEW_OUTPUTS * kernel.shape[3]:  # move these, not patches of many inputs
            return _product_first(x, kernel[::-1, ::-1], stride)
        patches = _gather(_to_blocks(jnp.pad(x, ((pad, pad), (pad, pad), (0, 0))), stride), _reach(kernel, stride))
        return _product(patches, _block_kernel(kernel, stride))

    def native(x, kernel):
        padding = [(pad, pad)] * 2
        return lax.conv_general_dilated(x[None], kernel, (stride,) * 2, padding, dimension_numbers=_NHWC)[0]

    return by_platform(x, kernel, products=products, native=native)


def convolve_inside(x, kernel, dilation=1):
    """Return y[h, w] = Σ_ij x[h + d i, w + d j] K[i, j] at every place where the whole window lies inside the image.

    x [H, W, C], kernel K [k, l, C, F], dilation d -> y [H - d (k - 1), W - d (l - 1), F].
    """

    def products(x, kernel):
        return _product(_gather(x, kernel.shape[:2], dilation), kernel.reshape(-1, kernel.shape[-1]))

    def native(x, kernel):
        options = {"rhs_dilation": (dilation,) * 2, "dimension_numbers": _NHWC}
        return lax.conv_general_dilated(x[None], kernel, (1, 1), "VALID", **options)[0]

    return by_platform(x, kernel, products=products, native=native)


def by_channel(x, kernel):
    """Return y[h, w, c] = Σ_ij x[h + i - p, w + j - p, c] K[i, j, c], with zeros outside the image and p = (k - 1)/2.

    x [H, W, C], kernel K [k, k, C], k odd -> y [H, W, C].
    """

    def products(x, kernel):
        pad, (height, width, _) = kernel.shape[0] // 2, x.shape
        wide = jnp.pad(x, ((pad, pad), (pad, pad), (0, 0)))
        places = np.ndindex(kernel.shape[:2])
        return sum(wide[i : i + height, j : j + width] * kernel[i, j][None, None] for i, j in places)

    def native(x, kernel):
        options = {"dimension_numbers": _NHWC, "feature_group_count": x.shape[-1]}
        return lax.conv_general_dilated(x[None], kernel[:, :, None], (1, 1), "SAME", **options)[0]

    return by_platform(x, kernel, products=products, native=native)


def convolve_transpose(x, kernel, stride):
    """Return y with y[s h + i - p, s w + j - p] = Σ x[h, w] K[i, j]: the adjoint of `convolve` in x.

    x [h, w, C], kernel K [k, k, C, F], stride s -> y [s h, s w, F]. Raises `ValueError` where s does not divide.
    """
    pad, size = _padding(kernel, stride), kernel.shape[0]

    def products(x, kernel):
        return _product_first(x, kernel, stride)

    def native(x, kernel):
        padding, dilation = [(size - 1 - pad, size - 1 - pad)] * 2, (stride,) * 2
        flipped = kernel[::-1, ::-1]
        return lax.conv_general_dilated(x[None], flipped, (1, 1), padding, dilation, dimension_numbers=_NHWC)[0]

    return by_platform(x, kernel, products=products, native=native)


def _product_first(x, kernel, stride):
    """Return `convolve_transpose` of x as one matrix product, then a sum of shifted pieces."""
    pad = _padding(kernel, stride)
    pieces = _product(x, _block_kernel(jnp.swapaxes(kernel, 2, 3), stride).T)
    y = _from_blocks(_scatter(pieces, _reach(kernel, stride)), stride)
    return y[pad : pad + x.shape[0] * stride, pad : pad + x.shape[1] * stride]


def by_platform(*args, products, native):
    """Return `products(*args)` on CPU and `native(*args)` elsewhere; the compiled program holds only one of them."""
    return lax.platform_dependent(*args, cpu=products, default=native)


def _product(x, matrix):
    """Return x [H, W, D] @ matrix [D, F].

    The barrier after the transposition lets XLA compute the gradient of the matrix without transposing every patch
    first, which is up to three times as fast on CPU.
    """
    return lax.dot_general(x, lax.optimization_barrier(matrix.T), (((2,), (1,)), ((), ())))


# Both functions move whole blocks, and each is the gradient of the other, so no gradient is a scatter of scalars.


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _gather(blocks, reach, apart=1):
    """Return every window of r x s blocks that lie a = `apart` places apart.

    [h + a (r - 1), w + a (s - 1), D] -> [h, w, r s D], (r, s) = `reach`.
    """
    margin = (apart * (reach[0] - 1), apart * (reach[1] - 1), 0)
    height, width, depth = (n - r for n, r in zip(blocks.shape, margin, strict=True))
    patches = jnp.zeros((height, width, math.prod(reach) * depth), blocks.dtype)
    for n, (i, j) in enumerate(np.ndindex(reach)):  # an update in place is four times as fast as concatenation on CPU
        shifted = blocks[i * apart : i * apart + height, j * apart : j * apart + width]
        patches = lax.dynamic_update_slice(patches, shifted, (0, 0, n * depth))
    return patches


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2))
def _scatter(patches, reach, apart=1):
    """Add every window at the place of its blocks: [h, w, r s D] -> [h + a (r - 1), w + a (s - 1), D]."""
    depth = patches.shape[-1] // math.prod(reach)
    around = lambda i, size: (apart * i, apart * (size - 1 - i))  # noqa: E731
    return sum(
        jnp.pad(patches[..., n * depth : (n + 1) * depth], (around(i, reach[0]), around(j, reach[1]), (0, 0)))
        for n, (i, j) in enumerate(np.ndindex(reach))
    )


_gather.defvjp(
    lambda blocks, reach, apart: (_gather(blocks, reach, apart), None),
    lambda reach, apart, _, g: (_scatter(g, reach, apart),),
)
_scatter.defvjp(
    lambda patches, reach, apart: (_scatter(patches, reach, apart), None),
    lambda reach, apart, _, g: (_gather(g, reach, apart),),
)


def _padding(kernel, stride):
    size = kernel.shape[0]
    if size % stride or (size - stride) % 2:
        raise ValueError(
            f"convolution: kernel {size} must be a multiple of stride {stride} and differ by an even number"
        )
    return (size - stride) // 2


def _reach(kernel, stride):
    return (kernel.shape[0] // stride, kernel.shape[1] // stride)


def _to_blocks(x, s):
    """Move each s x s block of pixels into the channels: [H, W, C] -> [H/s, W/s, s² C]."""
    height, width, channels = x.shape
    if height % s or width % s:
        raise ValueError(f"convolution: image {height}x{width} (padded) is not divisible by stride {s}")
    x = x.reshape(height // s, s, width // s, s, channels)
    return jnp.swapaxes(x, 1, 2).reshape(height // s, width // s, s * s * channels)


def _from_blocks(x, s):
    """Invert `_to_blocks`: [H/s, W/s, s² C] -> [H, W, C]."""
    height, width, depth = x.shape
    x = x.reshape(height, width, s, s, depth // (s * s))
    return jnp.swapaxes(x, 1, 2).reshape(height * s, width * s, depth // (s * s))


def _block_kernel(kernel, s):
    """Reshape a kernel [k, k, C, F] to a matrix [k² C, F] whose rows are in the order of `_gather`."""
    k, _, channels, features = kernel.shape
    m = k // s
    return jnp.swapaxes(kernel.reshape(m, s, m, s, channels, features), 1, 2).reshape(k * k * channels, features)


def with_context(x, context):
    """Append a context, a vector [F] for all pixels or an image [h, w, F], to an image [H, W, C]: [H, W, C + F]."""
    if context is None:
        return x
    planes = jnp.broadcast_to(at_size(context, x.shape), (*x.shape[:2], context.shape[-1]))
    return jnp.concatenate([x, planes], -1)


def at_size(context, shape):
    """Return a context that is an image [h, w, F] at the size of an image of `shape`: each pixel is its nearest one.

    All other contexts are returned as they are.
    """
    if context is None or context.ndim != 3 or context.shape[:2] == tuple(shape[:2]):
        return context
    return jax.image.resize(context, (*shape[:2], context.shape[-1]), "nearest")


def coarse_shape(shape, channels, name="channels"):
    """Return (H, W) of an image [H, W, C] that is halved once for each entry of `channels`.

    Raises `BadOption` if `shape` is not an image, or cannot be halved that often.
    """
    if len(shape) != 3:
        raise BadOption(f"{name}: a convolutional network requires images [H, W, C], got shape {shape}; use 'mlp'")
    (height, width, _), times = shape, len(channels)
    if height % 2 ** min(times, 64) or width % 2 ** min(times, 64):
        raise BadOption(
            f"{name}: an image of {height}x{width} cannot be halved {times} times; give fewer entries, or pad the image"
        )
    return height // 2**times, width // 2**times


def image_channels(outputs):
    """Return the number of channels of each output [H, W, *rest]. Raises `BadOption` unless all share H and W."""
    if any(len(shape) < 3 or shape[:2] != outputs[0][:2] for shape in outputs):
        raise BadOption(f"name: a convolutional network requires images of one size, got outputs {outputs}; use 'mlp'")
    return [math.prod(shape[2:]) for shape in outputs]


def image_head(h, outputs):
    """Split an array [H, W, all channels] into a tuple of arrays of the shapes `outputs`."""
    pieces = split(h, image_channels(outputs))
    return tuple(piece.reshape(shape) for piece, shape in zip(pieces, outputs, strict=True))


def check_decoder(network):
    """Raise `BadOption` if a decoder with these `channels` and this activation cannot return its `outputs`."""
    sizes(channels=network.channels, at_least_one=True)
    activation_function(network.activation)
    image_channels(network.outputs)
    coarse_shape(network.outputs[0][:3], network.channels)


class ConvEncoder(nn.Module):
    """An encoder of 4x4 convolutions with stride 2, one for each entry of `channels`, and an MLP `hidden` on top."""

    outputs: tuple
    channels: tuple = (32, 64)
    hidden: tuple = ()
    activation: str = "relu"

    def __post_init__(self):
        sizes(channels=self.channels, hidden=self.hidden)
        activation_function(self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, x, context=None):
        act = activation_function(self.activation)
        coarse_shape(x.shape, self.channels, "encoder.channels")
        h = with_context(x, context)
        for features in self.channels:
            h = act(Conv(features, kernel=4, stride=2)(h))
        return MLP(self.outputs, self.hidden, self.activation)(h)


class ConvDecoder(nn.Module):
    """The mirror image of `ConvEncoder`: dense layers, then 4x4 transposed convolutions with stride 2."""

    outputs: tuple
    channels: tuple = (64, 32)
    hidden: tuple = ()
    activation: str = "relu"

    def __post_init__(self):
        sizes(hidden=self.hidden)
        check_decoder(self)
        super().__post_init__()

    @nn.compact
    def __call__(self, z, context=None):
        act = activation_function(self.activation)
        h = join(z, context)
        for width in self.hidden:
            h = act(nn.Dense(width)(h))
        height, width = coarse_shape(self.outputs[0][:3], self.channels)
        h = act(nn.Dense(height * width * self.channels[0])(h)).reshape(height, width, self.channels[0])
        for features in self.channels[1:]:
            h = act(ConvTranspose(features)(h))
        return image_head(ConvTranspose(sum(image_channels(self.outputs)))(h), self.outputs)
