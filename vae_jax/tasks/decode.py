"""Decoding: the one value that shows a distribution; sentences greedily, by sampling, or by beam search."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax.distributions import Drawing, Sentence
from vae_jax.distributions.sentence import END, PAD

COLD = 0.2  # the temperature at which a drawing is shown


class Beam(NamedTuple):
    """Rows x [W, T], the best first, and their log p(x) [W], nats; -inf for places that no row fills."""

    x: jax.Array
    log_prob: jax.Array


def typical(p, key=None):
    """Return the value that shows p(x): its mean, the `greedy` row of sentences, or a draw of drawings at `COLD`.

    The draw of a drawing depends on `key`; None for always the same.
    """
    if isinstance(p, Sentence):
        return greedy(p)
    if isinstance(p, Drawing):
        return p.sample(jax.random.key(0) if key is None else key, COLD)
    return p.mean()


def greedy(sentence):
    """Return the row [T] with `w_t = argmax_w p(w | w_<t)`, which need not be the most probable row."""
    return sentence.unfold(lambda conditional, t: jnp.argmax(_of_all_words(sentence, conditional)))


def sampled(sentence, key, *, temperature=1.0):
    """Draw a row [T] with a temperature τ; τ = 1 draws from the distribution of sentences.

        w_t ~ p(w | w_<t)^{1/τ} / Σ_v p(v | w_<t)^{1/τ}

    Raises `ValueError` for a temperature that is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature}; for the limit 0 use `greedy`")

    def choose(conditional, t):
        return jax.random.categorical(jax.random.fold_in(key, t), _of_all_words(sentence, conditional) / temperature)

    return sentence.unfold(choose)


def beam(sentence, *, width, length_power=0.0) -> Beam:
    """Search for the most probable rows: at each of T places, extend the best W = `width` prefixes by every word.

    Prefixes are ranked by log p / n^a, where n counts the words, including the end, and a is `length_power`: 0 for the
    probability itself, 1 for the mean over words. A prefix that has ended stays unchanged and competes with the others.
    The search is exact if W is the number of rows. Raises `ValueError` for a width below 1 and for a negative power.
    """
    if width < 1 or length_power < 0:
        raise ValueError(f"width must be at least 1 and length_power at least 0, got {width} and {length_power}")
    words = jnp.arange(sentence.vocabulary_size)
    only_padding = jnp.where(words == PAD, 0.0, -jnp.inf)  # log-probabilities after an end

    def advance(carry, previous, ended):
        carry, conditional = sentence.step(sentence.params, carry, previous)
        return carry, jnp.where(ended, only_padding, _of_all_words(sentence, conditional))

    def extend(state, t):
        carry, x, log_prob = state
        ended = jnp.any(x == END, axis=1)
        carry, log_p = jax.vmap(advance)(carry, x[:, t - 1], ended)  # at t = 0 this is the last place, which is PAD
        total = log_prob[:, None] + log_p
        length = jnp.sum(x != PAD, axis=1) + ~ended
        _, best = jax.lax.top_k((total / length[:, None] ** length_power).ravel(), width)
        prefix, word = jnp.divmod(best, len(words))
        carry, x = jax.tree.map(lambda a: a[prefix], (carry, x))
        return (carry, x.at[:, t].set(word), total.ravel()[best]), None

    start = jax.tree.map(lambda a: jnp.broadcast_to(a, (width, *a.shape)), sentence.start(sentence.params))
    log_prob = jnp.where(jnp.arange(width) == 0, 0.0, -jnp.inf)  # one empty prefix, not W copies of it
    x = jnp.full((width, sentence.length), PAD, jnp.int32)
    (_, x, log_prob), _ = jax.lax.scan(extend, (start, x, log_prob), jnp.arange(sentence.length))
    return Beam(x, log_prob)


def _of_all_words(sentence, conditional):
    """Return `log p(w | w_<t)` of every word w [V]."""
    return jax.vmap(conditional.log_prob)(jnp.arange(sentence.vocabulary_size))
