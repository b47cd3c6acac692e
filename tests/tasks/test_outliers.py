"""Scores of outliers where log p(x), the KLs and the lengths are known."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.core import Model
from vae_jax.evaluation import probes
from vae_jax.tasks import outliers

STEPS = 400


def as_model(latent, log_prob=None):
    return Model(None, None, None, latent=latent, log_prob=log_prob)


@pytest.fixture(scope="module")
def data(linear_gaussian):
    return {"x": linear_gaussian.data(60)}


def test_surprise_is_exact_where_the_posterior_is(linear_gaussian, data):
    exact = -linear_gaussian.log_prob(data["x"])
    model = as_model(linear_gaussian.latent)
    key = jax.random.key(0)
    given = outliers.of_data(outliers.surprise, model, linear_gaussian.exact, key, data, num_samples=3)
    np.testing.assert_allclose(given, exact, rtol=1e-4)
    tractable = as_model(None, lambda params, x, context=None: params - jnp.sum(x))
    given = outliers.of_data(outliers.surprise, tractable, jnp.float32(2.0), jax.random.key(0), data, num_samples=1)
    np.testing.assert_allclose(given, np.sum(data["x"], axis=1) - 2.0, rtol=1e-5)


def test_the_elbo_loses_the_kl_and_the_regret_is_what_can_be_won_back(linear_gaussian, data, assert_mean):
    model, params = as_model(linear_gaussian.mean_field), linear_gaussian.wrong
    total = linear_gaussian.kl_to_posterior(params, mean_field=True)
    precision = np.linalg.inv(linear_gaussian.posterior_covariance)
    best = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    exact = -linear_gaussian.log_prob(data["x"])
    elbo = outliers.of_data(outliers.negative_elbo, model, params, jax.random.key(1), data, num_samples=200)
    assert_mean(elbo - exact, total)
    regret = outliers.of_data(
        outliers.likelihood_regret,
        model,
        params,
        jax.random.key(2),
        data,
        optimizer=optax.adam(optax.cosine_decay_schedule(0.05, STEPS)),
        num_steps=STEPS,
        num_samples=4,
        bound_samples=300,
    )
    assert_mean(regret, total - best)


def test_distortion_is_that_of_the_mean_code(linear_gaussian, data):
    model = as_model(linear_gaussian.latent)
    given = outliers.of_data(outliers.distortion, model, linear_gaussian.exact, jax.random.key(0), data)
    mean = linear_gaussian.posterior_mean(data["x"]) @ linear_gaussian.weight.T + linear_gaussian.bias
    off = (np.asarray(data["x"]) - mean) / linear_gaussian.scale
    expected = np.sum(0.5 * off**2 + 0.5 * np.log(2 * np.pi) + np.log(linear_gaussian.scale), axis=1)
    np.testing.assert_allclose(given, expected, rtol=1e-4)


def test_far_data_are_found_and_too_likely_data_by_typicality_alone(linear_gaussian, data):
    """At the mode -log p is least: no surprise, yet no draw of p is so likely in many dimensions."""
    model, key = as_model(linear_gaussian.latent), jax.random.key(3)
    score = lambda x: outliers.of_data(  # noqa: E731
        outliers.surprise, model, linear_gaussian.exact, key, {"x": x}, num_samples=1
    )
    inside, far = score(data["x"]), score(data["x"] + 20.0)
    assert probes.outlier_detection(inside, far)["auroc"] == 1.0
    mode = score(jnp.tile(jnp.asarray(linear_gaussian.bias, jnp.float32), (60, 1)))
    assert probes.outlier_detection(inside, mode)["auroc"] == 0.0
    typical = outliers.typicality(inside, inside), outliers.typicality(mode, inside)
    np.testing.assert_allclose(typical[1], inside.mean() - mode, rtol=1e-6)
    assert probes.outlier_detection(*typical)["auroc"] > 0.6


@pytest.mark.parametrize("coder", ["zlib", "lzma", "bz2"])
def test_code_lengths_near_the_entropy(coder):
    """Noise cannot be compressed, a constant is nearly free, a biased coin takes about its entropy."""
    rng = np.random.default_rng(0)
    flat, noise = np.zeros((2, 100, 100)), rng.integers(256, size=(2, 100, 100))
    short = outliers.code_lengths(flat, coder=coder, levels=256)
    long = outliers.code_lengths(noise, coder=coder, levels=256)
    assert np.all(short < 400)  # nats: 72 bytes
    assert np.all(long > 0.9999e4 * np.log(256)) and np.all(long < 1.06e4 * np.log(256))
    bits = outliers.code_lengths(rng.random((2, 80_000)) < 0.5, coder=coder, levels=2)
    assert np.all(bits > 80_000 * np.log(2) * 0.9999) and np.all(bits < 80_000 * np.log(2) * 1.06)
    biased = outliers.code_lengths(rng.random((2, 80_000)) < 0.05, coder=coder, levels=2)
    entropy = -80_000 * (0.05 * np.log(0.05) + 0.95 * np.log(0.95))
    assert np.all(biased > entropy) and np.all(biased < 1.6 * entropy)


def test_a_simple_image_is_no_inlier_for_being_simple():
    """A model that codes each pixel of both sets at the same price of its marginal: constants surprise it less."""
    rng = np.random.default_rng(1)
    inside = rng.choice([100, 101], size=(20, 500))
    outside = np.full((20, 500), 100)
    surprises = [np.where(x == 100, 0.6, 0.8).sum(1) for x in (inside, outside)]
    assert probes.outlier_detection(*surprises)["auroc"] == 0.0
    lengths = [outliers.code_lengths(x, coder="zlib", levels=256) for x in (inside, outside)]
    corrected = [outliers.complexity_corrected(s, length) for s, length in zip(surprises, lengths, strict=True)]
    assert probes.outlier_detection(*corrected)["auroc"] == 1.0


def test_a_bound_of_a_model_whose_codes_have_no_density_is_the_surprise(linear_gaussian, data):
    bound = lambda params, key, x, context=None: jnp.sum(x) + 0.0 * jax.random.normal(key)  # noqa: E731
    model = as_model(linear_gaussian.latent._replace(prior=None))._replace(bound=bound)
    found = outliers.surprise(model, linear_gaussian.exact, jax.random.key(0), data["x"][0], num_samples=3)
    np.testing.assert_allclose(found, -np.sum(data["x"][0]), rtol=1e-6)


def test_what_cannot_be_scored_is_said(linear_gaussian, data):
    without = as_model(linear_gaussian.latent._replace(prior=None))
    given = (without, linear_gaussian.exact, jax.random.key(0), data["x"][0])
    with pytest.raises(ValueError, match=r"`surprise` requires a model with log p\(x\) or .* use `distortion`"):
        outliers.surprise(*given, num_samples=1)
    with pytest.raises(ValueError, match="requires `latent` with a prior"):
        outliers.negative_elbo(*given, num_samples=1)
    with pytest.raises(ValueError, match="has no `latent`"):
        outliers.distortion(as_model(None), None, None, data["x"][0])
    with pytest.raises(ValueError, match="unknown value 'png'"):
        outliers.code_lengths(np.zeros((1, 4)), coder="png", levels=2)
    with pytest.raises(ValueError, match=r"levels 2 and values in \[0, 5\]"):
        outliers.code_lengths(np.array([[0, 5]]), coder="zlib", levels=2)
