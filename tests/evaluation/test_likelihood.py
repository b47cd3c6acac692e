"""Estimates of log p(x) against the exact one of a linear-Gaussian model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.core import Aux, Model, by_loss, per_example, tractable
from vae_jax.distributions import LowRankNormal
from vae_jax.evaluation import likelihood
from vae_jax.objectives import beta_tcvae, elbo
from vae_jax.objectives import objective as objective_of
from vae_jax.training import sharding

SIZE = 12


def as_model(latent):
    def loss(params, key, batch, step):
        value, terms = per_example(functools.partial(elbo, latent))(params, key, batch)
        return -value, Aux(terms)

    return Model(init=None, loss=loss, judge=by_loss(loss), latent=latent)


@pytest.fixture(scope="module")
def model(linear_gaussian):
    return as_model(linear_gaussian.latent)


@pytest.fixture(scope="module")
def data(linear_gaussian):
    return {"x": linear_gaussian.data(SIZE)}


def estimate(model, params, data, num_samples, seed=0):
    return likelihood.log_likelihood(model, params, jax.random.key(seed), data, num_samples=num_samples)


def test_the_exact_posterior_gives_log_p_and_a_full_sample_size(linear_gaussian, model, data):
    given = estimate(model, linear_gaussian.exact, data, 40)
    np.testing.assert_allclose(given["log_prob"], linear_gaussian.log_prob(data["x"]), atol=1e-4)
    np.testing.assert_allclose(given["elbo"], given["log_prob"], atol=1e-4)
    np.testing.assert_allclose(given["ess"], 40, rtol=1e-3)


def test_a_wrong_posterior_gives_log_p_within_its_error(linear_gaussian, model, data):
    """log p̂ - log p has about the deviation sqrt((K / ESS - 1) / K), independent across images."""
    num_samples = 2000
    given = estimate(model, linear_gaussian.wrong, data, num_samples)
    error = np.sqrt((num_samples / given["ess"] - 1.0) / num_samples)
    z = (given["log_prob"] - linear_gaussian.log_prob(data["x"])) / error
    assert np.all(np.abs(z) < 5) and abs(z.mean()) < 5 / np.sqrt(SIZE) and 0.3 < z.std() < 2.0
    assert np.all((given["ess"] > 1) & (given["ess"] < 0.95 * num_samples))
    gap = linear_gaussian.log_prob(data["x"]) - given["elbo"]
    np.testing.assert_allclose(gap, linear_gaussian.kl_to_posterior(linear_gaussian.wrong), rtol=0.3)


def test_weights_summed_in_chunks_are_the_same_sum(linear_gaussian, monkeypatch):
    """Forty chunks of 50 samples are the bound and the sample size of those 2000 weights, taken at once."""
    monkeypatch.setattr(likelihood, "SAMPLES_AT_ONCE", 50)
    latent, params, x = linear_gaussian.latent, linear_gaussian.wrong, linear_gaussian.data(1)[0]
    one = functools.partial(likelihood.importance_weighted, latent, params, num_samples=2000)
    given = jax.jit(lambda key: one(key, x))(jax.random.key(0))

    def chunk(index):
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), index), 50)
        return jax.vmap(lambda key: likelihood.log_weight(latent, params, key, x))(keys)

    log_w = np.asarray(jax.vmap(chunk)(jnp.arange(40)), np.float64).ravel()
    w = np.exp(log_w)
    np.testing.assert_allclose(given["log_prob"], np.log(w.mean()), atol=1e-4)
    np.testing.assert_allclose(given["elbo"], log_w.mean(), atol=1e-4)
    np.testing.assert_allclose(given["ess"], w.sum() ** 2 / (w**2).sum(), rtol=1e-3)


@pytest.mark.parametrize("at_once", [7, 5000])
def test_the_estimate_does_not_hang_on_how_many_samples_are_held(linear_gaussian, data, monkeypatch, at_once):
    monkeypatch.setattr(likelihood, "SAMPLES_AT_ONCE", at_once)
    likelihood._log_likelihood.clear_cache()
    num_samples = 210
    given = estimate(as_model(linear_gaussian.latent), linear_gaussian.wrong, data, num_samples)
    likelihood._log_likelihood.clear_cache()
    error = np.sqrt((num_samples / given["ess"] - 1.0) / num_samples)
    z = (given["log_prob"] - linear_gaussian.log_prob(data["x"])) / error
    assert np.all(np.abs(z) < 5)


def test_the_estimate_of_an_image_does_not_hang_on_its_neighbours(linear_gaussian, model, data, monkeypatch):
    whole = estimate(model, linear_gaussian.wrong, data, 40)
    monkeypatch.setattr(likelihood, "PIECE", 5)
    given = estimate(model, linear_gaussian.wrong, data, 40)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), whole, given)
    first = estimate(model, linear_gaussian.wrong, {"x": data["x"][:5]}, 40)  # alone
    np.testing.assert_allclose(first["log_prob"], whole["log_prob"][:5], rtol=1e-5)


def test_images_have_independent_draws(linear_gaussian, model, data):
    same = {"x": jnp.broadcast_to(data["x"][:1], (SIZE, 3))}
    assert len(np.unique(estimate(model, linear_gaussian.wrong, same, 40)["log_prob"])) == SIZE


def test_terms_are_the_models_own_in_a_batch_of_any_size(linear_gaussian, model, data):
    key = jax.random.key(0)
    terms = likelihood.judged(model, linear_gaussian.wrong, key, data)
    part = likelihood.judged(model, linear_gaussian.wrong, key, {"x": data["x"][:5]})
    assert set(terms) == {"bound", "rate", "distortion"} and terms["bound"].shape == (SIZE,)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a[:5], b, rtol=1e-5), terms, part)
    np.testing.assert_allclose(terms["bound"], -(terms["rate"] + terms["distortion"]), rtol=1e-5)


def test_terms_of_a_loss_that_couples_examples_are_the_elbos(linear_gaussian):
    """Of one example alone: the same wherever it stands, over eight devices, and within a vmap over members."""
    latent, params, key = linear_gaussian.mean_field, linear_gaussian.wrong, jax.random.key(0)
    objective = objective_of.of(beta_tcvae, beta=4.0, num_data=100)
    coupled = objective_of.model(None, lambda dropout_key: latent, objective)
    data = {"x": linear_gaussian.data(SIZE)}
    given = likelihood.judged(coupled, params, key, data)
    assert set(given) == {"bound", "rate", "distortion"}
    close = functools.partial(np.testing.assert_allclose, rtol=1e-5)
    close(given["rate"], likelihood.judged(as_model(latent), params, key, data)["rate"])
    spread = jax.device_put(params, sharding.replicated(sharding.make_mesh(batch_size=8)))
    jax.tree.map(close, likelihood.judged(coupled, spread, key, data), given)
    members = jax.tree.map(lambda a: jnp.stack([a, a]), params)
    keys = jnp.stack([jax.random.key(0), jax.random.key(1)])
    means = jax.jit(jax.vmap(lambda p, k: likelihood.mean_terms(coupled, p, k, data)))(members, keys)
    jax.tree.map(lambda means, terms: close(means[0], terms.mean()), means, given)


def test_elbo_terms_estimate_the_elbo_whatever_was_trained(linear_gaussian, assert_mean):
    """Also where the KL has no closed form."""
    x = jnp.broadcast_to(linear_gaussian.data(1), (2000, 3))
    expected = linear_gaussian.log_prob(x[:1]) - linear_gaussian.kl_to_posterior(linear_gaussian.wrong)

    class Opaque:
        def __init__(self, q):
            self.sample, self.log_prob = q.sample, q.log_prob

    posterior = lambda params, x, context=None: Opaque(linear_gaussian.latent.posterior(params, x))  # noqa: E731
    for latent in (linear_gaussian.latent, linear_gaussian.latent._replace(posterior=posterior)):
        model = Model(init=None, loss=None, judge=None, latent=latent)
        terms = likelihood.elbo_terms(model, linear_gaussian.wrong, jax.random.key(0), {"x": x})
        assert_mean(terms["bound"], expected)


def test_context_travels_to_the_latent(linear_gaussian, data):
    """The context shifts the posterior: where it is zero q is exact."""

    def posterior(params, x, context):
        return linear_gaussian.latent.posterior({**params, "shift": params["shift"] + context}, x)

    model = as_model(linear_gaussian.latent._replace(posterior=posterior))
    context = jnp.zeros((SIZE, 2)).at[3].set(0.5)
    given = estimate(model, linear_gaussian.exact, {**data, "context": context}, 40)
    full = np.arange(SIZE) != 3
    np.testing.assert_allclose(given["ess"][full], 40, rtol=1e-3)
    assert given["ess"][3] < 39


def test_what_cannot_be_estimated_is_refused(linear_gaussian, model, data):
    with pytest.raises(ValueError, match="this one has no `latent`"):
        estimate(model._replace(latent=None), linear_gaussian.exact, data, 10)
    with pytest.raises(ValueError, match="num_samples must be at least 1, got 0"):
        estimate(model, linear_gaussian.exact, data, 0)


def test_all_terms_of_a_density_of_dequantised_values_move_by_the_same_offset():
    """The identities of the terms hold before and after: bound = -(reconstruction + prior + diffusion), and others."""
    terms = {"bound": -11.0, "renyi": -11.0, "miwae": -10.5, "reconstruction": 4.0, "prior": 2.0, "diffusion": 5.0}
    given = likelihood.of_levels(terms, 100.0)
    assert given["bound"] == given["renyi"] == -111.0 and given["miwae"] == -110.5
    assert given["bound"] == -(given["reconstruction"] + given["prior"] + given["diffusion"])


def test_text_has_a_perplexity_by_predicted_token_in_place_of_bits_per_dim():
    """Three sentences of 2, 3 and 5 tokens, every token one of 16 that are alike."""
    given = likelihood.summary_of(-np.log(16.0) * np.array([2, 3, 5]), num_tokens=10)
    np.testing.assert_allclose(given["perplexity"], 16.0, rtol=1e-6)
    np.testing.assert_allclose(given["bits_per_token"], 4.0, rtol=1e-6)
    assert given["num_tokens"] == 10 and "bits_per_dim" not in given


@pytest.mark.parametrize("noise", [1e-2, 1e-4, 1e-6, 1e-8])
def test_what_is_called_exact_is_exact_however_narrow_the_density(noise):
    """A low-rank normal whose noise is far below its signal, against SciPy in float64."""
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(20, 3)).astype(np.float32)
    params = {"loc": np.zeros(20, np.float32), "log_scale": np.full(20, 0.5 * np.log(noise), np.float32)}
    x = (rng.normal(size=(300, 3)) @ factor.T + np.sqrt(noise) * rng.normal(size=(300, 20))).astype(np.float32)
    model = tractable(None, lambda params, context: LowRankNormal(**params, factor=factor))
    covariance = factor.astype(np.float64) @ factor.T + np.diag(np.exp(2.0 * params["log_scale"].astype(np.float64)))
    true = scipy.stats.multivariate_normal(np.zeros(20), covariance).logpdf(x.astype(np.float64))
    np.testing.assert_allclose(likelihood.exact(model, params, {"x": x}), true, atol=1e-3, rtol=1e-7)
