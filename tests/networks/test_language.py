"""Networks over tokens: what a place sees, one place at a time as all at once, and the LSTM as flax has it."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.networks import language
from vae_jax.networks.recurrent import LSTMLayer

V, T = 7, 5
NETWORKS = {
    "lstm": language.lstm(V, T, width=6, num_layers=2),
    "transformer": language.transformer(V, T, width=8, num_layers=2, num_heads=2),
}
BEFORE = jnp.array([0, 3, 6, 2, 5])  # every token once


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
        step = lambda carry, word: network.apply(variables, carry, word, context, method="step")  # noqa: E731
        _, one_by_one = jax.lax.scan(step, network.apply(variables, method="start"), BEFORE)
        return one_by_one, network.apply(variables, BEFORE, context)

    one_by_one, at_once = both(variables, context)
    assert np.all(np.asarray(at_once)[:, 0] == -np.inf)
    np.testing.assert_allclose(one_by_one, at_once, rtol=1e-5, atol=1e-5)


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
    with pytest.raises(ValueError, match="num_heads 3 does not divide width 8"):
        language.transformer(V, T, width=8, num_heads=3).init(jax.random.key(0), BEFORE)


@pytest.mark.parametrize("name", ["lstm", "transformer"])
@pytest.mark.parametrize(("option", "value"), [("width", 0), ("num_layers", 0), ("dropout", 1.0), ("dropout", -0.1)])
def test_options_out_of_range_are_refused(name, option, value):
    network = getattr(language, name)(vocabulary_size=5, length=3, **{option: value})
    with pytest.raises(ValueError, match=rf"config\.model\.network\.{option} must be at least .*, got {value}"):
        network.init(jax.random.key(0), jnp.zeros(3, jnp.int32))
