"""Pixels whose channels depend on each other, against the enumeration of all colours of a pixel."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.conditionals import chains, heads
from vae_jax.conditionals.conditional import abstract, zeros
from vae_jax.distributions import LinearLogisticMixture, OrderedCategorical
from vae_jax.spec import BadOption

V = 4
HEADS = {
    "linear": {"name": "discretized_logistic_mixture", "num_components": 3, "num_levels": V, "channels": "linear"},
    "ordered": {"name": "categorical", "num_levels": V, "channels": "ordered", "features": 6},
}


def head_of(kind, event_shape):
    return chains.per_pixel(HEADS[kind], event_shape, where="likelihood")


def drawn(kind, event_shape, seed=0):
    """A distribution over images of `event_shape`, and arguments of which none is zero."""
    head, rng = head_of(kind, event_shape), np.random.default_rng(seed)
    arguments = jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=1.2, size=a.shape), jnp.float32), zeros(head))
    return head, arguments


def colours(num_channels):
    return jnp.asarray(list(itertools.product(range(V), repeat=num_channels)), jnp.float32)


@functools.cache
def table(kind, num_channels):
    """Probabilities of all colours of one pixel, [V^C]."""
    head, arguments = drawn(kind, (1, 1, num_channels))
    x = colours(num_channels).reshape(-1, 1, 1, num_channels)
    log_p = jax.jit(lambda *a: jax.vmap(head.distribution(*a).log_prob)(x))(*arguments)
    return np.exp(np.asarray(log_p, np.float64))


@pytest.mark.parametrize("num_channels", [2, 3, 5])
@pytest.mark.parametrize("kind", HEADS)
def test_the_masses_of_all_colours_sum_to_one(kind, num_channels):
    p = table(kind, num_channels)
    np.testing.assert_allclose(p.sum(), 1.0, rtol=1e-5)
    p = p.reshape((V,) * num_channels)
    first, last = p.sum(axis=tuple(range(1, num_channels))), p.sum(axis=tuple(range(num_channels - 1)))
    ends = p.sum(axis=tuple(range(1, num_channels - 1)))
    assert np.abs(ends - np.outer(first, last)).max() > 1e-3  # the channels depend on each other


@pytest.mark.parametrize("kind", HEADS)
def test_draws_have_these_frequencies(kind, assert_mean):
    head, arguments = drawn(kind, (1, 1, 3))
    x = jax.jit(jax.vmap(head.distribution(*arguments).sample))(jax.random.split(jax.random.key(0), 20_000))
    code = np.asarray(x, int).reshape(-1, 3) @ V ** np.arange(3)[::-1]
    common = np.flatnonzero(table(kind, 3) > 4e-3)
    assert len(common) > 5
    assert_mean((code[:, None] == common[None]).astype(float), table(kind, 3)[common])


def test_the_means_of_green_and_blue_are_those_of_the_paper():
    """arXiv:1701.05517 eq. (3): μ_g + α x_r and μ_b + β x_r + γ x_g, with one component for the whole pixel."""
    rng = np.random.default_rng(0)
    logits, locs, log_scales, slopes = (rng.normal(size=shape) for shape in ((2,), (3, 2), (3, 2), (3, 2)))
    x = np.array([17.0, 0.0, 255.0])
    red, green, _ = x / 127.5 - 1
    alpha, beta, gamma = slopes
    means = [locs[0], locs[1] + alpha * red, locs[2] + beta * red + gamma * green]
    edges = np.where(x == 0, -np.inf, (x - 0.5) / 127.5 - 1), np.where(x == 255, np.inf, (x + 0.5) / 127.5 - 1)
    low, high = (scipy.stats.logistic.cdf((edge[:, None] - means) * np.exp(-log_scales)) for edge in edges)
    expected = np.log(np.exp(logits) / np.exp(logits).sum() @ np.prod(high - low, axis=0))
    pixel = LinearLogisticMixture(*(jnp.asarray(a, jnp.float32) for a in (logits, locs, log_scales, slopes)))
    given = jax.jit(pixel.log_prob)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(given, expected, rtol=1e-5)


@pytest.mark.parametrize("kind", HEADS)
def test_pixels_do_not_see_each_other(kind):
    head, arguments = drawn(kind, (2, 3, 3))
    x = jnp.asarray(np.random.default_rng(1).integers(V, size=(2, 3, 3)), jnp.float32)
    whole = head.distribution(*arguments)
    one = jax.jit(lambda i, j: _pixel(kind, whole, i, j).log_prob(x[i, j]))
    each = [one(i, j) for i in range(2) for j in range(3)]
    np.testing.assert_allclose(jax.jit(whole.log_prob)(x), np.sum(each), rtol=1e-5)


def _pixel(kind, whole, i, j):
    return whole.over_places(lambda a: a[i, j]) if kind == "ordered" else jax.tree.map(lambda a: a[i, j], whole)


@pytest.mark.parametrize("kind", HEADS)
def test_values_and_gradients_are_finite_at_extremes(kind):
    head, arguments = drawn(kind, (2, 2, 3))
    rng, weights = np.random.default_rng(3), arguments[len(head.shapes) :]
    far = [jnp.asarray(rng.choice([-1e4, -100, 0, 100, 1e4], size=(40, *s)), jnp.float32) for s in head.shapes]

    @jax.jit
    @jax.vmap
    def value_and_gradient(raw):
        drawn = head.distribution(*raw, *weights).sample(jax.random.key(0))
        x = jnp.stack([jnp.zeros((2, 2, 3)), jnp.full((2, 2, 3), V - 1.0), drawn.astype(jnp.float32)])
        of = lambda raw, x: head.distribution(*raw, *weights).log_prob(x)  # noqa: E731
        return jax.vmap(jax.value_and_grad(of), in_axes=(None, 0))(raw, x)

    for leaf in jax.tree.leaves(value_and_gradient(far)):
        assert np.isfinite(leaf).all()


@pytest.mark.parametrize("kind", HEADS)
def test_means_are_levels_of_the_right_shape(kind, assert_mean):
    head, arguments = drawn(kind, (1, 2, 3))
    density = head.distribution(*arguments)
    mean = np.asarray(jax.jit(density.mean)())
    assert mean.shape == (1, 2, 3) and mean.min() >= 0 and mean.max() <= V - 1
    if kind == "ordered":  # the first channel's is exact
        x = jax.jit(jax.vmap(density.sample))(jax.random.split(jax.random.key(0), 4000))
        assert_mean(np.asarray(x, float)[..., 0], mean[..., 0])


def test_one_channel_and_independent_channels_are_as_ever():
    for name, word, plain in (
        ("categorical", "ordered", "Categorical"),
        ("discretized_logistic_mixture", "linear", "DiscretizedLogisticMixture"),
    ):
        head = getattr(heads, name)
        default, one = head((2, 2, 3)), head((2, 2, 1), channels=word)
        assert default.init is None and one.init is None and one.shapes == head((2, 2, 1)).shapes
        assert {type(abstract(h)).__name__ for h in (default, one)} == {plain}
        with pytest.raises(BadOption, match=rf"channels: '{word}' needs images \[H, W, C\]"):
            head((6,), channels=word)
        with pytest.raises(BadOption, match="channels: unknown value 'all'"):
            head((2, 2, 3), channels="all")
    assert isinstance(abstract(head_of("ordered", (2, 2, 3))), OrderedCategorical)
