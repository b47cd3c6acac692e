"""Recurrent networks over tokens, all places in one scan or one place at a time."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.mlp import split


class Tokens(nn.Module):
    """Where a network over tokens begins and ends: ids -> vectors [..., `width`], and vectors -> logits [..., V].

    `tied`: the logits are products with the very vectors of the tokens, arXiv:1608.05859. Token 0, <pad>, is never
    predicted: its logit is -inf; as an input it is the beginning.
    """

    vocabulary_size: int
    width: int
    tied: bool = False

    def setup(self):
        init = nn.initializers.normal(self.width**-0.5)
        self.embedding = self.param("embedding", init, (self.vocabulary_size, self.width))
        self.bias = self.param("bias", nn.initializers.zeros, (self.vocabulary_size,))
        if not self.tied:
            self.kernel = self.param("kernel", nn.initializers.zeros, (self.width, self.vocabulary_size))

    def __call__(self, ids):
        return self.embedding[ids]

    def logits(self, h):
        out = h @ (self.embedding.T if self.tied else self.kernel)
        return (out + self.bias.reshape((1,) * (h.ndim - 1) + (-1,))).at[..., 0].set(-jnp.inf)


class LSTMLayer(nn.Module):
    """i, f, g, o = W x_t + U h_{t-1} + b;  c_t = σ(f) c_{t-1} + σ(i) tanh(g);  h_t = σ(o) tanh(c_t)

    x [T, F] -> h [T, `width`], the products with x all at once. The bias of f begins at 1.
    """

    width: int

    @nn.compact
    def __call__(self, x, state):
        gates = nn.Dense(4 * self.width, name="input")(x)
        recurrent = self.param("recurrent", nn.initializers.orthogonal(), (self.width, 4 * self.width))

        def advance(state, gates):
            h, c = state
            i, f, g, o = split(gates + h @ recurrent, [self.width] * 4)
            c = jax.nn.sigmoid(f + 1.0) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        state, h = jax.lax.scan(advance, state, gates)
        return h, state


def check(network):
    """Raise `ValueError` for sizes that are none, and a rate of dropout outside [0, 1)."""
    for name in ("width", "num_layers"):
        if getattr(network, name) < 1:
            raise ValueError(f"config.model.network.{name} must be at least 1, got {getattr(network, name)}")
    if not 0 <= network.dropout < 1:
        raise ValueError(f"config.model.network.dropout must be at least 0 and below 1, got {network.dropout}")


class LSTM(nn.Module):
    """Logits of the next token (`networks.language`) from `num_layers` layers of LSTM over the tokens before it.

    A context is seen at every place. `dropout` is the part of the units that is dropped where `dropping` is set,
    between layers and not within the recurrence (arXiv:1409.2329). The state has room for any `length`.
    Raises `ValueError` for options out of range (`check`).
    """

    vocabulary_size: int
    length: int
    width: int = 256
    num_layers: int = 1
    tied: bool = False
    dropout: float = 0.0

    def setup(self):
        check(self)
        self.tokens = Tokens(self.vocabulary_size, self.width, self.tied)
        self.layers = [LSTMLayer(self.width) for _ in range(self.num_layers)]
        self.seen = nn.Dense(self.width, use_bias=False)
        self.drop = nn.Dropout(self.dropout)

    def start(self):
        zero = jnp.zeros(self.width)
        return ((zero, zero),) * self.num_layers

    def __call__(self, before, context=None, dropping=False):
        return self._advance(self.start(), before, context, dropping)[1]

    def step(self, carry, previous, context=None):
        carry, logits = self._advance(carry, previous[None], context)
        return carry, logits[0]

    def _advance(self, carry, before, context, dropping=False):
        h = self.drop(with_context(self.tokens(before), context, self.seen), deterministic=not dropping)
        states = []
        for layer, state in zip(self.layers, carry, strict=True):
            h, state = layer(h, state)
            h = self.drop(h, deterministic=not dropping)
            states.append(state)
        return tuple(states), self.tokens.logits(h)


def with_context(h, context, layer):
    """h [T, F] plus `layer(context)` [F] at every place, where there is a context."""
    return h if context is None else h + layer(jnp.ravel(context))[None]
