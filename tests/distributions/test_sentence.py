"""Rows of words up to an end, where every conditional is known."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.data import text
from vae_jax.distributions import Categorical, Sentence, check_support, sentence
from vae_jax.distributions.sentence import predicted, words_before

TABLE = np.array([[0.0, 0.1, 0.6, 0.3], [0.0, 0.0, 0.5, 0.5], [0.0, 0.5, 0.2, 0.3], [0.0, 0.3, 0.3, 0.4]])


def chain(length):
    """A Markov chain over the words 2 and 3: p(w | previous) = TABLE[previous, w]."""
    log_p = jnp.log(jnp.asarray(TABLE, jnp.float32))
    return Sentence(
        log_p,
        lambda log_p, x: log_p[words_before(x), x],
        lambda log_p: (),
        lambda log_p, carry, previous: (carry, Categorical(log_p[previous])),
        length,
        4,
    )


def rows(length):
    for n in range(length):
        yield from ((*words, 1, *[0] * (length - n - 1)) for words in itertools.product((2, 3), repeat=n))
    yield from itertools.product((2, 3), repeat=length)


@pytest.fixture(scope="module")
def of_all():
    x = np.array(list(rows(3)), np.int32)
    return x, np.asarray(jax.vmap(chain(3).log_prob)(x), np.float64)


def test_it_is_the_product_of_its_conditionals(of_all):
    x, log_p = of_all
    expected = []
    for row in x.tolist():
        words = [0, *(row[: row.index(1) + 1] if 1 in row else row)]
        expected.append(np.prod([TABLE[a, b] for a, b in itertools.pairwise(words)]))
    np.testing.assert_allclose(np.exp(log_p), expected, rtol=1e-5)
    np.testing.assert_allclose(np.exp(log_p).sum(), 1.0, rtol=1e-6)  # the rows without an end among them


def test_draws_have_its_masses_and_are_padded(of_all, assert_mean):
    x, log_p = of_all
    drawn = np.asarray(jax.jit(jax.vmap(chain(3).sample))(jax.random.split(jax.random.key(0), 10_000)))
    assert drawn.dtype == np.int32
    index = {tuple(row): i for i, row in enumerate(x.tolist())}
    own = np.array([index[tuple(row)] for row in drawn.tolist()])
    assert_mean((own[:, None] == np.arange(len(x))[None]).astype(float), np.exp(log_p))


def test_what_is_behind_the_end_is_not_read():
    np.testing.assert_array_equal(predicted(jnp.array([3, 1, 2, 1])), [True, True, False, False])
    assert chain(4).log_prob(jnp.array([3, 1, 2, 1])) == chain(4).log_prob(jnp.array([3, 1, 0, 0]))


def test_nothing_is_padding_before_the_end():
    assert chain(3).log_prob(jnp.array([3, 0, 1])) == -np.inf


def test_its_ends_are_those_of_the_data():
    assert (sentence.PAD, sentence.END) == (text.PAD, text.EOS)


def test_its_support_is_the_vocabulary():
    check_support(chain(3), np.array([[2, 1, 0]]))
    with pytest.raises(ValueError, match=r"a Sentence likelihood is a density of tokens below 4"):
        check_support(chain(3), np.array([[4, 1, 0]]))
