"""The two halves of a deep hierarchy of maps of latents: features from the bottom up, latents from the top down.

Resolutions are counted from the finest one. The first one has half the sides of the image, each other one half those of
the one before. Equal blocks of a resolution are one scan, so that compile time does not grow with their number.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.conv import (
    Conv,
    ConvTranspose,
    by_channel,
    coarse_shape,
    image_channels,
    image_head,
    with_context,
)
from vae_jax.networks.mlp import activation_function
from vae_jax.networks.stacks import stacked
from vae_jax.numerics import LOG_2PI
from vae_jax.spec import MANY, BadOption, flags, integers, numbers, one_of, sizes

KINDS = ("gated", "bottleneck", "separable")  # of cells
INFERENCES = ("residual", "plain", "weighted")
EXPANDED = 3  # how much wider a separable cell is inside
UNIT = math.log(math.e - 1.0)  # softplus of it is 1


class Cell(nn.Module):
    """A residual block of a deep hierarchy, (h, _) -> (h + f(h), None), of one of three kinds.

        gated        v ⊙ σ(g), (v, g) = W₃ * act(W₃ * act(h))                        as in ladder VAEs, arXiv:1602.02282
        bottleneck   W₁ act(W₃ * act(W₃ * act(W₁ act(h)))), a quarter as wide inside     VDVAE, arXiv:2011.10650 fig. 3
        separable    e ⊙ σ(W act(W mean(e))), e = W₁ act(D₅ * act(W₁ act(h)))            NVAE, arXiv:2007.03898 fig. 3a

    W_k is a convolution with a kernel of k x k pixels, D₅ one of 5 x 5 of each channel by itself, three times as wide.
    The mean is that over all pixels: squeeze and excitation. NVAE's batch normalisation is left out, since log p(x) of
    an image would depend on its batch-mates. `gain` scales the last convolution at initialisation. With 1/√N for N
    blocks, the variance of h stays bounded in depth, arXiv:2011.10650 sec. 3.2.
    """

    kind: str
    activation: str
    gain: float

    @nn.compact
    def __call__(self, h, _=None):
        act, features = activation_function(self.activation), h.shape[-1]
        if self.kind == "gated":
            y = Conv(features)(act(h))
            y = Conv(2 * features, kernel_init=_scaled(self.gain))(act(y))
            value, gate = jnp.split(y, 2, axis=-1)
            return h + value * jax.nn.sigmoid(gate), None
        if self.kind == "bottleneck":
            inside = max(features // 4, 1)
            y = nn.Dense(inside)(act(h))
            y = Conv(inside)(act(Conv(inside)(act(y))))
            return h + nn.Dense(features, kernel_init=_scaled(self.gain))(act(y)), None
        y = nn.Dense(EXPANDED * features)(act(h))
        kernel = self.param("depthwise", nn.initializers.lecun_normal(in_axis=(0, 1)), (5, 5, EXPANDED * features))
        y = nn.Dense(features, kernel_init=_scaled(self.gain))(act(by_channel(act(y), kernel)))
        share = nn.Dense(max(features // 16, 4))(jnp.mean(y, axis=(0, 1)))
        return h + y * jax.nn.sigmoid(nn.Dense(features)(act(share)))[None, None], None


class BottomUp(nn.Module):
    """Features of an image at each resolution, the finest first: arrays of the shapes `outputs`.

    Each resolution has `num_blocks` cells of a kind. Raises `BadOption` for sides that do not halve so often.
    """

    outputs: tuple
    num_blocks: int = 1
    activation: str = "elu"
    cell: str = "gated"

    def __post_init__(self):
        integers(num_blocks=self.num_blocks, at_least=0, at_most=MANY)
        one_of(KINDS, cell=self.cell)
        activation_function(self.activation)
        super().__post_init__()

    @nn.compact
    def __call__(self, x, context=None):
        h, features = with_context(x, context), []
        gain = (len(self.outputs) * max(self.num_blocks, 1)) ** -0.5
        for *_, width in self.outputs:
            h = Conv(width, kernel=4, stride=2)(h)
            if self.num_blocks:
                h, _ = stacked(Cell, self.num_blocks, in_axes=())(self.cell, self.activation, gain)(h)
            features.append(h)
        return tuple(features)


class TopDown(nn.Module):
    """The path from the top of a hierarchy to an image, through `blocks` blocks of latents at each resolution.

    (features, noise, z) -> arrays of the shapes `outputs`, z, log p(z), log q(z) and KL(q || p) of every block, the top
    one last: [L] each; and (μ, σ) of q, or of p without features, tuples like z. `features` are those of `BottomUp`;
    with None, z is drawn from p(z), and log q and the KL are zero. Blocks draw z = μ + σ ε from `noise` ε, or take `z`:
    tuples of arrays [N, H, W, D], the finest resolution first, one of them None. The last of N blocks is drawn first.
    The top block sees a learned array.

    Attributes:
      outputs: shapes of images.
      widths: the number of channels at each resolution, the finest first.
      blocks: the number of blocks at each resolution, the finest first; 0 for a resolution without latents.
      latent_dim: D, the number of channels of z.
      activation: of all convolutions.
      cell: the kind of the residual blocks, a `Cell`.
      inference: how q is made from two outputs (m, s) of a network that sees h and the features: "residual" for N(μ_p +
        m, σ_p s), arXiv:2007.03898 eq. (8); "plain" for N(m, s); "weighted" for the product of N(m, s) and p, whose
        precisions add up, arXiv:1602.02282 eq. (11).
      least_scale: the smallest σ; σ = floor + softplus of an output, scaled to 1 at the start.
      remat: True to compute the blocks again in the backward pass: memory does not grow with their number.
    """

    outputs: tuple
    widths: tuple
    blocks: tuple
    latent_dim: int
    activation: str = "elu"
    cell: str = "gated"
    inference: str = "residual"
    least_scale: float = 1e-2
    remat: bool = False

    def __post_init__(self):
        sizes(widths=self.widths, at_least_one=True)
        integers(latent_dim=self.latent_dim)
        flags(remat=self.remat)
        one_of(KINDS, cell=self.cell)
        one_of(INFERENCES, inference=self.inference)
        numbers(least_scale=self.least_scale, above=0, below=1)
        activation_function(self.activation)
        if not isinstance(self.blocks, tuple | list) or len(self.blocks) != len(self.widths):
            raise BadOption(f"blocks must have an entry for each of the widths {tuple(self.widths)}, got {self.blocks}")
        for number in self.blocks:
            integers(at_least=0, at_most=MANY, **{"blocks: each entry": number})
        if not sum(self.blocks):
            raise BadOption(f"blocks: a hierarchy needs latents, got {tuple(self.blocks)}; set one entry to 1 or more")
        coarse_shape(tuple(self.outputs[0][:3]), self.widths, "channels")
        super().__post_init__()

    @nn.compact
    def __call__(self, features, noise=None, z=None):
        act, total = activation_function(self.activation), sum(self.blocks)
        height, width = (side >> len(self.widths) for side in self.outputs[0][:2])
        h = self.param("top", nn.initializers.zeros, (height, width, self.widths[-1]))
        options = (self.latent_dim, self.activation, self.cell, self.inference, self.least_scale, total**-0.5)
        block, drawn, normals, terms = nn.remat(Block) if self.remat else Block, [], [], []
        for level in reversed(range(len(self.widths))):
            number = self.blocks[level]
            if number:
                feature = None if features is None else features[level]
                place = sum(n > 0 for n in self.blocks[:level])
                inputs = [None if values is None else values[place] for values in (noise, z)]
                h, (values, normal, *nats) = stacked(block, number, in_axes=(0, 0, nn.broadcast), reverse=True)(
                    *options, name=f"blocks_{level}"
                )(h, *inputs, feature)
                drawn, normals, terms = [values, *drawn], [normal, *normals], [nats, *terms]
            if level:
                h = ConvTranspose(self.widths[level - 1])(h)
        y = ConvTranspose(sum(image_channels(self.outputs)))(act(h))
        nats = map(jnp.concatenate, zip(*terms, strict=True))
        return image_head(y, self.outputs), tuple(drawn), *nats, tuple(zip(*normals, strict=True))


class Block(nn.Module):
    """A block of latents, arXiv:2011.10650 fig. 3.

    (h, ε, z, feature) -> the next h, and (z, (μ, σ), log p, log q, KL):

        p(z|h) = N(μ_p, σ_p)     q(z|h, x) = N(μ_q, σ_q)     h ← g(h + r(h) + W z)

    g is a `Cell`. Both densities are N(0, 1) at initialisation; a weighted q has then half the variance. They are
    float32, whatever h is.
    """

    latent_dim: int
    activation: str
    cell: str
    inference: str
    least_scale: float
    gain: float

    @nn.compact
    def __call__(self, h, noise, z, feature):
        width = h.shape[-1]
        mean, raw, more = self._head(h, "p", (self.latent_dim, self.latent_dim, width))
        p = mean.astype(jnp.float32), self._scale(raw)
        q = p
        if feature is not None:
            shift, raw = self._head(jnp.concatenate([h, feature], axis=-1), "q", (self.latent_dim,) * 2)
            q = self._posterior(p, shift.astype(jnp.float32), self._scale(raw))
        if z is None:
            z = q[0] + q[1] * noise
        log_p = _log_normal(z, *p)
        log_q, kl = jnp.zeros(()), jnp.zeros(())
        if feature is not None:
            log_q, kl = _log_normal(z, *q), _kl(*q, *p)
        h = h + more + nn.Dense(width, name="of_z")(z.astype(h.dtype))
        h, _ = Cell(self.cell, self.activation, self.gain, name="cell")(h)
        return h, (z, q, log_p, log_q, kl)

    def _head(self, h, name, channels):
        """Return arrays of so many `channels` by two convolutions; the last one is zero at first."""
        act = activation_function(self.activation)
        y = Conv(self.latent_dim * 2 + 16, name=f"{name}_hidden")(act(h))
        y = Conv(sum(channels), kernel_init=nn.initializers.zeros, name=name)(act(y))
        return jnp.split(y, [sum(channels[:n]) for n in range(1, len(channels))], axis=-1)

    def _posterior(self, p, shift, scale):
        if self.inference == "residual":
            return p[0] + shift, p[1] * scale
        if self.inference == "plain":
            return shift, scale
        share = jnp.square(p[1]) / (jnp.square(p[1]) + jnp.square(scale))  # of the network's precision
        return p[0] + share * (shift - p[0]), scale * jnp.sqrt(share)

    def _scale(self, raw):
        rest = 1.0 - self.least_scale
        return self.least_scale + rest * jax.nn.softplus(raw.astype(jnp.float32) + UNIT)


def shapes_of_latents(outputs, widths, blocks, latent_dim) -> tuple:
    """Return the shapes of the arrays of z of `TopDown`, the finest resolution first."""
    height, width = outputs[0][:2]
    places = [(height >> n, width >> n) for n in range(1, len(widths) + 1)]
    return tuple((number, *place, latent_dim) for number, place in zip(blocks, places, strict=True) if number)


def _scaled(gain):
    """Return the initialiser `lecun_normal` times `gain`."""
    return nn.initializers.variance_scaling(gain**2, "fan_in", "truncated_normal")


def _log_normal(z, mean, scale):
    return jnp.sum(-0.5 * jnp.square((z - mean) / scale) - jnp.log(scale) - 0.5 * LOG_2PI)


def _kl(mean_q, scale_q, mean_p, scale_p):
    """Return KL(N(μ_q, σ_q²) || N(μ_p, σ_p²)), summed."""
    ratio = scale_q / scale_p
    return jnp.sum(0.5 * (jnp.square(ratio) + jnp.square((mean_q - mean_p) / scale_p) - 1.0) - jnp.log(ratio))
