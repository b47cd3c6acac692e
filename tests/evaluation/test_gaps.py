"""The two gaps of the ELBO and the report on collapse, where they are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.core import Latent, Model
from vae_jax.distributions import Normal
from vae_jax.evaluation import annealed, gaps

STEPS = 600


def test_the_gaps_are_those_of_the_closed_forms(linear_gaussian, assert_mean):
    model, params = Model(None, None, None, latent=linear_gaussian.mean_field), linear_gaussian.wrong
    data = {"x": linear_gaussian.data(60)}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, STEPS))
    exact = linear_gaussian.log_prob(data["x"])
    given = gaps.inference_gaps(
        model, params, jax.random.key(0), data, exact, optimizer=optimizer, num_steps=STEPS, num_samples=8
    )
    precision = np.linalg.inv(linear_gaussian.posterior_covariance)
    approximation = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    total = linear_gaussian.kl_to_posterior(params, mean_field=True)
    assert_mean(given["approximation"], approximation)
    assert_mean(given["amortisation"], total - approximation)
    np.testing.assert_allclose(exact - given["elbo"], given["approximation"] + given["amortisation"])


def test_annealed_log_likelihood_of_a_data_set(linear_gaussian):
    pytest.importorskip("blackjax", reason="pip install 'vae_jax[inference]'")
    model = Model(None, None, None, latent=linear_gaussian.latent)
    data = {"x": linear_gaussian.data(6)}
    given = annealed.log_likelihood(
        model,
        linear_gaussian.wrong,
        jax.random.key(0),
        data,
        num_temperatures=100,
        num_chains=32,
        num_leapfrog=4,
        step_size=0.3,
    )
    error = np.sqrt(1 / given["ess"] - 1 / 32)
    assert np.all(error < 0.2)
    assert np.all(np.abs(given["log_prob"] - linear_gaussian.log_prob(data["x"])) < 5 * error)
    np.testing.assert_allclose(given["acceptance"], 0.65, atol=0.15)


def test_simulated_images_lie_between_the_bounds(linear_gaussian):
    pytest.importorskip("blackjax", reason="pip install 'vae_jax[inference]'")
    model = Model(None, None, None, latent=linear_gaussian.latent)
    options = {"num_temperatures": 20, "num_chains": 4, "num_leapfrog": 4, "step_size": 0.3}
    keys = jax.random.split(jax.random.key(0), 200)
    given = annealed.simulated(model, linear_gaussian.exact, keys, **options)
    exact = linear_gaussian.log_prob(given["x"])
    for off in (exact - given["lower"], given["upper"] - exact):
        assert -5 * off.std() / np.sqrt(len(off)) < off.mean() < 0.3


def channel(slope, scale, dim=1):
    """q(z|x) = N(slope x, scale²) in the first dimension and the prior in the others."""

    def posterior(params, x, context=None):
        loc = jnp.zeros(dim).at[0].set(slope * x[0])
        return Normal(loc, jnp.zeros(dim).at[0].set(jnp.log(scale)))

    latent = Latent(lambda params, context=None: Normal.standard((dim,)), posterior, None)
    return Model(None, None, None, latent=latent)


DATA = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(2000, 1)), jnp.float32)}


def test_codes_that_fill_the_prior_are_not_collapsed():
    """x ~ N(0, 1), slope² + scale² = 1: q(z) is the prior, and the whole rate, -log scale, is information."""
    report = gaps.collapse(channel(0.8, 0.6), {"none": jnp.zeros(1)}, jax.random.key(0), DATA)
    assert (report.active_units, report.num_units) == (1, 1)
    np.testing.assert_allclose(report.mutual_information, -np.log(0.6), atol=0.08)
    np.testing.assert_allclose(report.aggregate_kl, 0.0, atol=0.08)
    assert report.verdict.startswith("not collapsed: 1 of 1 latent dimensions are active")
    assert "of all data fill the prior" in report.verdict


def test_a_silent_dimension_and_a_prior_that_is_not_filled_are_named():
    report = gaps.collapse(channel(0.2, 0.05, dim=3), {"none": jnp.zeros(1)}, jax.random.key(0), DATA)
    assert report.verdict.startswith("partly collapsed: 1 of 3") and "2 say nothing" in report.verdict
    assert "do not fill the prior" in report.verdict
    aggregate = -0.5 * np.log(0.0425) + 0.5 * (0.0425 - 1)  # KL(N(0, 0.2² + 0.05²) || N(0, 1))
    np.testing.assert_allclose(report.aggregate_kl, aggregate, atol=0.1)
    np.testing.assert_allclose(report.rate_per_dimension.sum(), report.mutual_information + report.aggregate_kl)


def test_a_code_that_says_nothing_is_collapsed():
    report = gaps.collapse(channel(0.0, 1.0, dim=2), {"none": jnp.zeros(1)}, jax.random.key(0), DATA)
    assert report.active_units == 0 and report.verdict.startswith("collapsed: 0 of 2")
