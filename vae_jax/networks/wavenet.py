"""WaveNet: causal convolutions whose reach doubles from layer to layer, over a whole series or one sample at a time."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.gated import Gate, with_ones
from vae_jax.networks.mlp import split
from vae_jax.spec import MANY, flags, integers, sizes


class WaveNet(nn.Module):
    """arXiv:1609.03499 sec. 2.1 to 2.5: `outputs` [T, ...] at every place t from the samples of x [T] before it.

    h begins as an affine map of the last `first_kernel` samples, each with a one that tells silence from what was
    before the beginning. Then, for every d of `dilations`, with weights of its own, c the context, gate(a, b) =
    tanh(a) ⊙ σ(b) and s the sum of what the layers say to the outputs,

        z_t = gate(W h_{t-d} + W' h_t + V c),     h ← h + R z  [T, `width`],     s ← s + S z  [T, `skip`]

    and layers of `hidden` units, with a relu before each, lead from s to the outputs, which see `reach` samples.
    Raises `ValueError` for sizes and dilations below 1 and for outputs that are not of a series.
    """

    outputs: tuple
    width: int = 32
    skip: int = 128
    hidden: tuple = (128,)
    dilations: tuple = tuple(2**n for n in range(10)) * 2
    first_kernel: int = 16
    zero_output: bool = False

    def __post_init__(self):
        integers(width=self.width, skip=self.skip)
        integers(first_kernel=self.first_kernel, at_most=MANY)
        sizes(hidden=self.hidden)
        sizes(dilations=self.dilations, at_least_one=True)
        flags(zero_output=self.zero_output)
        super().__post_init__()

    @property
    def reach(self):
        return self.first_kernel + sum(self.dilations)

    def setup(self):
        if any(len(shape) not in (1, 2) or shape[0] != self.outputs[0][0] for shape in self.outputs):
            raise ValueError(f"WaveNet: outputs of shapes {self.outputs} are not of the samples of one series")
        self.first = nn.Dense(self.width)
        self.layers = [Residual(self.width, self.skip) for _ in self.dilations]
        self.at_a_sample = [nn.Dense(width) for width in self.hidden]
        init = nn.initializers.zeros if self.zero_output else nn.initializers.lecun_normal()
        self.last = nn.Dense(sum(self._widths()), kernel_init=init)

    def __call__(self, x, context=None):
        samples = with_ones(x[:, None])
        window = jnp.concatenate([moved(samples, n) for n in range(self.first_kernel, 0, -1)], axis=1)
        return self.through(window, [functools.partial(moved, by=d) for d in self.dilations], context)[0]

    def start(self):
        """What is kept: the last samples, and of every layer what came in at the last d places, a ring."""
        return jnp.zeros((self.first_kernel, 2)), [jnp.zeros((d, self.width)) for d in self.dilations]

    def step(self, kept, previous, t, context=None):
        """x_{t-1} [], t -> what is kept, the outputs at t; of t = 0, `previous` may be anything."""
        samples, rings = kept
        samples = jnp.concatenate([samples[1:], with_ones(previous.reshape(1, 1)) * (t > 0)])
        ago = [lambda h, ring=ring: jax.lax.dynamic_slice_in_dim(ring, t % len(ring), 1) for ring in rings]
        outputs, seen = self.through(samples.reshape(1, -1), ago, context)
        rings = [
            jax.lax.dynamic_update_slice_in_dim(ring, h, t % len(ring), 0) for ring, h in zip(rings, seen, strict=True)
        ]
        return (samples, rings), tuple(a[0] for a in outputs)

    def through(self, window, ago, context):
        """The outputs at the S places of a window [S, ...], `ago[l](h)` being h at places d_l before, and every h."""
        h, s, seen = self.first(window), 0.0, []
        for layer, earlier in zip(self.layers, ago, strict=True):
            seen.append(h)
            h, told = layer(h, earlier(h), context)
            s = s + told
        for dense in (*self.at_a_sample, self.last):
            s = dense(jax.nn.relu(s))
        shapes = [(len(s), *shape[1:]) for shape in self.outputs]
        return tuple(a.reshape(shape) for a, shape in zip(split(s, self._widths()), shapes, strict=True)), seen

    def _widths(self):
        return [shape[1] if len(shape) == 2 else 1 for shape in self.outputs]


class Residual(nn.Module):
    """h_t and h_{t-d} [S, F] -> the next h, and what is said to the outputs [S, `skip`]."""

    features: int
    skip: int

    @nn.compact
    def __call__(self, h, earlier, context):
        context = None if context is None else context.reshape(1, -1)
        z = Gate()(nn.Dense(2 * self.features)(jnp.concatenate([earlier, h], axis=1)), context)
        return h + nn.Dense(self.features)(z), nn.Dense(self.skip)(z)


def moved(h, by):
    """h [T, F] moved down by so many places, zeros before it."""
    return jnp.pad(h, ((by, 0), (0, 0)))[: len(h)]
