"""The two gaps of the ELBO and the report on collapse, where they are known."""

import functools

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


def linear(dim, scale):
    """q(z|x) = N(√(1 - scale²) e, scale² I), x = e: where e ~ N(0, I), q(z) is the prior."""
    return np.sqrt(1.0 - scale**2), np.log(scale) * np.ones(dim)


@functools.cache  # one model a size: what is compiled for it serves all tests
def given_codes(size):
    posterior = lambda params, x, context=None: Normal(x[:size], x[size:])  # noqa: E731
    latent = Latent(lambda params, context=None: Normal.standard((size,)), posterior, None)
    return Model(None, None, None, latent=latent)


def of_codes(loc, log_scale, seed=0):
    """The report on codes N(loc_n, diag(exp(log_scale)²))."""
    x = np.concatenate([loc, np.broadcast_to(log_scale, loc.shape)], axis=1)
    data = {"x": jnp.asarray(x, jnp.float32)}
    return gaps.collapse(given_codes(loc.shape[1]), {"none": jnp.zeros(1)}, jax.random.key(seed), data)


@pytest.mark.parametrize("size", [300, pytest.param(2000, marks=pytest.mark.every)])
@pytest.mark.parametrize("scale", [0.6, 0.1])
@pytest.mark.parametrize("dim", [2, 20])
def test_codes_whose_law_is_the_prior_fill_it_whatever_their_rate(dim, scale, size):
    """Rates of 1 to 46 nats, of which N examples can show log N."""
    slope, log_scale = linear(dim, scale)
    report = of_codes(slope * np.random.default_rng(dim + size).normal(size=(size, dim)), log_scale)
    assert report.least_aggregate_kl < 0.02
    assert "of all data fill the prior" in report.verdict and "not fill" not in report.verdict
    assert f"at most {max(0, report.aggregate_kl):.2f} of" in report.verdict
    assert ("as far as" in report.verdict) == (report.aggregate_kl > gaps.UNFILLED)
    if report.rate_per_dimension.sum() > np.log(size):
        assert "nats about x at least" in report.verdict


def misfits(dim, size, scale):
    """{name: (loc, log_scale, KL(q(z) || N(0, I)) where it is known, else None)}."""
    slope, log_scale = linear(dim, scale)
    rng = np.random.default_rng(1)
    e = slope * rng.normal(size=(size, dim))
    narrow = -np.log(0.3) + 0.5 * (0.3**2 - 1)
    two = np.where(np.arange(dim) == 0, slope * rng.choice([-1, 1], size=(size, 1)), e)
    return {
        "shifted": (e + 2.0 * (np.arange(dim) == 0), log_scale, 2.0),
        "narrow": (0.3 * e, log_scale + np.log(0.3), dim * narrow),
        "two clusters": (two, log_scale, None),
        "hole": (slope * np.sqrt(dim) * e / np.linalg.norm(e, axis=1, keepdims=True), log_scale, None),
    }


@pytest.mark.parametrize("name", misfits(2, 5, 0.1))
@pytest.mark.parametrize("dim", [2, 20])
def test_codes_with_another_law_do_not_fill_the_prior(dim, name):
    loc, log_scale, divergence = misfits(dim, 300, 0.1)[name]
    report = of_codes(loc, log_scale)
    assert "do not fill the prior" in report.verdict
    assert f"between {report.least_aggregate_kl:.2f} and {report.aggregate_kl:.2f} of" in report.verdict
    if divergence is not None:
        assert 0.8 * divergence < report.least_aggregate_kl < divergence + 0.1
        assert report.aggregate_kl > divergence - 0.2


def test_the_lower_bound_is_seldom_above_the_truth():
    slope, log_scale = linear(5, 0.3)
    draws = np.random.default_rng(2).normal(size=(20, 200, 5))
    least = [of_codes(slope * e, log_scale, seed).least_aggregate_kl for seed, e in enumerate(draws)]
    assert np.mean(np.asarray(least) > 0.05) < 0.1


def test_active_and_silent_dimensions_are_counted_by_one_rule():
    """A dimension whose mean does not vary may have a rate, and one of little rate may vary."""
    rates = np.array([3.0, 0.001, 0.5])
    for active in (1, 2, 3):
        verdict = gaps.diagnose(rates, 2.0, active, num_examples=1000).verdict
        assert f"{active} of 3 latent dimensions are active" in verdict
        assert (f"{3 - active} say nothing" in verdict) == (active < 3)
        assert verdict.startswith("partly collapsed" if active < 3 else "not collapsed")


def test_one_example_has_no_verdict():
    report = of_codes(np.ones((1, 2)), np.zeros(2))
    assert report.verdict.startswith("unknown: 1 example cannot show")


@pytest.mark.parametrize(
    ("least", "words"), [(None, "100 examples cannot tell"), (0.0, "as far as 100 examples"), (1.0, "do not fill")]
)
def test_a_rate_beyond_log_n_is_only_a_bound(least, words):
    verdict = gaps.diagnose(np.full(20, 2.0), 4.6, 20, num_examples=100, least_aggregate_kl=least).verdict
    assert words in verdict and "35.40 of 40.00 nats of rate" in verdict
    assert ("between 1.00 and" if least else "at most 35.40") in verdict
