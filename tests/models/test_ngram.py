"""Kneser-Ney against its definition written plainly, its sums over all words, and a grammar of known entropy."""

import collections
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import models
from vae_jax.data import sources, synthetic
from vae_jax.distributions import BackedOff
from vae_jax.models.ngram import FALLBACK, absolute, modified
from vae_jax.training import learners

V, T, ORDER = 12, 9, 4


def build(order=ORDER, discounts="modified", length=T, vocabulary_size=V):
    config = {"order": order, "discounts": discounts}
    return models.from_config("ngram", config, **kind((length,), 0, vocabulary_size=vocabulary_size))


@functools.cache
def corpus(size=300):
    """Sentences of a few words, some frequent; word 11 is never seen, sentences may be just an end."""
    rng = np.random.default_rng(0)
    rows = np.zeros((size, T), np.int32)
    for row in rows:
        length = rng.integers(0, T)
        row[:length] = np.minimum(1 + rng.geometric(0.35, length), V - 2)
        for t in range(1, length, 2):
            row[t] = V - row[t - 1] if rng.random() < 0.7 else row[t]
        row[length] = 1
    return rows


@functools.cache
def fitted(order=ORDER, discounts="modified"):
    return jax.tree.map(jnp.asarray, build(order, discounts).fit(corpus()))


@functools.cache
def next_words(order):
    """(params, histories [N, order - 1]) -> log p(w | h) [N, V], compiled once."""

    def one(params, history):
        return jax.vmap(BackedOff(params["levels"], history, V).log_prob)(jnp.arange(V))

    return jax.jit(jax.vmap(one, (None, 0)))


class Plain:
    """Interpolated Kneser-Ney by dictionaries, word for word as it is defined."""

    def __init__(self, rows, order, discounts):
        seen = collections.Counter()
        for row in rows.tolist():
            words = [0, *row[: row.index(1) + 1]]
            for n in range(1, order + 1):
                seen.update(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
        self.order, self.counts, self.discounts = order, collections.defaultdict(dict), []
        for n in range(1, order + 1):
            own = {gram: c for gram, c in seen.items() if len(gram) == n and gram != (0,)}
            if n < order:
                longer = collections.Counter(gram[1:] for gram in seen if len(gram) == n + 1)
                own = {gram: c if gram[0] == 0 else longer[gram] for gram, c in own.items()}
            for gram, c in own.items():
                self.counts[gram[:-1]][gram[-1]] = c
            self.discounts.append(self.discounts_of(list(own.values()), discounts))

    @staticmethod
    def discounts_of(counts, kind):
        n = [counts.count(r) for r in range(5)]
        y = n[1] / (n[1] + 2 * n[2]) if n[1] else FALLBACK[0]
        if kind == "absolute":
            return [0, y, y, y]
        own = [0] + [r - (r + 1) * y * n[r + 1] / n[r] if n[r] else -1 for r in (1, 2, 3)]
        return own if all(n[1:]) and all(0 < d <= r for r, d in enumerate(own) if r) else [0, *FALLBACK]

    def p(self, w, history):
        below = self.p(w, history[1:]) if history else 1 / (V - 1)
        counts, discount = self.counts.get(history), self.discounts[len(history)]
        if not counts:
            return below
        own = max(counts.get(w, 0) - discount[min(counts.get(w, 0), 3)], 0)
        left = sum(discount[min(c, 3)] for c in counts.values())
        return (own + left * below) / sum(counts.values())


def histories(order, size=200):
    """Seen ones and arbitrary ones, from the beginning of a sentence on."""
    rng = np.random.default_rng(1)
    padded = np.concatenate([np.zeros((300, order - 1), np.int32), corpus()], axis=1)
    seen = np.stack([row[s : s + order - 1] for row in padded for s in range(6)])[rng.permutation(1800)[:size]]
    seen = seen[(seen != 1).all(axis=1)]
    return np.concatenate([seen, rng.integers(2, V, (size, order - 1)).astype(np.int32)])


@pytest.mark.parametrize("discounts", ["modified", "absolute"])
def test_it_is_kneser_ney(discounts):
    plain = Plain(corpus(), ORDER, discounts)
    assert discounts == "absolute" or any(d[1:] != list(FALLBACK) for d in plain.discounts)
    given = histories(ORDER)
    ours = np.asarray(next_words(ORDER)(fitted(ORDER, discounts), given))
    assert np.all(ours[:, 0] == -np.inf)  # nothing is followed by <pad>
    for row, log_p in zip(given.tolist(), ours, strict=True):
        start = max((i for i, w in enumerate(row) if w == 0), default=0)
        history = tuple(row[start:])
        np.testing.assert_allclose(np.exp(log_p[1:]), [plain.p(w, history) for w in range(1, V)], rtol=2e-5)


@pytest.mark.parametrize("order", [1, ORDER])
def test_the_next_words_sum_to_one(order):
    p = np.exp(np.asarray(next_words(order)(fitted(order), histories(order)), np.float64))
    np.testing.assert_allclose(p.sum(axis=1), 1.0, atol=1e-5)
    assert np.all(p[:, 1:] > 0)  # of words never seen, too


def test_a_sentence_is_the_product_of_its_words_and_padding_is_free():
    model, plain = build(), Plain(corpus(), ORDER, "modified")
    log_prob = jax.jit(jax.vmap(model.log_prob, (None, 0)))
    x = np.array([[4, 8, 4, 1, 0, 0, 0, 0, 0], [1, *[0] * 8], [11, 3, 3, 3, 5, 9, 2, 2, 1]], np.int32)
    expected = []
    for row in x.tolist():
        words = [0, *row[: row.index(1) + 1]]
        expected.append(sum(math.log(plain.p(w, tuple(words[max(0, t - 3) : t]))) for t, w in enumerate(words) if t))
    np.testing.assert_allclose(log_prob(fitted(), x), expected, rtol=1e-5)
    other = x.copy()
    other[:2, 5:] = 7  # behind the end
    np.testing.assert_array_equal(log_prob(fitted(), other), log_prob(fitted(), x))
    longer = build(length=T + 4)
    wide = np.pad(x, ((0, 0), (0, 4)))
    np.testing.assert_allclose(jax.jit(jax.vmap(longer.log_prob, (None, 0)))(fitted(), wide), expected, rtol=1e-5)


def test_draws_have_the_probabilities_of_the_next_word(assert_mean):
    params = fitted()
    given = np.array([[0, 0, 0], [0, 4, 8], [4, 8, 4], [11, 11, 3]], np.int32)
    p = np.exp(np.asarray(next_words(ORDER)(params, given)))

    @jax.jit
    def draw(keys):
        def one(history, key):
            return BackedOff(params["levels"], history, V).sample(key)

        return jax.vmap(jax.vmap(one, (None, 0)), (0, None))(given, keys)

    drawn = np.asarray(draw(jax.random.split(jax.random.key(0), 20_000)))
    for words, own in zip(drawn, p, strict=True):
        common = np.flatnonzero(own > 1e-3)
        assert_mean((words[:, None] == common[None]).astype(float), own[common])
        assert not np.any(words == 0)


def test_a_five_gram_comes_near_the_grammar_and_a_trigram_cannot():
    """The grammar's words depend on the four before. Test sentences are scored by each, and by the truth."""
    data = sources.load("text", tokens={"max_length": 11})
    truth = np.array([synthetic.grammar_log_prob(s) for s in synthetic.grammar("test")])
    gap = {}
    for order in (3, 5):
        model = build(order, length=12, vocabulary_size=len(data.vocabulary))
        params = jax.tree.map(jnp.asarray, model.fit(data.train.x))
        own = np.asarray(jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, data.test.x), np.float64)
        difference = truth - own
        gap[order] = difference.mean()
        assert gap[order] > 5 * difference.std() / math.sqrt(len(difference))  # nothing beats the truth
    assert gap[5] < 0.4 and gap[3] > 1.2, gap  # nats a sentence, of 7.7


def test_discounts_are_within_what_they_are_taken_from():
    assert modified(np.array([1, 2, 3, 7])).tolist() == [*FALLBACK, FALLBACK[2]]
    assert modified(np.array([0]))[0] == absolute(np.array([0]))[0] == 0
    np.testing.assert_allclose(absolute(np.array([1, 1, 2, 9])), 0.5)
    counts = np.repeat([1, 2, 3, 4, 5], [40, 20, 12, 8, 30])
    n, y = (40, 20, 12, 8), 40 / 80
    expected = [1 - 2 * y * n[1] / n[0], 2 - 3 * y * n[2] / n[1], 3 - 4 * y * n[3] / n[2]]
    np.testing.assert_allclose(modified(counts)[[0, 40, 60, 109]], [*expected, expected[2]])


def test_sentences_shorter_than_the_order_will_do():
    model = build(5)
    rows = np.zeros((3, T), np.int32)
    rows[:, 0] = 1
    params = jax.tree.map(jnp.asarray, model.fit(rows))
    assert float(jax.jit(model.log_prob)(params, rows[0])) > math.log(0.5)


def test_it_is_counted_from_all_data_or_not_at_all():
    model = build()
    learner = learners.whole_data(model, corpus())
    batch = {"x": jnp.asarray(corpus()[:8])}
    state = jax.jit(learner.init)(jax.random.key(0), batch)
    after, metrics = jax.jit(learner.step)(state, batch)
    jax.tree.map(np.testing.assert_array_equal, learner.params(after), fitted())
    expected = -np.mean(jax.jit(jax.vmap(model.log_prob, (None, 0)))(fitted(), batch["x"]))
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-6)
    with pytest.raises(ValueError, match=r"^name: 'whole_data' needs a family that is fitted to all data at once"):
        learners.whole_data(model._replace(fit=None), corpus())


def test_before_anything_is_counted_all_words_are_alike():
    model = build()
    params = model.init(jax.random.key(0), {"x": corpus()[:2]})
    value = jax.jit(model.log_prob)(params, jnp.array([3, 2, 1, *[0] * (T - 3)]))
    np.testing.assert_allclose(value, -3 * math.log(V - 1), rtol=1e-6)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"order": 0}, "model.order must be between 1 and 1000, got 0"),
        ({"discounts": "modifed"}, "model.discounts: unknown value 'modifed'"),
    ],
)
def test_options_out_of_range_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        build(**config)


@pytest.mark.parametrize("discounts", ["modified", "absolute"])
def test_where_nothing_was_seen_once_the_unseen_is_possible(discounts):
    rows = jnp.asarray(np.repeat([[2, 3, 1], [3, 2, 1]], 4, axis=0), jnp.int32)
    spec = {"order": 2, "discounts": discounts}
    model = models.from_config("ngram", spec, **kind((3,), 0, vocabulary_size=V))
    params = jax.tree.map(jnp.asarray, model.fit(np.asarray(rows)))
    log_p = jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, jnp.asarray([[2, 2, 1], [4, 5, 1]]))
    assert np.isfinite(log_p).all()
