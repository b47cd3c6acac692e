"""Parts of networks over tokens: embedding and logits, and one computation for all places or for one at a time."""

import flax.linen as nn
import jax
import jax.numpy as jnp

from vae_jax.networks.mlp import DenseHead
from vae_jax.spec import MANY, BadOption, flags, integers, numbers

PAD, END, UNKNOWN = range(3)  # the ids of `data.text`


class Tokens(nn.Module):
    """The first and last layer of a network over tokens: ids -> vectors [..., `width`], and vectors -> logits [..., V].

    With `tied` the logits are products with the vectors of the tokens, arXiv:1608.05859. Token 0, `<pad>`, is never
    predicted: its logit is -inf. As an input it stands for the beginning of a sentence.
    """

    vocabulary_size: int
    width: int
    tied: bool = False

    def setup(self):
        init = nn.initializers.normal(self.width**-0.5)
        self.embedding = self.param("embedding", init, (self.vocabulary_size, self.width))

    def __call__(self, ids):
        return jnp.asarray(self.embedding)[ids]  # the embedding may be a NumPy array, and the ids traced

    @nn.compact  # an encoder never calls this, and then has no parameters for it
    def logits(self, h):
        bias = self.param("bias", nn.initializers.zeros, (self.vocabulary_size,))
        shape = (self.width, self.vocabulary_size)
        kernel = self.embedding.T if self.tied else self.param("kernel", nn.initializers.zeros, shape)
        return (h @ kernel + bias.reshape((1,) * (h.ndim - 1) + (-1,))).at[..., PAD].set(-jnp.inf)


class OverTokens(nn.Module):
    """A network from the tokens before each place to the logits of the next one (`networks.language`).

    Subclasses define `start(context)` -> carry and `advance(carry, tokens [T], context)` -> carry, h [T, `width`].
    Every place sees the context. With a key "dropout", units are dropped at the rate `dropout`, and tokens are replaced
    by `<unk>` at the rate `word_dropout`, except the beginning, arXiv:1511.06349 sec. 3.1.
    Raises `BadOption` for sizes below 1 and rates outside [0, 1).
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
        """Return h [T, `width`], which at each place depends on the tokens up to it."""
        if self.word_dropout and self.has_rng("dropout"):
            dropped = jax.random.bernoulli(self.make_rng("dropout"), self.word_dropout, tokens.shape)
            tokens = jnp.where(dropped & (tokens != PAD), UNKNOWN, tokens)
        return self.advance(self.start(context), tokens, context)[1]

    def with_context(self, h, context):
        """Return h [T, F] plus a linear map of the context, the same at every place."""
        return h if context is None else h + self.seen(jnp.ravel(context))[None]


class AtEnd(nn.Module):
    """Tokens x [T] -> arrays of the shapes `outputs`, from the state of a network at the end of the sentence.

    Padding after the end has no effect. A row without an end is read to its last place. Raises `BadOption` for a
    network with tied logits: an encoder returns no logits.
    """

    outputs: tuple
    network: OverTokens

    def __post_init__(self):
        if self.network.tied:
            raise BadOption("tied must be False for an encoder, which returns no logits, got True")
        super().__post_init__()

    @property
    def drops(self):
        """Return True if a key "dropout" makes a difference."""
        return self.network.drops

    @nn.compact
    def __call__(self, x, context=None):
        end = jnp.minimum(jnp.sum(jnp.cumsum(x == END) == 0), len(x) - 1)
        return DenseHead(self.outputs)(self.network.states(x, context)[end])
