"""What networks over tokens share: their ends, and that all places and one at a time are one computation."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.mlp import DenseHead
from vae_jax.spec import MANY, BadOption, flags, integers, numbers

PAD, END, UNKNOWN = range(3)  # the ids of `data.text`


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

    def __call__(self, ids):
        return jnp.asarray(self.embedding)[ids]  # which may be the host's, and the ids traced

    @nn.compact  # what reads and predicts nothing has no parameters for it
    def logits(self, h):
        bias = self.param("bias", nn.initializers.zeros, (self.vocabulary_size,))
        shape = (self.width, self.vocabulary_size)
        kernel = self.embedding.T if self.tied else self.param("kernel", nn.initializers.zeros, shape)
        return (h @ kernel + bias.reshape((1,) * (h.ndim - 1) + (-1,))).at[..., PAD].set(-jnp.inf)


class OverTokens(nn.Module):
    """Logits of the next token from those before it (`networks.language`), by a subclass's `start(context)` -> carry
    and `advance(carry, tokens [T], context)` -> carry, h [T, `width`].

    A context is seen at every place. Given a key "dropout", units are left out at the rate `dropout`. Tokens are
    replaced by <unk> at the rate `word_dropout`, except the beginning, arXiv:1511.06349 sec. 3.1.
    Raises `ValueError` for sizes below 1 and rates outside [0, 1).
    """

    vocabulary_size: int
    length: int
    width: int = 128
    num_layers: int = 1
    tied: bool = False
    dropout: float = 0.0
    word_dropout: float = 0.0

    def __post_init__(self):
        integers(width=self.width)
        integers(num_layers=self.num_layers, at_most=MANY)
        numbers(dropout=self.dropout, word_dropout=self.word_dropout, at_least=0, below=1)
        flags(tied=self.tied)
        super().__post_init__()

    def setup(self):
        self.tokens = Tokens(self.vocabulary_size, self.width, self.tied)
        self.of_context = nn.initializers.variance_scaling(1 / self.width, "fan_in", "normal")  # no larger than a token
        self.seen = nn.Dense(self.width, use_bias=False, kernel_init=self.of_context)
        self.drop = nn.Dropout(self.dropout)

    @property
    def drops(self):
        """Return True if a key "dropout" makes a difference."""
        return self.dropout > 0 or self.word_dropout > 0

    def __call__(self, before, context=None):
        return self.tokens.logits(self.states(before, context))

    def step(self, carry, previous, context=None):
        carry, h = self.advance(carry, previous[None], context)
        return carry, self.tokens.logits(h)[0]

    def states(self, tokens, context=None):
        """What is made of the tokens up to every place, [T, `width`]."""
        if self.word_dropout and self.has_rng("dropout"):
            dropped = jax.random.bernoulli(self.make_rng("dropout"), self.word_dropout, tokens.shape)
            tokens = jnp.where(dropped & (tokens != PAD), UNKNOWN, tokens)
        return self.advance(self.start(context), tokens, context)[1]

    def with_context(self, h, context):
        """h [T, F], plus what is made of the context at every place, where there is one."""
        return h if context is None else h + self.seen(jnp.ravel(context))[None]


class AtEnd(nn.Module):
    """A row x [T] -> arrays of the shapes `outputs`, from what a network over tokens makes of a sentence at its end.

    What stands behind the end is not seen there: padding changes nothing. A row without an end is read to its last
    place. Raises `ValueError` for a network whose logits are tied: it puts out none.
    """

    outputs: tuple
    network: OverTokens

    def __post_init__(self):
        if self.network.tied:
            raise BadOption("tied: an encoder returns no logits whose kernel could be tied; set it to False")
        super().__post_init__()

    @property
    def drops(self):
        """Return True if a key "dropout" makes a difference."""
        return self.network.drops

    @nn.compact
    def __call__(self, x, context=None):
        end = jnp.minimum(jnp.sum(jnp.cumsum(x == END) == 0), len(x) - 1)
        return DenseHead(self.outputs)(self.network.states(x, context)[end])
