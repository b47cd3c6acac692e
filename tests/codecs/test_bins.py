"""Bins of equal mass: their masses under a Gaussian, and the numbers that stand for them."""

import hypothesis
import numpy as np
import pytest
import scipy.stats
from hypothesis import strategies as st

from vae_jax.codecs import bins
from vae_jax.codecs.stack import UNREAD, Stack
from vae_jax.codecs.values import Popper, Recorder


class Masses:
    """A `choose` that multiplies the masses of the digits of given bins."""

    def __init__(self):
        self.mass = 1.0

    def __call__(self, tables, digits):
        self.mass = self.mass * tables[np.arange(len(digits)), digits] / tables.sum(axis=1)
        return digits


@hypothesis.settings(max_examples=40, deadline=None)
@hypothesis.given(
    st.floats(-3, 3), st.floats(0.01, 3), st.floats(-1, 1), st.floats(0.3, 3), st.integers(0, bins.NUMBER - 1)
)
def test_the_digits_of_a_bin_have_together_the_mass_of_the_bin(loc, scale, mu, s, k):
    choose = Masses()
    assert bins.visit(np.array([loc]), np.array([scale]), (mu, s), choose, np.array([k])) == k
    edges = mu + s * scipy.stats.norm.ppf(np.array([k, k + 1]) / bins.NUMBER)
    q = scipy.stats.norm(loc, scale)
    mass = q.cdf(edges[1]) - q.cdf(edges[0]) if edges[1] < loc else q.sf(edges[0]) - q.sf(edges[1])
    if mass > 1e-250:
        assert choose.mass[0] == pytest.approx(mass, rel=1e-6)
    z = bins.centres(np.array([k]), mu, s)[0]
    assert edges[0] - 1e-5 <= z <= edges[1] + 1e-5


@hypothesis.settings(max_examples=20, deadline=None)
@hypothesis.given(st.integers(0, 99), st.integers(1, 20), st.integers(1, 8))
def test_bins_come_back_and_cost_their_mass(seed, count, dim):
    rng = np.random.default_rng(seed)
    loc, scale = rng.normal(size=(count, dim)), np.exp(rng.normal(size=(count, dim)))
    known = rng.integers(0, bins.NUMBER, size=(count, dim))
    recorder, masses, stack = Recorder(count), Masses(), Stack()
    bins.visit(loc, scale, (0.0, 2.0), recorder, known)
    recorder.push(stack)
    np.testing.assert_array_equal(bins.visit(loc, scale, (0.0, 2.0), Popper(count, Stack(stack.words()))), known)
    bins.visit(loc, scale, (0.0, 2.0), masses, known)
    cheapest = -np.sum(np.log2(np.maximum(masses.mass, 2.0**-92)))  # four digits of at most 23 bits
    assert 32 * len(stack.words()) <= 1.02 * cheapest + 96


def test_popped_bins_are_draws_of_the_gaussian():
    loc, scale, stack = np.full((20_000, 1), 0.7), np.full((20_000, 1), 0.2), Stack(random_words=UNREAD)
    z = bins.centres(bins.visit(loc, scale, (0.0, 1.0), Popper(len(loc), stack)), 0.0, 1.0)
    assert scipy.stats.kstest(z[:, 0], scipy.stats.norm(0.7, 0.2).cdf).pvalue > 1e-3
