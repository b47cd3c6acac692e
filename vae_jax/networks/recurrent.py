"""Recurrent networks over tokens, for all places in one scan or for one place at a time."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.mlp import split
from vae_jax.networks.tokens import OverTokens


class LSTMLayer(nn.Module):
    """An LSTM layer: i, f, g, o = W x_t + U h_{t-1} + b;  c_t = σ(f) c_{t-1} + σ(i) tanh(g);  h_t = σ(o) tanh(c_t).

    x [T, F] -> h [T, `width`]. The products with x are one matrix product. The bias of f is 1 at initialisation.
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


class LSTM(OverTokens):
    """A stack of `num_layers` LSTM layers over the tokens, for sentences of any length.

    `dropout` acts between the layers, not within the recurrence, arXiv:1409.2329. A context also sets the first states:
    c_0 = A context + a and h_0 = tanh(c_0). Options and errors are those of `OverTokens`.
    """

    width: int = 256

    def setup(self):
        super().setup()
        self.layers = [LSTMLayer(self.width) for _ in range(self.num_layers)]
        self.first = nn.Dense(self.num_layers * self.width, kernel_init=self.of_context)

    def start(self, context=None):
        shape = (self.num_layers, self.width)
        c = jnp.zeros(shape) if context is None else self.first(jnp.ravel(context)).reshape(shape)
        return tuple(zip(jnp.tanh(c), c, strict=True))

    def advance(self, carry, tokens, context):
        h = self.drop(self.with_context(self.tokens(tokens), context), deterministic=not self.has_rng("dropout"))
        states = []
        for layer, state in zip(self.layers, carry, strict=True):
            h, state = layer(h, state)
            h = self.drop(h, deterministic=not self.has_rng("dropout"))
            states.append(state)
        return tuple(states), h
