"""A counted covariance against scikit-learn's and scipy's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from sklearn.covariance import ShrunkCovariance
from sklearn.datasets import load_digits
from toys import kind

from vae_jax import models
from vae_jax.evaluation import likelihood
from vae_jax.models.multivariate_normal import multivariate_normal
from vae_jax.training import em

X = load_digits().images[:1500].astype(np.float64)  # [N, 8, 8]: three pixels never change
FAR = 1000.0  # the squares of such numbers leave float32 no digits of the variance


def count(model, x, size=100):
    """Params after one pass, in batches."""
    learner = em.counting(model)
    parts = jnp.asarray(x, jnp.float32).reshape(-1, size, *x.shape[1:])
    state = learner.init(jax.random.key(0), {"x": parts[0]})
    state, _ = jax.lax.scan(lambda state, x: learner.step(state, {"x": x}), state, parts)
    return learner.params(state)


@pytest.fixture(scope="module")
def model():
    return multivariate_normal((8, 8), shrinkage=0.02)


@pytest.fixture(scope="module")
def counted(model):
    return jax.jit(lambda x: count(model, x))


@pytest.mark.parametrize("offset", [0.0, FAR])
def test_it_is_that_of_scikit_learn_however_far_from_zero(model, counted, offset):
    params, x = counted(X + offset), (X + offset).reshape(-1, 64)
    theirs = ShrunkCovariance(shrinkage=0.02).fit(x)
    np.testing.assert_allclose(params["loc"], theirs.location_, rtol=1e-5)
    covariance = np.asarray(params["scale_tril"], np.float64) @ np.asarray(params["scale_tril"], np.float64).T
    scale = np.sqrt(np.diag(theirs.covariance_))
    np.testing.assert_allclose(
        covariance / np.outer(scale, scale), theirs.covariance_ / np.outer(scale, scale), atol=1e-4
    )
    expected = scipy.stats.multivariate_normal(theirs.location_, theirs.covariance_).logpdf(
        (X + offset).reshape(-1, 64)
    )
    log_prob = jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, jnp.asarray(X + offset, jnp.float32))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-3 if offset else 1e-4)


def test_draws_have_its_moments(model, counted, assert_mean):
    params = counted(X)
    drawn = jax.jit(jax.vmap(model.sample, (None, 0)))(params, jax.random.split(jax.random.key(1), 4000))
    assert drawn.shape == (4000, 8, 8)
    tril = np.asarray(params["scale_tril"], np.float64)
    covariance, loc = tril @ tril.T, np.asarray(params["loc"])
    assert_mean(drawn, loc.reshape(8, 8))
    e = np.asarray(drawn, np.float64).reshape(-1, 64) - loc
    assert_mean(e[:, :, None] * e[:, None, :], covariance)


@pytest.mark.parametrize("shrinkage", [-0.1, 1.5])
def test_a_shrinkage_outside_the_unit_interval_is_refused(shrinkage):
    with pytest.raises(ValueError, match=f"^shrinkage must be between 0 and 1, got {shrinkage}"):
        multivariate_normal((4,), shrinkage=shrinkage)


def test_classes_are_refused():
    with pytest.raises(ValueError, match=r"^family: 'multivariate_normal' takes no context; train it without one"):
        models.from_config("multivariate_normal", {"shrinkage": 0.1}, **kind((4,), 10))


def test_a_singular_covariance_is_named_when_it_is_measured():
    """A pixel that never changes, without shrinkage; with some, it has a density."""
    x = jnp.asarray(np.random.default_rng(0).normal(size=(50, 4)), jnp.float32).at[:, 2].set(0.25)
    for shrinkage in (0.0, 0.01):
        model = multivariate_normal((4,), shrinkage=shrinkage)
        learner = em.counting(model)
        state, _ = learner.step(learner.init(jax.random.key(0), {"x": x}), {"x": x})
        if shrinkage:
            assert np.isfinite(likelihood.exact(model, learner.params(state), {"x": x})).all()
        else:
            with pytest.raises(ValueError, match=r"NaN for 50 of 50 examples.*raise the shrinkage"):
                likelihood.exact(model, learner.params(state), {"x": x})
