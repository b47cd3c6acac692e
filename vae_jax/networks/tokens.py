"""What networks over tokens share: their ends, and that all places and one at a time are one computation."""

import flax.linen as nn
import jax.numpy as jnp


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


class OverTokens(nn.Module):
    """Logits of the next token from those before it (`networks.language`), by a subclass's `start()` -> carry and
    `advance(carry, before [T], context, dropping)` -> carry, logits [T, V].

    A context is seen at every place. `dropout` is the part of the units that is dropped where `dropping` is set.
    Raises `ValueError` for sizes below 1 and a rate of dropout outside [0, 1).
    """

    vocabulary_size: int
    length: int
    width: int = 128
    num_layers: int = 1
    tied: bool = False
    dropout: float = 0.0

    def setup(self):
        for name in ("width", "num_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"config.model.network.{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"config.model.network.dropout must be at least 0 and below 1, got {self.dropout}")
        self.tokens = Tokens(self.vocabulary_size, self.width, self.tied)
        self.seen = nn.Dense(self.width, use_bias=False)
        self.drop = nn.Dropout(self.dropout)

    def __call__(self, before, context=None, dropping=False):
        return self.advance(self.start(), before, context, dropping)[1]

    def step(self, carry, previous, context=None):
        carry, logits = self.advance(carry, previous[None], context, dropping=False)
        return carry, logits[0]

    def with_context(self, h, context):
        """h [T, F], plus what is made of the context at every place, where there is one."""
        return h if context is None else h + self.seen(jnp.ravel(context))[None]
