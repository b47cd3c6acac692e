"""Language models against the enumeration of all sentences, the naive sampler, and a grammar of known entropy."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import models
from vae_jax.data import sources, synthetic
from vae_jax.distributions.sentence import words_before
from vae_jax.evaluation import likelihood
from vae_jax.training import gradient

V, T = 5, 4
NETWORKS = {
    "lstm": {"name": "lstm", "width": 6, "num_layers": 2},
    "lstm_tied": {"name": "lstm", "width": 6, "tied": True},
    "transformer": {"name": "transformer", "width": 8, "num_layers": 2, "num_heads": 2, "tied": True},
}


def sentences():
    """All rows there are: those with an end, and those that are full before one came."""
    for length in range(T):
        for words in itertools.product(range(2, V), repeat=length):
            yield (*words, 1, *[0] * (T - length - 1))
    yield from itertools.product(range(2, V), repeat=T)


ALL = np.array(list(sentences()), np.int32)


def build(network, length=T, vocabulary_size=V):
    return models.from_config(
        "language_model", {"network": network}, **kind((length,), vocabulary_size=vocabulary_size)
    )


@functools.cache
def randomized(name):
    """A model and params of which none is zero."""
    model = build(NETWORKS[name])
    shapes = jax.eval_shape(model.init, jax.random.key(0), {"x": ALL[:2]})
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.8, size=a.shape), a.dtype), shapes)


@functools.cache
def log_probs(name):
    model, params = randomized(name)
    return np.asarray(jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, ALL), np.float64)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_masses_of_all_sentences_sum_to_one(name):
    p = np.exp(log_probs(name))
    assert len(p) == 121
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    assert p.std() > 1e-3  # far from uniform


@pytest.mark.parametrize("name", NETWORKS)
def test_the_cached_sampler_is_the_naive_one(name, assert_mean):
    model, params = randomized(name)
    keys = jax.random.split(jax.random.key(1), 5000)
    cached = np.asarray(jax.jit(jax.vmap(model.sample, (None, 0)))(params, keys))
    naive = jax.jit(jax.vmap(model.density(params).uncached().sample))
    np.testing.assert_array_equal(naive(keys[:200]), cached[:200])
    row = {tuple(x): i for i, x in enumerate(ALL.tolist())}
    drawn, p = np.array([row[tuple(x)] for x in cached.tolist()]), np.exp(log_probs(name))
    common = np.flatnonzero(p > 5e-3)
    assert_mean((drawn[:, None] == common[None]).astype(float), p[common])


@pytest.mark.parametrize("name", NETWORKS)
def test_padding_changes_no_likelihood(name):
    model, params = randomized(name)
    rows = ALL[(ALL == 1).any(axis=1)][5:9]
    other = np.where(np.cumsum(rows == 1, axis=1) - (rows == 1) > 0, 3, rows)
    assert not np.array_equal(rows, other)
    value = jax.jit(jax.value_and_grad(lambda params, x: jax.vmap(model.log_prob, (None, 0))(params, x).sum()))
    (own, slope), (same, same_slope) = value(params, rows), value(params, other)
    np.testing.assert_array_equal(own, same)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), slope, same_slope)
    assert all(np.isfinite(leaf).all() and np.any(leaf != 0) for leaf in jax.tree.leaves(slope))
    if name.startswith("lstm"):  # a Transformer's places are parameters
        longer = jax.vmap(build(NETWORKS[name], T + 3).log_prob, (None, 0))(params, np.pad(rows, ((0, 0), (0, 3))))
        np.testing.assert_allclose(longer.sum(), own, rtol=1e-6)


def test_it_begins_as_the_uniform_distribution_where_nothing_is_tied():
    model = build(NETWORKS["lstm"])
    params = model.init(jax.random.key(0), {"x": ALL[:2]})
    np.testing.assert_allclose(model.log_prob(params, jnp.array([3, 2, 1, 0])), -3 * math.log(V - 1), rtol=1e-6)


def test_dropout_is_in_the_loss_and_nowhere_else():
    dropping, (_, params) = build({**NETWORKS["lstm_tied"], "dropout": 0.5}), randomized("lstm_tied")
    batch = {"x": jnp.asarray(ALL[30:50])}
    loss = jax.jit(lambda key: dropping.loss(params, key, batch, 0)[0])
    one, same, other = (np.asarray(loss(jax.random.key(seed))) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, same)
    assert np.all(one != other)
    terms = likelihood.judged(dropping, params, jax.random.key(0), batch)
    np.testing.assert_allclose(terms["bound"], log_probs("lstm_tied")[30:50], rtol=1e-5)


def test_an_lstm_comes_near_the_grammar_and_not_past_it():
    data = sources.load("text", tokens={"max_length": 11})
    model = build({"name": "lstm", "width": 32}, 12, len(data.vocabulary))
    learner = gradient.gradient(model, gradient.optimizer(name="adam", learning_rate=0.02))
    x = jnp.asarray(data.train.x)

    @jax.jit
    def run(state):
        advance = lambda state, rows: learner.step(state, {"x": x[rows]})  # noqa: E731
        return jax.lax.scan(advance, state, jnp.arange(4800).reshape(75, 64).repeat(4, axis=0))[0]

    params = learner.params(run(learner.init(jax.random.key(0), {"x": x[:2]})))
    truth = np.array([synthetic.grammar_log_prob(s) for s in synthetic.grammar("test")])
    gap = truth - np.asarray(jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, data.test.x), np.float64)
    assert gap.mean() > 2 * gap.std() / math.sqrt(len(gap))
    assert gap.mean() < 1.0  # nats a sentence, of 7.7; a trigram of the same sentences has 1.5


@pytest.mark.parametrize("name", NETWORKS)
def test_rows_may_be_cut_behind_their_ends(name):
    model, params = randomized(name)
    short = jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, ALL[:4, :2])
    np.testing.assert_allclose(short, log_probs(name)[:4], rtol=1e-5)


def test_what_stands_before():
    np.testing.assert_array_equal(words_before(jnp.array([4, 2, 1, 0])), [0, 4, 2, 1])


def test_text_and_images_are_not_confused():
    with pytest.raises(
        ValueError, match=r"^family: 'language_model' is a model of text, and the data are images; use another family"
    ):
        models.from_config("language_model", {"network": NETWORKS["lstm"]}, **kind((8, 8, 1)))
    with pytest.raises(ValueError, match=r"^family: 'naive_bayes' is a model of images, and the data are text"):
        models.from_config("naive_bayes", {"smoothing": 1.0}, **kind((4,), vocabulary_size=5))
    with pytest.raises(ValueError, match=r"model\.network\.name: unknown value 'lst'; did you mean 'lstm'"):
        build({"name": "lst"})
