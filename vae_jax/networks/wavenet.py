"""WaveNet: dilated causal convolutions, over a whole series or for one sample at a time."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.gated import Gate, with_ones
from vae_jax.networks.mlp import split
from vae_jax.spec import MANY, flags, integers, sizes


class WaveNet(nn.Module):
    """WaveNet, arXiv:1609.03499 sec. 2.1 to 2.5: `outputs` [T, ...] at every place t from the earlier samples of x [T].

    h begins as an affine map of the last `first_kernel` samples. A one beside each sample tells silence from padding.
    Each entry d of `dilations` is a layer with its own weights. With the context c, gate(a, b) = tanh(a) ⊙ σ(b), and
    the sum s of the skip connections, it computes

        z_t = gate(W h_{t-d} + W' h_t + V c),     h ← h + R z  [T, `width`],     s ← s + S z  [T, `skip`]

    Layers of `hidden` units, with a relu before each, lead from s to the outputs. An output depends on the last
    first_kernel + Σ d samples. Raises `BadOption` for sizes and dilations below 1, and `ValueError` for outputs that do
    not form a series.
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

    def setup(self):
        if any(len(shape) not in (1, 2) or shape[0] != self.outputs[0][0] for shape in self.outputs):
            raise ValueError(f"WaveNet: outputs must be series [T, ...] of one length, got shapes {self.outputs}")
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
        """Return the state: the last samples, and for every layer a ring buffer of its last d inputs."""
        return jnp.zeros((self.first_kernel, 2)), [jnp.zeros((d, self.width)) for d in self.dilations]

    def step(self, state, previous, t, context=None):
        """Return the next state and the outputs at t, from `previous` = x_{t-1} [], which is not used at t = 0."""
        samples, rings = state
        samples = jnp.concatenate([samples[1:], with_ones(previous.reshape(1, 1)) * (t > 0)])
        ago = [lambda h, ring=ring: jax.lax.dynamic_slice_in_dim(ring, t % len(ring), 1) for ring in rings]
        outputs, seen = self.through(samples.reshape(1, -1), ago, context)
        rings = [
            jax.lax.dynamic_update_slice_in_dim(ring, h, t % len(ring), 0) for ring, h in zip(rings, seen, strict=True)
        ]
        return (samples, rings), tuple(a[0] for a in outputs)

    def through(self, window, ago, context):
        """Return the outputs at the S places of a window [S, ...], and the input h of every layer.

        `ago[l](h)` returns the h of d_l places earlier.
        """
        h, s, seen = self.first(window), 0.0, []
        for layer, earlier in zip(self.layers, ago, strict=True):
            seen.append(h)
            h, skip = layer(h, earlier(h), context)
            s = s + skip
        for dense in (*self.at_a_sample, self.last):
            s = dense(jax.nn.relu(s))
        shapes = [(len(s), *shape[1:]) for shape in self.outputs]
        return tuple(a.reshape(shape) for a, shape in zip(split(s, self._widths()), shapes, strict=True)), seen

    def _widths(self):
        return [shape[1] if len(shape) == 2 else 1 for shape in self.outputs]


class Residual(nn.Module):
    """A layer: h_t and h_{t-d} [S, F] -> the next h, and the skip connection [S, `skip`]."""

    features: int
    skip: int

    @nn.compact
    def __call__(self, h, earlier, context):
        context = None if context is None else context.reshape(1, -1)
        z = Gate()(nn.Dense(2 * self.features)(jnp.concatenate([earlier, h], axis=1)), context)
        return h + nn.Dense(self.features)(z), nn.Dense(self.skip)(z)


def moved(h, by):
    """Return h [T, F] delayed by `by` places, with zeros before it."""
    return jnp.pad(h, ((by, 0), (0, 0)))[: len(h)]
