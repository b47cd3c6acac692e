"""Imputation on a factor analysis, where the conditional of the missing values is a known Gaussian."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.core import Latent
from vae_jax.distributions import Categorical, MultivariateNormal, Normal, Observed, Rows
from vae_jax.support import Columns
from vae_jax.tasks import impute

RNG = np.random.default_rng(0)
WEIGHT, BIAS, SCALE = RNG.normal(size=(5, 2)), RNG.normal(size=5), 0.5
W, B = jnp.asarray(WEIGHT, jnp.float32), jnp.asarray(BIAS, jnp.float32)
X = (BIAS + WEIGHT @ RNG.normal(size=2) + SCALE * RNG.normal(size=5)).astype(np.float32)
MISSING = np.array([True, False, False, True, False])
SEEN = jnp.asarray(np.where(MISSING, np.nan, X))


def posterior(params, x, context=None):
    """q(z | x_obs): the exact one, moved by `shift` and stretched."""
    seen = ~jnp.isnan(x)
    rows = jnp.where(seen[:, None], W, 0.0)
    covariance = jnp.linalg.inv(jnp.eye(2) + rows.T @ rows / SCALE**2)
    mean = covariance @ rows.T @ jnp.where(seen, x - B, 0.0) / SCALE**2
    return MultivariateNormal(mean + params["shift"], params["stretch"] * jnp.linalg.cholesky(covariance))


def likelihood(params, z, context=None):
    return Observed(Normal(W @ z + B, jnp.full(5, np.log(SCALE), jnp.float32)))


LATENT = Latent(lambda params, context=None: Normal.standard((2,)), posterior, likelihood)
EXACT = {"shift": jnp.zeros(2), "stretch": jnp.ones(())}
WRONG = {"shift": jnp.array([0.3, -0.2]), "stretch": jnp.array(1.4)}
OPTIONS = {"num_samples": 8000}
RUN = jax.jit(lambda params, key, x: impute.impute(LATENT, params, key, x, num_draws=3000, **OPTIONS))
SCORE = jax.jit(lambda params, key, x, truth: impute.score(LATENT, params, key, x, truth, **OPTIONS))


def conditional():
    """The mean and the covariance of x_mis | x_obs."""
    covariance, o = WEIGHT @ WEIGHT.T + SCALE**2 * np.eye(5), ~MISSING
    gain = covariance[np.ix_(MISSING, o)] @ np.linalg.inv(covariance[np.ix_(o, o)])
    mean = BIAS[MISSING] + gain @ (X.astype(np.float64) - BIAS)[o]
    return mean, covariance[np.ix_(MISSING, MISSING)] - gain @ covariance[np.ix_(o, MISSING)]


@pytest.mark.parametrize("params", [EXACT, WRONG], ids=["exact", "wrong"])
def test_imputations_are_those_of_the_exact_conditional(params, assert_mean):
    mean, covariance = conditional()
    found = RUN(params, jax.random.key(0), SEEN)
    np.testing.assert_array_equal(found.mean[~MISSING], X[~MISSING])
    np.testing.assert_array_equal(found.draws[:, ~MISSING], np.broadcast_to(X[~MISSING], (3000, 3)))
    np.testing.assert_allclose(found.mean[MISSING], mean, atol=0.05)
    draws = np.asarray(found.draws)[:, MISSING]
    assert_mean(draws, mean)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.1)
    assert (float(found.ess) > 7900) == (params is EXACT)


@pytest.mark.parametrize("params", [EXACT, WRONG], ids=["exact", "wrong"])
def test_scores_are_those_of_the_exact_conditional(params):
    mean, covariance = conditional()
    found = SCORE(params, jax.random.key(1), SEEN, X)
    assert abs(float(found.joint) - scipy.stats.multivariate_normal(mean, covariance).logpdf(X[MISSING])) < 0.05
    each = scipy.stats.norm(mean, np.sqrt(np.diag(covariance))).logpdf(X[MISSING])
    np.testing.assert_allclose(found.each[MISSING], each, atol=0.05)
    np.testing.assert_array_equal(found.each[~MISSING], 0.0)


def test_the_ends_of_what_can_be_missing():
    found = SCORE(EXACT, jax.random.key(2), jnp.asarray(X), X)
    assert float(found.joint) == 0.0 and not np.any(found.each)  # nothing is missing: nothing is scored
    nothing = jnp.full(5, jnp.nan)
    marginal = scipy.stats.multivariate_normal(BIAS, WEIGHT @ WEIGHT.T + SCALE**2 * np.eye(5))
    assert abs(float(SCORE(EXACT, jax.random.key(3), nothing, X).joint) - marginal.logpdf(X)) < 0.1
    np.testing.assert_allclose(RUN(EXACT, jax.random.key(4), nothing).mean, BIAS, atol=0.1)
    unknown = SCORE(EXACT, jax.random.key(5), SEEN, jnp.where(jnp.arange(5) == 0, jnp.nan, X))
    np.testing.assert_allclose(unknown.joint, unknown.each[3], rtol=1e-5)  # x_0 has no true value


def test_a_category_is_imputed_by_the_most_probable_one():
    support = Columns(("categorical:3", "real"))
    logits = jnp.array([[0.0, 0.5, -9.0], [9.0, 0.0, 2.0]])  # z < 0 or z > 0: E of the codes is 1.2

    def rows(params, z, context=None):
        chosen = logits[(z[0] > 0).astype(jnp.int32)]
        return Observed(Rows((Categorical(chosen[None]), Normal(z, jnp.zeros(1))), ((0,), (1,)), support))

    latent = Latent(lambda params, context=None: Normal.standard((1,)), lambda *_: Normal.standard((1,)), rows)
    x = jnp.full(2, jnp.nan)
    found = jax.jit(lambda key: impute.impute(latent, {}, key, x, num_samples=2000, num_draws=50))(jax.random.key(0))
    assert found.mean[0] == 0.0 and abs(found.mean[1]) < 0.1  # (0.38 + 1.0) / 2 is the largest share
    assert set(np.unique(found.draws[:, 0])) <= {0, 1, 2}


def test_models_that_cannot_impute_say_so():
    complete = LATENT._replace(likelihood=lambda params, z, context=None: likelihood(params, z).base)
    with pytest.raises(ValueError, match="this model was built for complete data"):
        impute.impute(complete, EXACT, jax.random.key(0), SEEN, num_samples=2)
    with pytest.raises(ValueError, match=r"requires a model with a prior p\(z\)"):
        impute.impute(LATENT._replace(prior=None), EXACT, jax.random.key(0), SEEN, num_samples=2)
    with pytest.raises(ValueError, match="num_samples must be at least 1"):
        impute.score(LATENT, EXACT, jax.random.key(0), SEEN, X, num_samples=0)
