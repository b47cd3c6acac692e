"""Distributions as codes: every value comes back, in -log₂ p bits."""

import itertools
import math

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import strategies as st

from vae_jax.codecs import batch as batches
from vae_jax.codecs import values
from vae_jax.codecs.stack import Stack
from vae_jax.distributions import (
    Bernoulli,
    Categorical,
    Codes,
    DiscretizedLogisticMixture,
    LinearLogisticMixture,
    Normal,
    Observed,
    OneHot,
    OrderedCategorical,
    PenPoints,
    Poisson,
    Reshaped,
    Rows,
    Tree,
)
from vae_jax.support import Columns

SHAPES = st.sampled_from([(), (1,), (5,), (2, 3)])


def arrays(seed, *shapes):
    return [np.random.default_rng([seed, n]).normal(size=shape).astype(np.float32) for n, shape in enumerate(shapes)]


def coded(distribution, x, count, *, shared=False, most=None):
    """Return what comes back of x [count, ...], and the bits of the message."""
    size = len(x) + 2 if shared else len(jax.tree.leaves(distribution)[0])
    axes = jax.tree.map(lambda _: batches.SHARED if shared else 0, distribution)
    batch, stack = batches.Batch(distribution, axes, size), Stack()
    values.push(stack, batch, x, count, most=most)
    decoder = Stack(stack.words())
    back = values.pop(decoder, batch, count, most=most)
    assert decoder.is_clean()
    return back, 32 * len(stack.words())


def check(distribution, shape=None, *, tolerance=0.01, most=None):
    """Draw from distributions of B examples; all except the last two are coded."""
    size = len(jax.tree.leaves(distribution)[0])
    draw = lambda d, key: d.sample(key)  # noqa: E731
    x = np.asarray(jax.jit(jax.vmap(draw))(distribution, jax.random.split(jax.random.key(7), size)))[:-2]
    back, bits = coded(distribution, x, size - 2, most=most)
    np.testing.assert_array_equal(back, x)
    log_prob = jax.jit(jax.vmap(lambda d, x: d.log_prob(x)))(jax.tree.map(lambda a: a[:-2], distribution), x)
    ideal = -np.sum(np.asarray(log_prob, np.float64)) / math.log(2)
    assert ideal * (1 - 1e-3) - 32 <= bits <= (1 + tolerance) * ideal + 96


@hypothesis.settings(max_examples=5, deadline=None)
@hypothesis.given(st.integers(0, 99), st.integers(3, 6), SHAPES, st.sampled_from([2, 3, 17, 64, 65, 300]))
def test_independent_categories(seed, size, shape, levels):
    logits = arrays(seed, (size, *shape, levels))[0] * 2
    for kind in (Categorical, Codes) if shape else (Categorical,):
        check(kind(logits))


@hypothesis.settings(max_examples=5, deadline=None)
@hypothesis.given(st.integers(0, 99), st.integers(3, 6), SHAPES, st.sampled_from([2, 17, 33, 256, 1000]))
def test_discretised_logistics(seed, size, shape, levels):
    logits, locs, log_scales = arrays(seed, *[(size, *shape, 3)] * 3)
    check(DiscretizedLogisticMixture(logits, locs, log_scales - 3, levels))


@pytest.mark.parametrize(("limit", "atoms"), [(2, 0), (40, 0), (40, 3), (600, 64)])
def test_points_of_drawings(limit, atoms):
    logits, locs, log_scales, correlations, pen = arrays(8, (9, 5, 3), (9, 5, 3, 2), (9, 5, 3, 2), (9, 5, 3), (9, 5, 3))
    points = PenPoints(logits, 5 * locs, log_scales + 1, 0.9 * np.tanh(correlations), pen, limit)
    if not atoms:
        check(points)
        return
    own, features, levels, kernel, bias = arrays(
        9, (9, 5, k := 2 * atoms + 1), (9, 5, 6), (9, k + 2, 6), (9, 6, k), (9, k)
    )
    weights = {"offsets": levels, "kernel": kernel, "bias": bias}
    check(points.replace(atoms=own, features=features, weights=weights))


@pytest.mark.parametrize("shape", [(), (7,), (3, 4, 1)])
def test_bits_and_one_hot_vectors(shape):
    (logits,) = arrays(1, (9, *shape, 5))
    check(Bernoulli(4 * logits[..., 0]))
    if shape:
        check(OneHot(logits))


def test_channels_given_earlier_channels():
    logits, locs, log_scales, slopes = arrays(2, (6, 2, 3, 4), (6, 2, 3, 3, 4), (6, 2, 3, 3, 4), (6, 2, 3, 3, 4))
    check(LinearLogisticMixture(logits, locs, log_scales - 3, slopes, 256))
    shift, levels, kernel, bias, features = arrays(3, (3, 8), (3, 20, 8), (3, 8, 20), (3, 20), (6, 2, 8))
    weights = {"shift": shift, "levels": levels, "kernel": kernel, "bias": bias}
    axes = OrderedCategorical(0, jax.tree.map(lambda _: batches.SHARED, weights))
    distribution = OrderedCategorical(features, weights)
    x = np.random.default_rng(0).integers(0, 20, size=(4, 2, 3))
    stack, batch = Stack(), batches.Batch(distribution, axes, 6)
    values.push(stack, batch, x, 4)
    np.testing.assert_array_equal(values.pop(Stack(stack.words()), batch, 4), x)
    log_prob = jax.vmap(lambda f, x: OrderedCategorical(f, weights).log_prob(x))(features[:4], x)
    assert 32 * len(stack.words()) == pytest.approx(-float(log_prob.sum()) / math.log(2), rel=0.01, abs=96)


def test_the_conditionals_of_channels_make_the_joint_probability():
    logits, locs, log_scales, slopes = arrays(4, (4,), (3, 4), (3, 4), (3, 4))
    joint = LinearLogisticMixture(logits, locs, log_scales - 1, slopes, 5)
    for x in itertools.product(range(0, 5, 2), repeat=3):
        x = jnp.asarray(x, jnp.float32)
        parts = [joint.channel([x[k] for k in range(c)]).log_prob(x[c]) for c in range(3)]
        assert float(sum(parts)) == pytest.approx(float(joint.log_prob(x)), abs=1e-4)


@pytest.mark.parametrize("levels", [2, 7, 256])
def test_masses_of_intervals_are_sums_of_masses_of_levels(levels):
    logits, locs, log_scales = arrays(5, (6, 3), (6, 3), (6, 3))
    d = DiscretizedLogisticMixture(logits, locs, log_scales - 2, levels)
    each = np.exp(np.asarray([d.log_probs(jnp.full(6, float(v))) for v in range(levels)], np.float64))
    for first, last in ((0, 0), (0, levels - 1), (levels // 2, levels - 1), (1, levels // 2)):
        if first <= last:
            between = d.between(jnp.full(6, first), jnp.full(6, last))
            np.testing.assert_allclose(between, each[first : last + 1].sum(axis=0), rtol=2e-5, atol=1e-9)


def test_a_tree():
    rng = np.random.default_rng(0)
    parent = np.array([0, 0, 0, 1, 3, 2])
    tree = Tree(np.arange(6, dtype=np.int32), parent.astype(np.int32), 2 * rng.normal(size=(6, 2)).astype(np.float32))
    x = np.asarray(jax.vmap(tree.sample)(jax.random.split(jax.random.key(1), 500)))
    back, bits = coded(Reshaped(tree, (2, 3)), x.reshape(-1, 2, 3), 500, shared=True)
    np.testing.assert_array_equal(back, x.reshape(-1, 2, 3))
    assert bits == pytest.approx(-float(jax.vmap(tree.log_prob)(x).sum()) / math.log(2), rel=0.01, abs=96)


def test_counts_up_to_the_largest_of_the_data():
    distribution = Poisson(arrays(6, (8, 10))[0] + 1)
    x = np.asarray(jax.vmap(lambda d, k: d.sample(k))(distribution, jax.random.split(jax.random.key(0), 8)))[:6]
    back, bits = coded(distribution, x, 6, most=int(x.max()))
    np.testing.assert_array_equal(back, x)
    assert (
        bits
        <= 1.01
        * -float(jax.vmap(lambda d, x: d.log_prob(x))(distribution, np.pad(x, ((0, 2), (0, 0))))[:6].sum())
        / math.log(2)
        + 96
    )
    with pytest.raises(ValueError, match="bytes need discrete values, and these are counts"):
        coded(distribution, x, 6)


def test_columns_of_several_kinds():
    bits, logits = arrays(8, (5, 2), (5, 1, 4))
    kinds = Columns(("binary", "categorical:4", "binary"))
    rows = Rows((Bernoulli(bits), Categorical(logits)), ((0, 2), (1,)), kinds)
    x = np.array([[0, 3, 1], [1, 0, 1], [1, 2, 0]])
    np.testing.assert_array_equal(coded(rows, x, 3)[0], x)
    with pytest.raises(ValueError, match="missing values"):
        coded(Observed(Bernoulli(bits)), np.array([[0, np.nan]] * 3), 3)


def test_values_without_masses_are_refused():
    loc, log_scale = arrays(9, (4, 2), (4, 2))
    with pytest.raises(ValueError, match="bytes need discrete values, and these are real"):
        coded(Normal(loc, log_scale), np.zeros((2, 2)), 2)
