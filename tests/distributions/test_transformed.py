"""Flows: densities that integrate to one, and draws that come from them."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.conditionals import heads
from vae_jax.conditionals.conditional import zeros

FLOWS = {
    "planar_flow": {"num_flows": 3},
    "coupling_flow": {"num_flows": 4, "hidden": 3},
    "sylvester_flow": {"num_flows": 3, "num_reflections": 2},
    "inverse_autoregressive_flow": {"num_flows": 2, "hidden": (4,), "context_dim": 2, "activation": "tanh"},
}
GRID = np.linspace(-12.0, 12.0, 1201)
SCALES = {"inverse_autoregressive_flow": 0.6}  # of the random outputs, 1.2 of the others: enough to bend


def head_and_outputs(name):
    """A head and random arrays for it, its own weights among them."""
    head, rng = getattr(heads, name)((2,), **FLOWS[name]), np.random.default_rng(1)
    scale = SCALES.get(name, 1.2)
    return head, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=scale, size=a.shape), jnp.float32), zeros(head))


@functools.cache
def flow(name):
    """A flow over the plane from random outputs of an encoder; none of its scales is extreme."""
    head, raws = head_and_outputs(name)
    return head.distribution(*raws)


@functools.cache
def density(name):
    """p on GRID x GRID."""
    points = jnp.asarray(np.stack(np.meshgrid(GRID, GRID, indexing="ij"), -1).reshape(-1, 2), jnp.float32)
    log_p = jax.jit(jax.vmap(flow(name).log_prob))(points)
    return np.exp(np.asarray(log_p, np.float64)).reshape(len(GRID), len(GRID))


@functools.cache
def draws(name, size=4000):
    return jax.jit(jax.vmap(flow(name).sample_and_log_prob))(jax.random.split(jax.random.key(0), size))


@pytest.mark.parametrize("name", FLOWS)
def test_the_density_integrates_to_one(name):
    cell = (GRID[1] - GRID[0]) ** 2
    np.testing.assert_allclose(density(name).sum() * cell, 1.0, atol=1e-4)


@pytest.mark.parametrize("name", FLOWS)
def test_it_is_no_normal(name):
    """The flow bends: else what is tested here would be tested for a normal alone."""
    cell, p = (GRID[1] - GRID[0]) ** 2, density(name)
    mean = [(p.sum(axis=1 - i) * GRID).sum() * cell for i in range(2)]
    entropy = -(p * np.log(np.maximum(p, 1e-300))).sum() * cell
    first, second = (GRID - mean[0])[:, None], (GRID - mean[1])[None]
    covariance = np.array([[(p * a * b).sum() * cell for b in (first, second)] for a in (first, second)])
    assert 0.5 * np.linalg.slogdet(2 * np.pi * np.e * covariance)[1] - entropy > 0.02  # a normal has the most entropy


@pytest.mark.parametrize("name", FLOWS)
def test_a_draw_knows_its_density(name):
    y, log_p = draws(name)
    np.testing.assert_allclose(log_p, jax.jit(jax.vmap(flow(name).log_prob))(y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", FLOWS)
def test_draws_have_the_moments_of_the_density(name, assert_mean):
    y, p = np.asarray(draws(name)[0], np.float64), density(name)
    cell = (GRID[1] - GRID[0]) ** 2
    moments = [((p * f).sum()) * cell for f in (GRID[:, None], GRID[None], GRID[:, None] ** 2, GRID[None] ** 2)]
    assert_mean(np.concatenate([y, y**2], axis=1), np.asarray(moments))


@pytest.mark.parametrize("name", FLOWS)
def test_the_mean_is_within_its_stated_error(name):
    y = np.asarray(draws(name)[0])
    assert np.all(np.abs(flow(name).mean() - y.mean(axis=0)) < 5 * y.std(axis=0) * np.hypot(128**-0.5, 4000**-0.5))


@pytest.mark.parametrize("name", FLOWS)
def test_the_gradient_passes_through_the_draw(name):
    """d/dθ E[y] by the draws, against the difference of two densities' draws from the same noise."""
    head, raws = head_and_outputs(name)
    raws, tree = jax.tree.flatten(raws)
    total = jax.jit(lambda raws: jnp.sum(head.distribution(*tree.unflatten(raws)).sample(jax.random.key(3))))
    gradient = jax.jit(jax.grad(total))(raws)
    rng = np.random.default_rng(2)
    for i, raw in enumerate(raws):
        direction = jnp.asarray(rng.normal(size=raw.shape), jnp.float32)
        moved = [total([r + s * 1e-2 * direction if j == i else r for j, r in enumerate(raws)]) for s in (1, -1)]
        np.testing.assert_allclose((moved[0] - moved[1]) / 2e-2, jnp.sum(gradient[i] * direction), rtol=2e-2, atol=5e-3)


@pytest.mark.parametrize("name", ["coupling_flow", "von_mises_fisher"])
def test_one_dimension_is_refused(name):
    with pytest.raises(ValueError, match=f"^name: '{name}' needs at least 2 dimensions, got 1"):
        getattr(heads, name)((1,))


@pytest.mark.parametrize(
    "name, option",
    [
        ("planar_flow", "num_flows"),
        ("coupling_flow", "hidden"),
        ("sylvester_flow", "num_flows"),
        ("normal_mixture", "num_components"),
        ("low_rank_normal", "rank"),
    ],
)
def test_none_of_something_is_refused(name, option):
    with pytest.raises(ValueError, match=f"^{option} must be at least 1, got 0"):
        getattr(heads, name)((2,), **{option: 0})
