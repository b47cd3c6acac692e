"""Networks over tokens: what a place sees, one place at a time as all at once, and the LSTM as flax has it."""

import functools
import itertools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.data import text
from vae_jax.networks import language, readers, tokens
from vae_jax.networks.recurrent import LSTMLayer

V, T = 7, 5
OPTIONS = {"lstm": {"width": 6, "num_layers": 2}, "transformer": {"width": 8, "num_layers": 2, "num_heads": 2}}
NETWORKS = {name: getattr(language, name)(V, T, **options) for name, options in OPTIONS.items()}
BEFORE = jnp.array([0, 3, 6, 2, 5])  # every token once


def reader(name, outputs, **options):
    sizes = {"vocabulary_size": V, "length": T}
    return getattr(readers, name)(outputs, **sizes, **{**OPTIONS[name], **options})


@functools.cache
def randomized(name, dim=3):
    network, context = NETWORKS[name], jnp.linspace(-1.0, 1.0, dim)
    shapes = jax.eval_shape(network.init, jax.random.key(0), BEFORE, context)
    rng = np.random.default_rng(0)
    return network, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape), a.dtype), shapes), context


@pytest.mark.parametrize("name", NETWORKS)
def test_a_place_depends_on_the_words_before_it_and_on_no_other(name):
    network, variables, context = randomized(name)
    embedding = variables["params"]["tokens"]["embedding"]

    def logits(embedding, context):
        own = {**variables["params"], "tokens": {**variables["params"]["tokens"], "embedding": embedding}}
        return network.apply({"params": own}, BEFORE, context)[:, 1:]  # of <pad> -inf

    by_word, by_context = jax.jit(jax.jacobian(logits, (0, 1)))(embedding, context)
    by_place = np.abs(np.asarray(by_word)).sum(axis=(1, 3))[:, BEFORE]  # [T, place of the word]
    assert np.all(by_place[np.triu_indices(T, 1)] == 0.0) and np.all(by_place[np.tril_indices(T)] != 0.0)
    assert np.all(np.abs(by_context).sum(axis=(1, 2)) != 0.0)  # the context is seen everywhere


@pytest.mark.parametrize("name", NETWORKS)
def test_place_by_place_is_all_at_once(name):
    network, variables, context = randomized(name)

    @jax.jit
    def both(variables, context):
        step = lambda carry, word: network.step(variables, carry, word, context)  # noqa: E731
        _, one_by_one = jax.lax.scan(step, network.start(variables, context), BEFORE)
        return one_by_one, network.apply(variables, BEFORE, context)

    one_by_one, at_once = both(variables, context)
    assert np.all(np.asarray(at_once)[:, 0] == -np.inf)
    np.testing.assert_allclose(one_by_one, at_once, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_sentence_is_read_up_to_its_end_and_no_further(name):
    x = jnp.array([[3, 6, 1, 2, 5], [3, 6, 4, 2, 5]])  # the second is full before an end
    encoder = reader(name, ((2,), ()))
    shapes = jax.eval_shape(encoder.init, jax.random.key(0), x[0])
    rng = np.random.default_rng(0)
    variables = jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape), a.dtype), shapes)
    total = lambda variables, x: sum(map(jnp.sum, encoder.apply(variables, x)))  # noqa: E731
    slope = jax.jit(jax.vmap(jax.grad(total), (None, 0)))(variables, x)
    by_word = np.abs(slope["params"]["network"]["tokens"]["embedding"]).max(-1)
    for row, words in zip(by_word, ((1, 3, 6), (2, 3, 4, 5, 6)), strict=True):
        read = np.isin(np.arange(V), words)
        assert np.all(row[read] > 0) and np.all(row[~read] == 0)


def test_what_reads_has_no_parameters_for_what_it_would_predict():
    encoder = reader("lstm", ((2,),))
    params = jax.eval_shape(encoder.init, jax.random.key(0), BEFORE)["params"]
    assert set(params["network"]["tokens"]) == {"embedding"} and params["DenseHead_0"]["Dense_0"]["kernel"].shape == (
        6,
        2,
    )
    with pytest.raises(ValueError, match=r"^tied must be False for an encoder, which returns no logits, got True"):
        reader("lstm", ((2,),), tied=True)


def test_a_dropped_word_is_read_as_unknown_and_the_beginning_is_never_dropped(assert_mean):
    plain, variables, context = randomized("lstm")
    network, before = language.lstm(V, T, **OPTIONS["lstm"], word_dropout=0.4), jnp.array([0, 3, 6, 4, 5])
    assert network.drops and not plain.drops
    masks = np.array(list(itertools.product([False, True], repeat=T - 1)))
    rows = jnp.asarray(np.where(np.pad(masks, ((0, 0), (1, 0))), text.UNK, before))

    @jax.jit
    def logits(variables, keys):
        dropping = lambda key: network.apply(variables, before, context, dropout_key=key)  # noqa: E731
        whole = jax.vmap(lambda row: network.apply(variables, row, context))(rows)
        return jax.vmap(dropping)(keys)[:, :, 1:], whole[:, :, 1:]

    drawn, expected = map(np.asarray, logits(variables, jax.random.split(jax.random.key(0), 500)))
    which = np.abs(drawn[:, None] - expected[None]).max(axis=(2, 3)).argmin(axis=1)
    np.testing.assert_allclose(drawn, expected[which], atol=1e-5)
    assert_mean(masks[which].astype(float), 0.4)


def test_its_ids_are_those_of_the_data():
    assert (tokens.PAD, tokens.END, tokens.UNKNOWN) == (text.PAD, text.EOS, text.UNK)


def test_an_lstm_layer_is_flaxs():
    layer, x = LSTMLayer(4), jax.random.normal(jax.random.key(0), (T, 3))
    zero = jnp.zeros(4)
    params = jax.tree.map(lambda a: a + 0.1, layer.init(jax.random.key(1), x, (zero, zero)))
    own, (h, c) = layer.apply(params, x, (zero, zero))
    cut = lambda a: jnp.split(a, 4, axis=-1)  # noqa: E731
    p = params["params"]
    theirs = {
        f"{kind}{gate}": {"kernel": kernel} | ({"bias": bias} if kind == "h" else {})
        for kind, kernels in (("i", cut(p["input"]["kernel"])), ("h", cut(p["recurrent"])))
        for gate, kernel, bias in zip(
            "ifgo", kernels, cut(p["input"]["bias"] + jnp.repeat(jnp.eye(4)[1], 4)), strict=True
        )
    }
    cell, state, outputs = nn.OptimizedLSTMCell(4), (zero, zero), []
    for row in x:
        state, out = cell.apply({"params": theirs}, state, row)
        outputs.append(out)
    np.testing.assert_allclose(own, jnp.stack(outputs), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(jnp.stack([c, h]), jnp.stack(state), rtol=1e-5, atol=1e-6)


def test_tied_logits_are_products_with_the_tokens_vectors():
    network = language.lstm(V, T, width=6, tied=True)
    params = network.init(jax.random.key(0), BEFORE)["params"]["tokens"]
    assert {name: value.shape for name, value in params.items()} == {"embedding": (V, 6), "bias": (V,)}


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="num_heads must divide width = 8, got 3"):
        language.transformer(V, T, width=8, num_heads=3).init(jax.random.key(0), BEFORE)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
@pytest.mark.parametrize(
    ("option", "value"),
    [("width", 0), ("num_layers", 0), ("dropout", 1.0), ("dropout", -0.1), ("word_dropout", 1.0), ("word_dropout", -1)],
)
def test_options_out_of_range_are_refused(name, option, value):
    with pytest.raises(ValueError, match=rf"^{option} must be at least .*, got {value}"):
        getattr(language, name)(vocabulary_size=5, length=3, **{option: value})
