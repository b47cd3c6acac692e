"""Causal Transformers over tokens, all places at once or one place at a time from a cache of keys and values."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.mlp import split
from vae_jax.networks.tokens import OverTokens
from vae_jax.spec import BadOption, integers


class CausalBlock(nn.Module):
    """h + attention(norm(h)), then h + mlp(norm(h)): pre-norm, arXiv:2002.04745.

    The queries of the places [`place`, `place` + len(h)) attend to the keys and values of all places up to their own:
    `cache` holds those of all T places, [T, 2, width], and is given back with those of h in it.
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
    """Attention to the tokens before; places are learned vectors. What is carried is the place and every block's keys
    and values. `dropout` is of the input and of what every block adds. Options and errors are those of `OverTokens`.

    Raises `ValueError` where `num_heads` does not divide `width`.
    """

    num_layers: int = 2
    num_heads: int = 4

    def __post_init__(self):
        integers(num_heads=self.num_heads, width=self.width)
        if self.width % self.num_heads:
            raise BadOption(f"num_heads {self.num_heads} does not divide width {self.width}")
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
        kept = []
        for block, cache in zip(self.blocks, caches, strict=True):
            h, cache = block(h, cache, place)
            kept.append(cache)
        return (place + len(tokens), tuple(kept)), self.norm(h)
