"""From a distribution over sentences to one of them: word by word the likeliest, a draw, or a beam of many."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.distributions.sentence import END, PAD


class Beam(NamedTuple):
    """Rows x [W, T], the best first, and their log p(x) [W], nats; -inf of those there are too few rows for."""

    x: jax.Array
    log_prob: jax.Array


def greedy(sentence):
    """w_t = argmax_w p(w | w_<t), the row [T]: of all rows it need not be the likeliest."""
    return sentence.unfold(lambda conditional, t: jnp.argmax(_of_all_words(sentence, conditional)))


def sampled(sentence, key, *, temperature=1.0):
    """w_t ~ p(w | w_<t)^{1/τ} / Σ_w' p(w' | w_<t)^{1/τ}, τ = `temperature`, the row [T]: at 1 a draw of the sentence.

    Raises `ValueError` for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}; at 0 it would be `greedy`")

    def choose(conditional, t):
        return jax.random.categorical(jax.random.fold_in(key, t), _of_all_words(sentence, conditional) / temperature)

    return sentence.unfold(choose)


def beam(sentence, *, width, length_power=0.0) -> Beam:
    """The likeliest rows of those found by extending the best W = `width` prefixes by every word, over T places.

    Prefixes are ranked by log p / n^a, n the words so far, the end included, and a = `length_power`: 0 for the mass
    itself, 1 for the mean over words. A prefix that has ended stays what it is and competes with those that go on. One
    scan; exact where W is the number of rows. Raises `ValueError` for a width below 1 and a negative power.
    """
    if width < 1 or length_power < 0:
        raise ValueError(f"beam: want width >= 1 and length_power >= 0, got {width} and {length_power}")
    words = jnp.arange(sentence.vocabulary_size)
    nothing_more = jnp.where(words == PAD, 0.0, -jnp.inf)  # what follows an end

    def advance(carry, previous, ended):
        carry, conditional = sentence.step(sentence.params, carry, previous)
        return carry, jnp.where(ended, nothing_more, _of_all_words(sentence, conditional))

    def extend(state, t):
        carry, x, log_prob = state
        ended = jnp.any(x == END, axis=1)
        carry, log_p = jax.vmap(advance)(carry, x[:, t - 1], ended)  # before the first the last, which is still PAD
        total = log_prob[:, None] + log_p
        length = jnp.sum(x != PAD, axis=1) + ~ended
        _, best = jax.lax.top_k((total / length[:, None] ** length_power).ravel(), width)
        prefix, word = jnp.divmod(best, len(words))
        carry, x = jax.tree.map(lambda a: a[prefix], (carry, x))
        return (carry, x.at[:, t].set(word), total.ravel()[best]), None

    start = jax.tree.map(lambda a: jnp.broadcast_to(a, (width, *a.shape)), sentence.start(sentence.params))
    log_prob = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)  # of one empty prefix, not of W of them
    x = jnp.full((width, sentence.length), PAD, jnp.int32)
    (_, x, log_prob), _ = jax.lax.scan(extend, (start, x, log_prob), jnp.arange(sentence.length))
    return Beam(x, log_prob)


def _of_all_words(sentence, conditional):
    """log p(w | w_<t) of every w [V]."""
    return jax.vmap(conditional.log_prob)(jnp.arange(sentence.vocabulary_size))
