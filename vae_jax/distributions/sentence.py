"""Sentences: the chain rule over words, up to an end that is itself a word."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.numerics import as_jax
from vae_jax.support import Levels, Tokens

PAD, END = 0, 1  # the ids of `data.text`; PAD follows the end and precedes the first word


@struct.dataclass
class Sentence:
    """The distribution p(w_1, ..., w_L, end) = Π_t `p(w_t | w_<t)` of sentences.

    A row x = (w_1, ..., w_L, end, pad, ..., pad) holds integers [T].

    Everything after the end has probability one and is not read, so that padding changes no likelihood. A row without
    an end is an event too, so that the masses of all rows sum to one. Ids are names: there is no mean.

    `log_probs(params, x)` returns `log p(x_t | x_<t)` of all places [T] at once. `start(params)` and
    `step(params, carry, previous)` -> (carry, `p(w_t | w_<t)`) go word by word, with `previous` = w_{t-1}, and PAD
    before the first. The carry (the state of an LSTM, the keys and values of a Transformer) saves a draw from reading
    earlier words again. For a network, `conditionals(params, x)` are the `p(w_t | x_<t)` of all places.
    """

    params: Any
    log_probs: Callable = struct.field(pytree_node=False)
    start: Callable = struct.field(pytree_node=False)
    step: Callable = struct.field(pytree_node=False)
    length: int = struct.field(pytree_node=False)  # T
    vocabulary_size: int = struct.field(pytree_node=False)
    conditionals: Callable | None = struct.field(pytree_node=False, default=None)

    def uncached(self):
        """Return the same sentence without a cache, for tests: every word is drawn by a pass over the whole row.

        Raises `ValueError` if there are no `conditionals`: an n-gram has no cache.
        """
        if self.conditionals is None:
            raise ValueError("this sentence is of no network: it has no cache to do without")

        def start(params):
            return jnp.full(self.length, PAD, jnp.int32), 0

        def step(params, carry, previous):
            row, t = carry
            row = jnp.where(t > 0, row.at[t - 1].set(previous), row)
            return (row, t + 1), jax.tree.map(lambda a: a[t], as_jax(self.conditionals(params, row)))

        return self.replace(start=start, step=step)

    @property
    def support(self):
        return Tokens(self.vocabulary_size)

    def sample(self, key):
        """Draw a row; the word at t uses the key fold_in(key, t)."""
        return self.unfold(lambda conditional, t: conditional.sample(jax.random.fold_in(key, t)))

    def unfold(self, choose):
        """Return the row of the words `choose(p(w_t | w_<t), t)`, with PAD after the end: one scan over T places."""
        params = as_jax(self.params)

        def extend(state, t):
            carry, previous, ended = state
            carry, conditional = self.step(params, carry, previous)
            word = jnp.where(ended, PAD, choose(conditional, t)).astype(jnp.int32)
            return (carry, word, ended | (word == END)), word

        begin = (self.start(params), jnp.asarray(PAD, jnp.int32), jnp.asarray(False))
        return jax.lax.scan(extend, begin, jnp.arange(self.length))[1]

    def log_prob(self, x):
        """Return Σ_t `log p(x_t | x_<t)` up to the end, in nats."""
        return jnp.sum(jnp.where(predicted(x), self.log_probs(as_jax(self.params), jnp.asarray(x)), 0.0))


@struct.dataclass
class LevelSeries:
    """A `Sentence` of T words as a series of T levels, int or float [T]: level v is word v + 2, after PAD and END.

    An end is not a level: the mass that `base` gives to it is lost, and a draw is zero after an end.
    """

    base: Sentence
    num_levels: int = struct.field(pytree_node=False)

    @staticmethod
    def words(x):
        return x.astype("int32") + (END + 1)

    @property
    def support(self):
        return Levels(self.num_levels)

    def sample(self, key):
        return jnp.maximum(self.base.sample(key) - (END + 1), 0).astype(jnp.float32)

    def log_prob(self, x):
        return self.base.log_prob(self.words(x))


def predicted(x):
    """Return which places of a row [T] have no end before them."""
    return up_to_first(x == END)


def up_to_first(ends):
    """Return which places of the booleans `ends` [T] have no True before them."""
    return jnp.cumsum(ends) - ends == 0


def words_before(x):
    """Return w_{t-1} at every place t of a row [T]: PAD, w_1, ..., w_{T-1}."""
    return jnp.concatenate([jnp.full_like(x[:1], PAD), x[:-1]])
