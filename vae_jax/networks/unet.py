"""Networks of a noisy input and a time, (x, t, context) -> arrays of the shapes `outputs`: for images and for vectors.

A diffusion model and a continuous flow use them: t is a time, or a log signal-to-noise ratio on the scale of 1. No
layer couples the examples of a batch.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.networks.conv import Conv, ConvTranspose, coarse_shape, image_channels, image_head, with_context
from vae_jax.networks.mlp import DenseHead, activation_function, join
from vae_jax.networks.stacks import stacked
from vae_jax.spec import MANY, BadOption, flags, integers, numbers, sizes

GROUP = 8  # channels of a group share their mean and variance


class UNet(nn.Module):
    """A U-Net, arXiv:1505.04597, with residual blocks and attention, arXiv:2006.11239 app. B.

    x [H, W, C], a scalar t and a context -> a tuple of arrays `outputs` [H, W, ...]. Level l has `width` ·
    `multipliers[l]` channels and half the sides of level l - 1. Each level has `num_blocks` residual blocks on the way
    down, and as many on the way up. Block n from the end, on the way up, also sees the output of block n on the way
    down. Each block scales and shifts its channels by a function of t and of the context, a vector. A context that is
    an image is joined to x instead.

    `attention` counts the coarsest levels whose blocks end in self-attention. `patch` = s moves every block of s x s
    pixels into one place before the first level, and back after the last one; s = 2 is four times as fast. `fourier` =
    (n, ...) joins sin(2ⁿ π x) and cos(2ⁿ π x) to x, arXiv:2107.00630 app. C. `dropout` is the rate at which units of a
    block are dropped, if there is a key "dropout". Every block is the identity at initialisation, and all outputs are
    zero unless `zero_output` is False.

    Raises `BadOption` for sizes below 1, for a dropout outside [0, 1), and for sides that do not halve so often.
    """

    outputs: tuple
    width: int = 32
    multipliers: tuple = (1, 2, 2)
    num_blocks: int = 2
    attention: int = 1
    num_heads: int = 4
    patch: int = 1
    fourier: tuple = ()
    dropout: float = 0.0
    activation: str = "silu"
    max_frequency: float = 100.0
    zero_output: bool = True

    @property
    def drops(self):
        """Return True if a key "dropout" makes a difference."""
        return self.dropout > 0

    def __post_init__(self):
        sizes(multipliers=self.multipliers, at_least_one=True, at_most=MANY)
        integers(width=self.width, num_heads=self.num_heads)
        integers(num_blocks=self.num_blocks, patch=self.patch, at_most=MANY)
        integers(attention=self.attention, at_least=0, at_most=len(self.multipliers))
        if not isinstance(self.fourier, tuple | list):
            raise BadOption(f"fourier must be a tuple of whole numbers, such as (6, 7), got {self.fourier!r}")
        for n in self.fourier:
            integers(at_least=0, at_most=16, **{"fourier: each entry": n})
        numbers(dropout=self.dropout, at_least=0, below=1)
        numbers(max_frequency=self.max_frequency, above=0)
        flags(zero_output=self.zero_output)
        activation_function(self.activation)
        image_channels(self.outputs)
        self._coarse(self.outputs[0])
        heads = [self.width * m for m in self.multipliers[len(self.multipliers) - self.attention :]]
        if any(channels % self.num_heads for channels in heads):
            raise BadOption(
                f"num_heads must divide the channels of levels with attention, {heads}; got {self.num_heads}"
            )
        super().__post_init__()

    def _coarse(self, shape):
        height, width = shape[:2]
        if height % self.patch or width % self.patch:
            raise BadOption(f"patch = {self.patch} must divide both sides of the image, got {height}x{width}")
        coarse_shape((height // self.patch, width // self.patch, 1), self.multipliers[1:], "multipliers")

    @nn.compact
    def __call__(self, x, t, context=None):
        if context is not None and context.ndim == 3:
            x, context = with_context(x, context), None
        if x.ndim != 3 or x.shape[:2] != tuple(self.outputs[0][:2]):
            raise BadOption(f"outputs: a U-Net returns images as large as its input {x.shape}, not {self.outputs}")
        channels = [self.width * m for m in self.multipliers]
        embedding = Embedding(4 * self.width, self.max_frequency, self.activation)(t, context).astype(x.dtype)
        options = {"dropout": self.dropout, "activation": self.activation}
        with_attention = [self.attention > len(channels) - 1 - level for level in range(len(channels))]

        h = jnp.concatenate([x, *(f(2.0**n * np.pi * x) for n in self.fourier for f in (jnp.sin, jnp.cos))], axis=-1)
        h = Conv(channels[0])(h) if self.patch == 1 else Conv(channels[0], self.patch, self.patch)(h)
        skips = []
        for level, features in enumerate(channels):
            if level:
                h = Conv(features, kernel=4, stride=2)(h)
            heads = self.num_heads if with_attention[level] else 0
            h, skip = self._blocks(features, heads, options)(h, None, embedding)
            skips.append(skip)
        for level in reversed(range(len(channels))):
            heads = self.num_heads if with_attention[level] else 0
            h, _ = self._blocks(channels[level], heads, options)(h, skips[level][::-1], embedding)
            if level:
                h = ConvTranspose(channels[level - 1])(h)

        h = activation_function(self.activation)(normalized(h, jnp.ones(h.shape[-1]), jnp.zeros(h.shape[-1])))
        kernel_init = nn.initializers.zeros if self.zero_output else nn.initializers.lecun_normal()
        total = sum(image_channels(self.outputs))
        if self.patch == 1:
            return image_head(Conv(total, kernel_init=kernel_init)(h), self.outputs)
        return image_head(ConvTranspose(total, self.patch, self.patch, kernel_init)(h), self.outputs)

    def _blocks(self, features, num_heads, options):
        """Return `num_blocks` equal blocks in one loop: compile time does not grow with their number."""
        blocks = stacked(Block, self.num_blocks, in_axes=(0, nn.broadcast))
        return blocks(features, num_heads, **options)


class Block(nn.Module):
    """A residual block of h [H, W, F], a skip connection [H, W, F] or None, and the embedding of t and the context.

        h + conv(dropout(act((1 + s) norm(conv(act(norm(h, skip)))) + b))),     (s, b) = a linear map of the embedding

    and then self-attention between all places, if there are `num_heads`. Returns the next h, twice.
    """

    features: int
    num_heads: int
    dropout: float
    activation: str

    @nn.compact
    def __call__(self, h, skip, embedding):
        act = activation_function(self.activation)
        joined = h if skip is None else jnp.concatenate([h, skip], axis=-1)
        y = Conv(self.features)(act(Norm()(joined)))
        scale, shift = jnp.split(nn.Dense(2 * self.features)(embedding), 2)
        y = act(normalized(y, 1.0 + scale, shift))
        y = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(y)
        y = Conv(self.features, kernel_init=nn.initializers.zeros)(y)
        h = h + y if skip is None else h + nn.Dense(self.features)(skip) + y
        if self.num_heads:
            h = h + Attention(self.num_heads)(Norm()(h))
        return h, h


class Attention(nn.Module):
    """Self-attention between the places of an image [H, W, F], arXiv:1706.03762 eq. (1); zero at initialisation."""

    num_heads: int

    @nn.compact
    def __call__(self, h):
        features = h.shape[-1]
        heads = nn.Dense(3 * features, use_bias=False)(h.reshape(-1, features))
        query, key, value = jnp.split(heads.reshape(len(heads), self.num_heads, -1), 3, axis=-1)
        scores = jnp.einsum("qhd,khd->hqk", query, key) * (features // self.num_heads) ** -0.5
        mixed = jnp.einsum("hqk,khd->qhd", jax.nn.softmax(scores), value)
        return nn.Dense(features, kernel_init=nn.initializers.zeros)(mixed.reshape(h.shape))


class Norm(nn.Module):
    """Group normalisation of one image with a learned scale and shift of every channel, arXiv:1803.08494 eq. (7)."""

    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (x.shape[-1],))
        return normalized(x, scale, self.param("bias", nn.initializers.zeros, (x.shape[-1],)))


def normalized(x, scale, shift, epsilon=1e-5):
    """Return scale · (x - mean) / std + shift of x [H, W, F], with mean and std over all places of a group of channels.

    Groups have `GROUP` channels, or all if that does not divide F. Statistics are in float32.
    """
    size = GROUP if x.shape[-1] % GROUP == 0 else x.shape[-1]
    of_group = lambda a: jnp.repeat(jnp.mean(jnp.mean(a, (0, 1)).reshape(-1, size), 1), size)  # noqa: E731
    wide = x.astype(jnp.float32)
    mean = of_group(wide)
    centred = wide - mean[None, None]
    factor = jax.lax.rsqrt(of_group(jnp.square(centred)) + epsilon) * scale
    return (centred * factor[None, None] + shift[None, None]).astype(x.dtype)


class Embedding(nn.Module):
    """The embedding of a time and a context, a vector or None, by two dense layers: [F]."""

    features: int
    max_frequency: float
    activation: str

    @nn.compact
    def __call__(self, t, context):
        act = activation_function(self.activation)
        h = nn.Dense(self.features)(sinusoids(t, self.features // 2, self.max_frequency))
        if context is not None:
            h = h + nn.Dense(self.features)(jnp.ravel(context))
        return act(nn.Dense(self.features)(act(h)))


def sinusoids(t, features, max_frequency=100.0, min_frequency=0.5):
    """Return sin(ω t) and cos(ω t) of a scalar t, [`features`], at frequencies ω in geometric progression.

    arXiv:1706.03762 sec. 3.5. The lowest frequency, 0.5, tells apart all t in [-3, 3]. A solver of an ODE needs steps
    of about 1 / `max_frequency`, if the network uses the highest one.
    """
    frequencies = np.geomspace(min_frequency, max_frequency, max(features // 2, 1)).astype(np.float32)
    angles = jnp.asarray(t, jnp.float32) * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)])


class TimeMLP(nn.Module):
    """Dense residual layers of the widths `hidden`: x of any shape, a scalar t and a context -> arrays `outputs`.

    Each layer scales and shifts its units by a function of t and of the context. All outputs are zero at
    initialisation unless `zero_output` is False. Raises `BadOption` for widths below 1.
    """

    outputs: tuple
    hidden: tuple = (128, 128, 128)
    activation: str = "silu"
    dropout: float = 0.0
    max_frequency: float = 30.0
    zero_output: bool = True

    @property
    def drops(self):
        """Return True if a key "dropout" makes a difference."""
        return self.dropout > 0

    def __post_init__(self):
        sizes(hidden=self.hidden, at_least_one=True)
        numbers(dropout=self.dropout, at_least=0, below=1)
        numbers(max_frequency=self.max_frequency, above=0)
        flags(zero_output=self.zero_output)
        activation_function(self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, x, t, context=None):
        act = activation_function(self.activation)
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        embedding = Embedding(self.hidden[0], self.max_frequency, self.activation)(t, context).astype(x.dtype)
        h = join(x, None)
        for width in self.hidden:
            scale, shift = jnp.split(nn.Dense(2 * width)(embedding), 2)
            y = drop(act((1.0 + scale) * nn.Dense(width)(h) + shift))
            h = h + y if h.shape == y.shape else y
        return DenseHead(self.outputs, self.zero_output)(h)
