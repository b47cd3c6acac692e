"""Linear latent-variable models against scikit-learn's, and EM's laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA, FactorAnalysis

from vae_jax.models.factor_analysis import factor_analysis
from vae_jax.objectives.bounds import log_weight
from vae_jax.training import em

DIGITS = load_digits().data[:1500]
X = DIGITS[:, DIGITS.std(axis=0) > 1.0] / 16  # of pixels that change: scikit-learn has no least variance
DIM, RANK, BATCHES = X.shape[1], 4, 5
DATA = jnp.asarray(X, jnp.float32)
PASSES = 400  # of EM
ROUNDING = 1e-4  # nats: log p(x) is the sum of a determinant and a square, each of about a hundred


def fitted(x, passes, *, noise, fit, min_variance=1e-6):
    """Model, params after so many passes in batches, and mean log p(x) before every M step [passes]."""
    model = factor_analysis(x.shape[1:], latent_dim=RANK, noise=noise, fit=fit, min_variance=min_variance)
    learner = em.counting(model) if fit == "closed_form" else em.em(model, batches_per_pass=BATCHES)

    @jax.jit
    def run(parts):
        state = learner.init(jax.random.key(0), {"x": parts[0]})
        one = lambda state, x: learner.step(state, {"x": x})  # noqa: E731
        again = lambda state, _: jax.lax.scan(one, state, parts)  # noqa: E731
        state, metrics = jax.lax.scan(again, state, length=passes)
        return learner.params(state), -jnp.mean(metrics["loss"], axis=1)

    return model, *run(x.reshape(BATCHES, -1, *x.shape[1:]))


@functools.cache
def on_digits(noise, fit):
    return fitted(DATA, 1 if fit == "closed_form" else PASSES, noise=noise, fit=fit)


def log_prob(model, params, x):
    return np.asarray(jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, x), np.float64)


def covariance(params):
    factor = np.asarray(params["factor"], np.float64)
    return factor @ factor.T + np.diag(np.exp(2.0 * np.asarray(params["log_scale"], np.float64)))


@pytest.fixture(scope="module")
def pca():
    """Tipping and Bishop's, of the covariance over n where scikit-learn has n - 1."""
    theirs = PCA(RANK, svd_solver="full").fit(X)
    theirs.explained_variance_ *= 1 - 1 / len(X)
    theirs.noise_variance_ *= 1 - 1 / len(X)
    return theirs


def test_the_closed_form_is_that_of_scikit_learn(pca):
    model, params, _ = on_digits("isotropic", "closed_form")
    np.testing.assert_allclose(params["loc"], pca.mean_, rtol=1e-5)
    np.testing.assert_allclose(np.exp(2.0 * params["log_scale"]), pca.noise_variance_, rtol=1e-4)
    lengths = np.sum(np.square(params["factor"]), axis=0) + pca.noise_variance_
    np.testing.assert_allclose(lengths, pca.explained_variance_, rtol=1e-4)
    np.testing.assert_allclose(covariance(params), pca.get_covariance(), atol=1e-5)
    np.testing.assert_allclose(log_prob(model, params, DATA), pca.score_samples(X), rtol=1e-4, atol=1e-4)


def test_em_reaches_the_closed_form(pca):
    model, params, _ = on_digits("isotropic", "em")
    np.testing.assert_allclose(covariance(params), pca.get_covariance(), atol=1e-5)
    np.testing.assert_allclose(log_prob(model, params, DATA).mean(), pca.score(X), rtol=1e-4)


def test_em_reaches_the_factor_analysis_of_scikit_learn():
    model, params, _ = on_digits("diagonal", "em")
    theirs = FactorAnalysis(RANK, svd_method="lapack", tol=1e-6, max_iter=5000).fit(X)
    np.testing.assert_allclose(log_prob(model, params, DATA).mean(), theirs.score(X), rtol=1e-4)
    np.testing.assert_allclose(covariance(params), theirs.get_covariance(), atol=1e-4)


@pytest.mark.parametrize("noise", ["isotropic", "diagonal"])
def test_em_never_lowers_the_likelihood(noise):
    means = on_digits(noise, "em")[2]
    assert means[-1] > means[0] + 1.0
    assert np.all(np.diff(means) > -ROUNDING)


@pytest.mark.parametrize(("noise", "fit"), [("isotropic", "closed_form"), ("diagonal", "em")])
def test_the_posterior_is_exact(noise, fit):
    model, params, _ = on_digits(noise, fit)
    ours = jax.jit(jax.vmap(lambda key, x: log_weight(model.latent, params, key, x)))
    log_w = ours(jax.random.split(jax.random.key(1), 300), DATA[:300])  # p(x, z) / q(z|x) is p(x) at every z
    np.testing.assert_allclose(log_w, log_prob(model, params, DATA[:300]), rtol=1e-4, atol=1e-3)


def test_draws_have_its_covariance(assert_mean):
    model, params, _ = on_digits("diagonal", "em")
    draw = jax.jit(jax.vmap(model.sample, (None, 0)))
    drawn = np.asarray(draw(params, jax.random.split(jax.random.key(2), 4000)))
    e = drawn - np.asarray(params["loc"])
    assert_mean(e[:, :, None] * e[:, None, :], covariance(params))


@pytest.mark.parametrize(("noise", "fit"), [("isotropic", "closed_form"), ("isotropic", "em"), ("diagonal", "em")])
def test_pixels_that_never_change_keep_the_least_variance(noise, fit):
    images = jnp.asarray(DIGITS.reshape(-1, 8, 8) / 16, jnp.float32)
    model, params, means = fitted(images, 10, noise=noise, fit=fit, min_variance=1e-4)
    drawn = model.sample(params, jax.random.key(0))
    assert drawn.shape == (8, 8) and np.all(np.diff(means) > -ROUNDING)
    assert np.isfinite(log_prob(model, params, images)).all()
    variance = np.exp(2.0 * params["log_scale"]).reshape(8, 8)
    np.testing.assert_allclose(variance.min(), 1e-4 if noise == "diagonal" else variance.max(), rtol=1e-5)
    assert model.latent.likelihood(params, jnp.zeros(RANK)).mean().shape == (8, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise": "full"}, "^noise: unknown value 'full' \\(allowed: diagonal, isotropic"),
        ({"fit": "svd"}, "^fit: unknown value 'svd' \\(allowed: closed_form, em"),
        ({"noise": "diagonal"}, "'closed_form' requires noise 'isotropic', got 'diagonal'; use 'em'"),
        ({"latent_dim": 9}, "latent_dim must be between 1 and 8, got 9"),
        ({"min_variance": 0.0}, "min_variance must be above 0, got 0"),
    ],
)
def test_a_mistake_is_named(change, message):
    options = {"latent_dim": 2, "noise": "isotropic", "fit": "closed_form", "min_variance": 1e-4}
    with pytest.raises(ValueError, match=message):
        factor_analysis((3, 3), **(options | change))


def test_counting_sums_that_ask_for_parameters_is_refused():
    model = factor_analysis((4,), latent_dim=2, noise="diagonal", fit="em", min_variance=1e-3)
    with pytest.raises(ValueError, match="'counting' would make one step of EM of this family; use 'em'"):
        em.counting(model)
