"""The next word from counts: interpolated orders, over a trie in sorted arrays."""

import jax
import jax.numpy as jnp
from flax import struct

from vae_jax.numerics import as_jax
from vae_jax.support import Tokens


@struct.dataclass
class BackedOff:
    """The distribution p(w | h) = p_n(w | h), an interpolation of orders; h' is the history h without its oldest word:

    p_k(w | h) = weight(hw) + backoff(h) p_{k-1}(w | h'),        p_0(w) = 1 / (V - 1), and p_0(`<pad>`) = 0.

    For a history that never occurred with a next word, weight = 0 and backoff = 1; else backoff(h) = 1 - Σ_w
    weight(hw).

    `levels[k]` are the (k+1)-grams, sorted. Those that begin with the k-gram `i` have the places `first[i]` to
    `first[i+1] - 1`. `word` [N + 1] holds the last word of each in rising order, and a larger number at the end.
    `weight` [N + 1] holds their weights, and `cumulative` [N + 1] the running sum of these, which starts again at each
    `first[i]`. `backoff` belongs to the k-grams. A k-gram is identified by its place in level k - 1; the empty one has
    place 0. `history` [n - 1] ends with the last word.
    """

    levels: tuple
    history: jax.Array
    vocabulary_size: int = struct.field(pytree_node=False)

    @property
    def support(self):
        return Tokens(self.vocabulary_size)

    def log_prob(self, w):
        levels = as_jax(self.levels)
        grams = self._grams(levels, jnp.append(self.history, w))
        p = jnp.where(w == 0, 0.0, 1.0 / (self.vocabulary_size - 1))
        for k, level in enumerate(levels):
            (node, seen), (place, there) = ([a[i] for a in grams[k + j]] for i, j in ((-2, 0), (-1, 1)))
            p = jnp.where(there, level["weight"][place], 0.0) + jnp.where(seen, level["backoff"][node], 1.0) * p
        return jnp.log(p)

    def between(self, first, last):
        """Return P(first ≤ w ≤ last), a difference of the distribution function.

        F_k(w | h) = Σ_{v ≤ w} weight(hv) + backoff(h) F_{k-1}(w | h'). The first sum is in `cumulative`.
        """
        return self._up_to(last) - self._up_to(first - 1)

    def _up_to(self, w):
        """Return P(word ≤ w)."""
        levels, w = as_jax(self.levels), jnp.asarray(w, jnp.int32)
        p = jnp.clip(w, 0, self.vocabulary_size - 1) / (self.vocabulary_size - 1.0)
        for level, (node, seen) in zip(levels, self._histories(levels), strict=True):
            low, high = level["first"][node], level["first"][node + 1]
            place = _bisect(level["word"], low, high, w + 1)
            mass = jnp.where(seen & (place > low), level["cumulative"][place - 1], 0.0)
            p = mass + jnp.where(seen, level["backoff"][node], 1.0) * p
        return p

    def _histories(self, levels):
        """Return for k = 0, 1, ... the place of the history of k words, and if it is there."""
        return [[a[-1] for a in grams] for grams in self._grams(levels, jnp.asarray(self.history))[: len(levels)]]

    def sample(self, key):
        """Draw a word exactly: p is a mixture over orders.

        From the highest order on, an order answers with probability 1 - backoff(h), by the inverse of its cumulative
        weights. If none does, all words except `<pad>` are equally likely.
        """
        levels = as_jax(self.levels)
        histories = self._histories(levels)
        word, answered = jax.random.randint(jax.random.fold_in(key, 0), (), 1, self.vocabulary_size), jnp.asarray(False)
        for k in reversed(range(len(levels))):
            level, (node, seen) = levels[k], histories[k]
            low, high = level["first"][node], level["first"][node + 1]
            chosen, u = jax.random.uniform(jax.random.fold_in(key, k + 1), (2,))
            total = level["cumulative"][high - 1]
            place = _bisect(level["cumulative"], low, high, (1.0 - u) * total)  # 1 - u > 0: never a word without weight
            answers = seen & (chosen >= level["backoff"][node]) & ~answered
            word = jnp.where(answers, level["word"][place], word)
            answered |= answers
        return word

    def _grams(self, levels, words):
        """Return for k = 0, 1, ... the place in level k - 1 of every k-gram of `words`, and if it is there."""
        grams = [(jnp.zeros(len(words) + 1, jnp.int32), jnp.ones(len(words) + 1, bool))]
        for k, level in enumerate(levels[: len(words)]):
            node, seen = (a[:-1] for a in grams[k])
            place, there = jax.vmap(_child, (None, 0, 0))(level, node, words[k:])
            grams.append((jnp.where(seen & there, place, 0), seen & there))
        return grams


def _child(level, node, word):
    """Return the place of `word` among those that follow `node`, and if it is there."""
    high = level["first"][node + 1]
    place = _bisect(level["word"], level["first"][node], high, word)
    return place, (place < high) & (level["word"][place] == word)


def _bisect(values, low, high, x):
    """Return the first place in low, ..., high - 1 whose value is at least x, or `high`.

    `values` rise from low to high.
    """

    def halve(_, bounds):
        low, high = bounds
        middle = (low + high) // 2
        right = (low < high) & (values[middle] < x)
        return jnp.where(right, middle + 1, low), jnp.where(right | (low == high), high, middle)

    return jax.lax.fori_loop(0, len(values).bit_length(), halve, (low, high))[0]
