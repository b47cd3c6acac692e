"""Models of n-grams with interpolated Kneser-Ney smoothing.

Chen and Goodman 1999, doi:10.1006/csla.1999.0128, sec. 3.3, 4.2:

p_k(w | h) = [max(c(hw) - D(c(hw)), 0) + Σ_v D(c(hv)) p_{k-1}(w | h')] / Σ_v c(hv)

h' is h without its oldest word. In the highest order c is the number of occurrences. In lower orders it is the number
of different words before hw. A history at the beginning of a sentence has none: its occurrences are counted.
"""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax import spec, support
from vae_jax.core import Model, tractable
from vae_jax.distributions import BackedOff, Sentence
from vae_jax.distributions.sentence import END, PAD, LevelSeries

TAKES = (support.Tokens, support.Levels, support.Binary)
MOST_WORDS = 1000  # the largest order: each order has its own tables
FALLBACK = (0.5, 1.0, 1.5)  # discounts if there are too few data to estimate them


def ngram(order, event_shape, vocabulary_size, *, discounts="modified") -> Model:
    """Return an n-gram model of sentences, fitted by `whole_data`: its sparse counts are made from all data at once.

    Args:
      order: n.
      event_shape: [T].
      vocabulary_size: V.
      discounts: "modified" for D(1), D(2) and D(3 or more) in every order; "absolute" for one D in every order (Kneser
        and Ney 1995).

    Raises `BadOption` for an order below 1 or unknown discounts.
    """
    spec.integers(order=order, at_most=MOST_WORDS)
    spec.one_of(DISCOUNTS, discounts=discounts)
    (length,) = event_shape

    def conditional(params, history):
        return BackedOff(params["levels"], history, vocabulary_size)

    def log_probs(params, x):
        padded = jnp.concatenate([jnp.full(order - 1, PAD, x.dtype), x])
        places = jnp.arange(length)
        histories = padded[places[:, None] + jnp.arange(order - 1)[None]]
        return jax.vmap(lambda history, w: conditional(params, history).log_prob(w))(histories, x)

    def start(params):
        return jnp.full(order, PAD, jnp.int32)

    def step(params, words, previous):
        words = jnp.append(words[1:], previous)
        return words, conditional(params, words[1:])

    def density(params, context=None):
        return Sentence(params, log_probs, start, step, length, vocabulary_size)

    def fit(x):
        return {"levels": levels(x, order=order, discounts=DISCOUNTS[discounts])}

    def init(key, batch):
        """Return the model without any counts: all words have the same probability."""
        return jax.tree.map(jnp.asarray, fit(np.zeros((0, length), np.int32)))

    return tractable(init, density, fit=fit)


def levels(x, *, order, discounts):
    """Return the arrays of `BackedOff` for orders 1, ..., `order`, from sentences x [N, T], by one sort in each order.

    `discounts` maps counts to what is subtracted from each.
    """
    words = np.concatenate([np.full((len(x), 1), PAD), x], axis=1).astype(np.int64)
    valid = words != PAD
    valid[:, 0] = True  # the beginning of the sentence
    size = words.max(initial=PAD) + 1
    nodes, sizes = [np.zeros_like(words)], [1]  # nodes: for each place the index of the k-gram that ends before it
    grams = []
    for k in range(order):
        row, column = np.nonzero(valid & (np.arange(words.shape[1]) >= k))
        keys = nodes[k][row, column - 1 if k else column] * size + words[row, column]
        unique, seen_at, node, count = np.unique(keys, return_index=True, return_inverse=True, return_counts=True)
        nodes.append(np.zeros_like(words))
        nodes[-1][row, column] = node
        sizes.append(max(1, len(unique)))
        grams.append((unique, (row[seen_at], column[seen_at]), count))
    return tuple(
        _level(*np.divmod(unique, size), _continued(grams, nodes, k), sizes[k], discounts)
        for k, (unique, _, _) in enumerate(grams)
    )


def _continued(grams, nodes, k):
    """Return the count c of each (k+1)-gram, as defined at the top of this file."""
    unique, (_, column), count = grams[k]
    if k + 1 < len(grams):
        in_front = np.bincount(nodes[k + 1][grams[k + 1][1]], minlength=len(unique))
        count = np.where(column == k, count, in_front)
    return np.where(column == 0, 0, count)  # the beginning is never a next word


def _level(parent, word, count, num_parents, discounts):
    discounted = count - discounts(count)
    total = np.maximum(np.bincount(parent, count, num_parents), 1)
    weight = discounted / total[parent]
    first = np.searchsorted(parent, np.arange(num_parents + 1))
    running = np.concatenate([[0.0], np.cumsum(weight)])
    cumulative = running[1:] - running[first[parent]]
    return {
        "first": first.astype(np.int32),
        "word": np.append(word, np.iinfo(np.int32).max).astype(np.int32),
        "weight": np.append(weight, 0.0).astype(np.float32),
        "cumulative": np.append(cumulative, 0.0).astype(np.float32),
        "backoff": np.maximum(1.0 - np.bincount(parent, weight, num_parents), 0.0).astype(np.float32),
    }


def modified(count):
    """Return the discounts D(c) of modified Kneser-Ney smoothing, doi:10.1006/csla.1999.0128 eq. (17).

    D(r) = r - (r + 1) Y n_{r+1} / n_r for r = 1, 2, 3 or more, Y = n_1 / (n_1 + 2 n_2), where n_r is the number of
    grams with count r. They are `FALLBACK` if an n_r is 0, or a D(r) is outside (0, r].
    """
    n = np.bincount(np.minimum(count, 5), minlength=6).astype(float)
    if n[1:5].all():
        r = np.arange(1, 4)
        discount = r - (r + 1) * n[1] / (n[1] + 2.0 * n[2]) * n[2:5] / n[1:4]
    if not n[1:5].all() or np.any(discount <= 0) or np.any(discount > r):
        discount = FALLBACK
    return np.array([0.0, *discount])[np.minimum(count, 3)]


def absolute(count):
    """Return D = n_1 / (n_1 + 2 n_2) in (0, 1] for all counts except 0; `FALLBACK[0]` if n_1 is 0."""
    n = np.bincount(np.minimum(count, 3), minlength=4).astype(float)
    discount = n[1] / (n[1] + 2.0 * n[2]) if n[1] else FALLBACK[0]
    return np.where(count > 0, discount, 0.0)


DISCOUNTS = {"modified": modified, "absolute": absolute}


def of_levels(order, event_shape, num_levels, *, discounts="modified") -> Model:
    """Return `ngram` for series of levels 0, ..., V - 1 such as sound (`LevelSeries`).

    Args:
      order: n.
      event_shape: [T].
      num_levels: V.
      discounts: as in `ngram`.
    """
    words = ngram(order, event_shape, num_levels + END + 1, discounts=discounts)

    def density(params, context=None):
        return LevelSeries(words.density(params), num_levels)

    def fit(x):
        return words.fit(LevelSeries.words(np.asarray(x)))

    return tractable(words.init, density, fit=fit)


def from_config(*, event, order, discounts, num_levels=0) -> Model:
    """Return the model from the keys of a config; the learner is `whole_data`.

    `num_levels` is the number of levels of a series such as sound, and 0 for text. Raises `BadOption` if it does not
    fit the data.
    """
    spec.integers(num_levels=num_levels, at_least=0)
    is_text = isinstance(event.support, support.Tokens)
    if is_text == (num_levels > 1) or len(event.shape) != 1:
        kind = "text" if is_text else "data"
        raise spec.BadOption(
            f"num_levels must be 0 for text, and the number of levels for a series; got {num_levels} and {kind} of "
            f"shape {tuple(event.shape)}"
        )
    if is_text:
        return ngram(order, event.shape, event.support.num_levels, discounts=discounts)
    return of_levels(order, event.shape, num_levels, discounts=discounts)
