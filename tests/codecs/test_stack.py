"""The stack of symbols: what is pushed is popped, in as many bits as the masses say."""

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from vae_jax.codecs.stack import UNREAD, Recorded, Stack, base_of, counts

FEW = hypothesis.settings(max_examples=30, deadline=None)


def message(seed, number, size, spread):
    """Symbols [n] drawn from masses [n, V], which are not normalised; a large spread makes them very uneven."""
    rng = np.random.default_rng(seed)
    tables = np.exp(np.minimum(spread * rng.normal(size=(number, size)), 80.0)).astype(np.float32)  # finite
    p = counts(tables).astype(np.float64)
    cumulative = np.cumsum(p / p.sum(axis=1, keepdims=True), axis=1)
    symbols = np.minimum((rng.random((number, 1)) > cumulative).sum(axis=1), size - 1)
    return symbols.astype(np.int32), tables, -np.log2(p[np.arange(number), symbols] / p.sum(axis=1)).sum()


@FEW
@hypothesis.given(st.integers(0, 99), st.integers(0, 300), st.integers(2, 700), st.floats(0, 20))
def test_popping_undoes_pushing_in_about_as_many_bits_as_the_masses_say(seed, number, size, spread):
    symbols, tables, ideal = message(seed, number, size, spread)
    stack = Stack()
    stack.push(symbols, tables)
    words = stack.words()
    assert ideal - 32 <= 32 * len(words) <= 1.01 * ideal + 96
    decoder = Stack(words)
    np.testing.assert_array_equal(decoder.pop(tables), symbols)
    assert decoder.is_clean()


@FEW
@hypothesis.given(st.lists(st.tuples(st.integers(1, 40), st.integers(2, 90), st.floats(0, 5)), max_size=6))
def test_several_messages_come_back_last_first(shapes):
    parts = [message(seed, *shape) for seed, shape in enumerate(shapes)]
    stack = Stack()
    for symbols, tables, _ in parts:
        stack.push(symbols, tables)
    decoder = Stack(stack.words())
    for symbols, tables, _ in reversed(parts):
        np.testing.assert_array_equal(decoder.pop(tables), symbols)
    assert decoder.is_clean()


def test_recorded_pieces_are_popped_in_the_order_of_recording():
    parts, recorded, stack = [message(n, 50, size, 1.0) for n, size in enumerate((3, 200, 17))], Recorded(), Stack()
    for symbols, tables, _ in parts:
        recorded.add(symbols, tables)
    recorded.push(stack)
    decoder = Stack(stack.words())
    for symbols, tables, _ in parts:
        np.testing.assert_array_equal(decoder.pop(tables), symbols)


def test_popping_before_pushing_draws_from_the_masses_and_pushing_again_returns_the_bits():
    table = np.tile(np.float32([[0.5, 0.3, 0.15, 0.05]]), (20_000, 1))
    stack = Stack(random_words=UNREAD)
    drawn = stack.pop(table)
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), table[0], atol=0.015)
    entropy = -np.sum(table[0] * np.log2(table[0]))
    assert stack.initial_bits == pytest.approx(entropy * len(drawn), rel=0.02)
    assert not stack.is_clean()
    stack.push(drawn, table)
    assert stack.is_clean()


def test_random_words_that_were_not_read_are_not_part_of_the_message():
    stack = Stack(random_words=UNREAD)
    stack.push_uniform(stack.pop_uniform(10, 2**16), 2**16)
    assert len(stack.words()) <= 10 * 16 / 32 + 4 and stack.initial_bits >= 160
    decoder = Stack(stack.words())
    decoder.push_uniform(decoder.pop_uniform(10, 2**16), 2**16)
    assert decoder.is_clean()


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_masses_that_are_no_numbers_are_refused(wrong):
    with pytest.raises(ValueError, match="NaN or zero"):
        counts(np.array([[0.5, wrong]]))
    with pytest.raises(ValueError, match="NaN or zero"):
        counts(np.zeros((1, 3)))


def test_every_symbol_has_a_mass_and_tiny_masses_do_not_overflow():
    whole = counts(np.array([[1e-300, 1e-310, 0.0], [1.0, 1e-12, 0.0]]))
    assert whole.min() == 1 and whole.max() <= 2**22 and np.array_equal(whole, np.round(whole))


@FEW
@hypothesis.given(st.integers(1, 10**6))
def test_two_digits_of_the_base_are_enough_and_no_smaller_base_is(size):
    base = base_of(size)
    assert base**2 >= size and (base - 1) ** 2 < size
