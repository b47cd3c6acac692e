"""Quadrature against the closed forms of a linear-Gaussian model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.core import Latent
from vae_jax.data import synthetic
from vae_jax.distributions import Bernoulli, Normal
from vae_jax.evaluation.likelihood import importance_weighted
from vae_jax.inference import grid as grids

SIZE = 5
GRID = grids.even((2,), low=-6.0, high=6.0, num_points=121)


@pytest.fixture(scope="module")
def x(linear_gaussian):
    return linear_gaussian.data(SIZE)


@pytest.fixture(scope="module")
def exact(linear_gaussian, x):
    solve = lambda x: grids.posterior(linear_gaussian.latent, linear_gaussian.exact, x, grid=GRID)  # noqa: E731
    return jax.jit(jax.vmap(solve))(x)


def test_the_evidence_is_the_exact_one(linear_gaussian, x, exact):
    np.testing.assert_allclose(exact.log_prob, linear_gaussian.log_prob(x), atol=1e-4)
    assert np.all(exact.error < 1e-4)


def test_the_posterior_has_the_exact_moments_and_area_one(linear_gaussian, x, exact):
    np.testing.assert_allclose(exact.mean, linear_gaussian.posterior_mean(x), atol=1e-4)
    covariance = np.broadcast_to(linear_gaussian.posterior_covariance, (SIZE, 2, 2))
    np.testing.assert_allclose(exact.covariance, covariance, atol=1e-4)
    np.testing.assert_allclose(np.exp(exact.log_density + GRID.log_weight[None]).sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.parametrize("mean_field", [False, True], ids=["full", "diagonal"])
def test_the_divergence_of_q_is_the_closed_form(linear_gaussian, x, exact, mean_field):
    latent = linear_gaussian.mean_field if mean_field else linear_gaussian.latent

    @jax.jit
    def divergence(params):
        one = lambda x, e: grids.kl_to_posterior(latent.posterior(params, x), e, grid=GRID)  # noqa: E731
        return jax.vmap(one)(x, exact)

    for params in (linear_gaussian.exact, linear_gaussian.wrong):
        expected = linear_gaussian.kl_to_posterior(params, mean_field)
        np.testing.assert_allclose(divergence(params), np.full(SIZE, expected), atol=1e-4)


def test_the_evidence_agrees_with_importance_sampling(linear_gaussian, x, exact):
    """IW-100000; the error of log mean w is √(1/ESS - 1/K)."""
    num_samples, latent = 100_000, linear_gaussian.latent
    estimate = jax.jit(functools.partial(importance_weighted, latent, num_samples=num_samples))(
        linear_gaussian.wrong, jax.random.key(0), x[0]
    )
    error = np.sqrt(1.0 / estimate["ess"] - 1.0 / num_samples)
    assert 1e-4 < error < 0.01
    assert abs(estimate["log_prob"] - exact.log_prob[0]) < 5 * error


WORLD = Latent(
    prior=lambda params, context=None: Normal.standard(()),
    posterior=lambda params, x, context=None: params["q"],
    likelihood=lambda params, z, context=None: Normal(
        synthetic.four_by_four_mean(z), jnp.full((4, 4, 1), np.log(synthetic.NOISE_SCALE), jnp.float32)
    ),
)


@functools.partial(jax.jit, static_argnums=1)
def evidence(x, num_points):
    line = grids.even((), low=-8.0, high=8.0, num_points=num_points)
    return jax.vmap(lambda x: grids.posterior(WORLD, {}, x, grid=line))(x)


def test_a_known_world_has_a_known_evidence():
    """The 4x4 images by a grid, by a four times finer one, and, for the mean over data, by the process itself:
    E log p(x) ≤ E log p(x|z) with the z that made x.
    """
    z, x, _ = synthetic.four_by_four("test")
    fine = evidence(x, 3201)
    np.testing.assert_allclose(evidence(x, 801).log_prob, fine.log_prob, atol=1e-4)
    given_z = jax.jit(jax.vmap(lambda z, x: WORLD.likelihood({}, z).log_prob(x)))(z, x)
    assert 0.5 < np.mean(given_z - fine.log_prob) < 3.0  # the information in z, nats
    standard = (z - fine.mean[:, 0]) / np.sqrt(fine.covariance[:, 0, 0])
    np.testing.assert_allclose(np.mean(np.square(standard)), 1.0, atol=0.3)  # calibrated: z is a draw of p(z|x)


def test_the_error_covers_the_truth_and_grows_with_the_spacing():
    """Posteriors of deviation 0.1: at h = 0.1 the estimate covers the error of every image, at 0.4 of most."""
    _, x, _ = synthetic.four_by_four("test")
    fine = evidence(x[:100], 3201).log_prob
    means = []
    for num_points, share in ((41, 0.7), (161, 1.0)):
        coarse = evidence(x[:100], num_points)
        assert np.mean(np.abs(coarse.log_prob - fine) <= coarse.error + 1e-4) >= share
        means.append(np.mean(coarse.error))
    assert means[0] > 0.1 > 5 * means[1]


def test_mass_beyond_the_edge_is_reported():
    _, x, _ = synthetic.four_by_four("test")
    narrow = grids.even((), low=-0.5, high=0.5, num_points=201)
    errors = jax.vmap(lambda x: grids.posterior(WORLD, {}, x, grid=narrow).error)(x[:50])
    assert np.mean(errors > 1e-3) > 0.3


def test_the_mass_of_q_tells_whether_the_grid_resolves_it():
    q = Normal(jnp.array([0.3, 0.1]), jnp.log(jnp.array([0.5, 0.2])))
    np.testing.assert_allclose(grids.grid_mass(q, grid=GRID), 1.0, atol=1e-5)
    assert abs(grids.grid_mass(Normal(q.loc, q.log_scale - 4.0), grid=GRID) - 1.0) > 0.1


@pytest.mark.parametrize(
    "shape, options, words",
    [
        ((3,), {}, r"shape \(\), \(1,\) or \(2,\), got \(3,\)"),
        ((1,), {"num_points": 100}, "must be odd.*got 100"),
        ((1,), {"low": 2.0}, "low must be below high, got 2.0 and 1.0"),
    ],
)
def test_grids_that_are_none(shape, options, words):
    with pytest.raises(ValueError, match=words):
        grids.even(shape, **{"low": -1.0, "high": 1.0, "num_points": 11, **options})


def test_all_vectors_of_bits_are_enumerated():
    """A prior of independent bits seen through one noisy pixel a bit: the posterior factorises, and so does p(x)."""
    logits, slope = jnp.array([0.3, -1.0, 2.0]), 1.5
    latent = Latent(
        prior=lambda params, context=None: Bernoulli(logits),
        posterior=None,
        likelihood=lambda params, z, context=None: Bernoulli(slope * (2 * z - 1)),
    )
    grid = grids.bits(3)
    assert sorted(map(tuple, np.asarray(grid.points))) == sorted(np.ndindex(2, 2, 2))
    x = jnp.array([1.0, 0.0, 1.0])
    log_odds = logits + slope * (2 * x - 1)
    exact = jax.jit(lambda x: grids.posterior(latent, {}, x, grid=grid))(x)
    p, seen = jax.nn.sigmoid(logits), jax.nn.sigmoid(slope * (2 * x - 1))
    np.testing.assert_allclose(exact.log_prob, jnp.sum(jnp.log(p * seen + (1 - p) * (1 - seen))), rtol=1e-5)
    np.testing.assert_allclose(exact.mean, jax.nn.sigmoid(log_odds), rtol=1e-5)
    np.testing.assert_allclose(grids.kl_to_posterior(Bernoulli(log_odds), exact, grid=grid), 0.0, atol=1e-5)
    assert grids.grid_mass(Bernoulli(logits), grid=grid) == pytest.approx(1.0, abs=1e-5)
    assert exact.error < 1e-5
    with pytest.raises(ValueError, match="num_bits must be between 1 and 20, got 21"):
        grids.bits(21)
