"""Causal Transformers over tokens, for all places at once or for one at a time with a cache of keys and values."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.mlp import split
from vae_jax.networks.tokens import OverTokens
from vae_jax.spec import BadOption, integers


class CausalBlock(nn.Module):
    """A block with pre-norm, arXiv:2002.04745: h + attention(norm(h)), then h + mlp(norm(h)).

    h are the places `place`, ..., `place` + len(h) - 1. Each query attends to the keys and values of its place and all
    earlier ones. `cache` [T, 2, width] holds them; it is returned with the keys and values of h filled in.
    """

    width: int
    num_heads: int
    dropout: float

    @nn.compact
    def __call__(self, h, cache, place):
        drop = nn.Dropout(self.dropout, deterministic=not self.has_rng("dropout"))
        query, new = split(nn.Dense(3 * self.width, use_bias=False)(nn.LayerNorm()(h)), [self.width, 2 * self.width])
        cache = jax.lax.dynamic_update_slice(cache, new.reshape(-1, 2, self.width), (place, 0, 0))
        heads = lambda a: a.reshape(len(a), self.num_heads, -1)  # noqa: E731
        scores = jnp.einsum("qhd,khd->hqk", heads(query), heads(cache[:, 0])) * (self.width // self.num_heads) ** -0.5
        future = jnp.arange(len(cache))[None] > place + jnp.arange(len(h))[:, None]
        weights = jax.nn.softmax(jnp.where(future[None], -jnp.inf, scores))
        mixed = jnp.einsum("hqk,khd->qhd", weights, heads(cache[:, 1])).reshape(h.shape)
        h = h + drop(nn.Dense(self.width, kernel_init=nn.initializers.zeros)(mixed))
        hidden = jax.nn.gelu(nn.Dense(4 * self.width)(nn.LayerNorm()(h)))
        return h + drop(nn.Dense(self.width, kernel_init=nn.initializers.zeros)(hidden)), cache


class Transformer(OverTokens):
    """A causal Transformer with learned embeddings of the places.

    The carry is the place, and the keys and values of every block. `dropout` acts on the input and on what every block
    adds. Options and errors are those of `OverTokens`. Raises `BadOption` if `num_heads` does not divide `width`.
    """

    num_layers: int = 2
    num_heads: int = 4

    def __post_init__(self):
        integers(num_heads=self.num_heads, width=self.width)
        if self.width % self.num_heads:
            raise BadOption(f"num_heads must divide width = {self.width}, got {self.num_heads}")
        super().__post_init__()

    def setup(self):
        super().setup()
        self.places = self.param("places", nn.initializers.normal(self.width**-0.5), (self.length, self.width))
        self.blocks = [CausalBlock(self.width, self.num_heads, self.dropout) for _ in range(self.num_layers)]
        self.norm = nn.LayerNorm()

    def start(self, context=None):
        return jnp.zeros((), jnp.int32), (jnp.zeros((self.length, 2, self.width)),) * self.num_layers

    def advance(self, carry, tokens, context):
        place, caches = carry
        h = self.tokens(tokens) + jax.lax.dynamic_slice_in_dim(self.places, place, len(tokens))
        h = self.drop(self.with_context(h, context), deterministic=not self.has_rng("dropout"))
        caches_after = []
        for block, cache in zip(self.blocks, caches, strict=True):
            h, cache = block(h, cache, place)
            caches_after.append(cache)
        return (place + len(tokens), tuple(caches_after)), self.norm(h)
