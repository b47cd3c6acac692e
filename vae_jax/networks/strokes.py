"""Recurrent networks over the points of pen drawings, rows (Δx, Δy, pen) as in `distributions.drawings`."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.mlp import DenseHead
from vae_jax.networks.recurrent import LSTMLayer
from vae_jax.spec import MANY, integers, numbers
from vae_jax.support import END

EMBEDDED = 32  # size of the vector of an offset


class PenLSTM(nn.Module):
    """An LSTM from the points before each place to arrays of the shapes `outputs` at every place, [T, ...].

    Offsets enter as arcsinh(Δ / `scale`), which is linear near 0 and grows slowly beyond. With `atoms` L, each offset
    from -L to L has a vector of its own as well, and the others share one. A context sets the first
    states, c_0 = A context + a and h_0 = tanh(c_0), and is an input at every place. `dropout` acts on the outputs of
    the layers, not within the recurrence, arXiv:1409.2329. Raises `BadOption` for sizes below 1 and a rate outside
    [0, 1).
    """

    outputs: tuple
    width: int = 256
    num_layers: int = 1
    dropout: float = 0.0
    scale: float = 10.0
    atoms: int = 0

    def __post_init__(self):
        check(self)
        integers(atoms=self.atoms, at_least=0)
        super().__post_init__()

    def setup(self):
        of_context = nn.initializers.variance_scaling(1 / self.width, "fan_in", "normal")
        self.layers = [LSTMLayer(self.width) for _ in range(self.num_layers)]
        self.first = nn.Dense(self.num_layers * self.width, kernel_init=of_context)
        self.embed = [nn.Embed(2 * self.atoms + 2, EMBEDDED) for _ in range(2 if self.atoms else 0)]  # of Δx, of Δy
        self.head = nn.vmap(DenseHead, variable_axes={"params": None}, split_rngs={"params": False})(self.outputs)
        self.drop = nn.Dropout(self.dropout)

    @property
    def drops(self):
        """Return True if a key "dropout" makes a difference."""
        return self.dropout > 0

    def __call__(self, before, context=None):
        return self.head(self.advance(self.start(context), before, context)[1])

    def start(self, context=None):
        shape = (self.num_layers, self.width)
        c = jnp.zeros(shape) if context is None else self.first(jnp.ravel(context)).reshape(shape)
        return tuple(zip(jnp.tanh(c), c, strict=True))

    def step(self, carry, previous, context=None):
        carry, h = self.advance(carry, previous[None], context)
        return carry, tuple(a[0] for a in self.head(h))

    def advance(self, carry, points, context):
        h = features(points, self.scale)
        for n, embed in enumerate(self.embed):
            index = points[:, n].astype(jnp.int32) + self.atoms
            is_atom = (index >= 0) & (index <= 2 * self.atoms)
            h = jnp.concatenate([h, embed(jnp.where(is_atom, index, 2 * self.atoms + 1))], axis=1)
        if context is not None:
            context = jnp.ravel(context)
            h = jnp.concatenate([h, jnp.broadcast_to(context, (len(h), len(context)))], axis=1)
        states = []
        for layer, state in zip(self.layers, carry, strict=True):
            h, state = layer(h, state)
            h = self.drop(h, deterministic=not self.has_rng("dropout"))
            states.append(state)
        return tuple(states), h


class PenReader(nn.Module):
    """A drawing x [T, 3] -> arrays of the shapes `outputs`, from two LSTMs that read it forwards and backwards.

    Each gives its state after the last point that it reads, arXiv:1704.03477 sec. 3.2. Points after the end have no
    effect. A row without an end is read to its last place. Options are those of `PenLSTM`.
    """

    outputs: tuple
    width: int = 128
    num_layers: int = 1
    dropout: float = 0.0
    scale: float = 10.0

    def __post_init__(self):
        check(self)
        super().__post_init__()

    @property
    def drops(self):
        """Return True if a key "dropout" makes a difference."""
        return self.dropout > 0

    @nn.compact
    def __call__(self, x, context=None):
        x = jnp.asarray(x)  # it may be a NumPy array, and the places traced
        place = jnp.arange(len(x))
        last = jnp.minimum(jnp.sum(jnp.cumsum(x[:, 2] == END) == 0), len(x) - 1)
        zeros = jnp.zeros(self.width)
        read = []
        for order in (place, jnp.maximum(last - place, 0)):
            h = features(x[order], self.scale)
            for _ in range(self.num_layers):
                h, _ = LSTMLayer(self.width)(h, (zeros, zeros))
                h = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))(h)
            read.append(h[last])
        return DenseHead(self.outputs)(jnp.concatenate(read))


def features(points, scale):
    """Return what networks see of points [T, 3]: arcsinh of the offsets, and the pen one-hot, [T, 5]."""
    pen = jax.nn.one_hot(points[:, 2], END + 1)
    return jnp.concatenate([jnp.arcsinh(points[:, :2] / scale), pen], axis=1)


def check(options):
    """Raise `BadOption` for options out of range."""
    integers(width=options.width)
    integers(num_layers=options.num_layers, at_most=MANY)
    numbers(dropout=options.dropout, at_least=0, below=1)
    numbers(scale=options.scale, above=0)
