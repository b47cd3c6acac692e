"""Counted coin flips against scikit-learn's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.naive_bayes import BernoulliNB

from vae_jax.models.naive_bayes import naive_bayes
from vae_jax.tasks import cluster
from vae_jax.training import em

IMAGES, LABELS = load_digits(return_X_y=True)
X = jnp.asarray(IMAGES[:1500] > 7, jnp.float32)
C = jnp.asarray(LABELS[:1500])


def count(model, batch, size=100):
    """Params after one pass, in batches."""
    learner = em.counting(model)
    parts = jax.tree.map(lambda a: a.reshape(-1, size, *a.shape[1:]), batch)
    state = learner.init(jax.random.key(0), batch)
    state, _ = jax.lax.scan(learner.step, state, parts)
    return learner.params(state)


@pytest.fixture(scope="module")
def fitted():
    model = naive_bayes((64,), num_classes=10, smoothing=0.5)
    return model, count(model, {"x": X, "context": C})


def test_it_is_that_of_scikit_learn(fitted):
    model, params = fitted
    theirs = BernoulliNB(alpha=0.5).fit(X, C)
    joint = jax.vmap(lambda x: jax.vmap(lambda c: model.log_prob(params, x, c))(jnp.arange(10)))(X)
    prior = np.log((np.bincount(C) + 0.5) / (len(C) + 5))
    np.testing.assert_allclose(joint, theirs.predict_joint_log_proba(X) - theirs.class_log_prior_, rtol=1e-4, atol=1e-3)
    marginal = jax.vmap(lambda x: model.log_prob(params, x))(X)
    np.testing.assert_allclose(marginal, jax.nn.logsumexp(joint + prior[None], axis=1), rtol=1e-4)


def test_as_a_classifier_it_is_that_of_scikit_learn(fitted):
    model, params = fitted
    theirs = BernoulliNB(alpha=0.5).fit(X, C)
    found = jax.vmap(lambda x: cluster.label(model, params, x))(X)
    assert np.mean(found == theirs.predict(X)) > 0.999  # π is smoothed here, and not there
    assert np.mean(found == C) > 0.8


def test_classes_are_summed_out_where_they_are_not_given(fitted):
    model, params = fitted
    joint = naive_bayes((64,), num_classes=10, smoothing=0.5, given_class=False)
    batch = {"x": X, "context": C}
    jax.tree.map(np.testing.assert_array_equal, count(joint, batch), params)
    summed = jax.vmap(joint.log_prob, (None, 0, 0))(params, X[:50], C[:50])
    np.testing.assert_array_equal(summed, jax.vmap(model.log_prob, (None, 0))(params, X[:50]))


def test_a_class_never_seen_is_possible_and_not_chosen():
    model = naive_bayes((64,), num_classes=11, smoothing=0.5)
    params = count(model, {"x": X, "context": C})
    some = X[:100]
    assert np.isfinite(jax.vmap(lambda x: model.log_prob(params, x, 10))(some)).all()
    assert not np.any(jax.vmap(lambda x: cluster.label(model, params, x))(some) == 10)


def test_draws_have_the_frequencies_of_a_class(fitted, assert_mean):
    model, params = fitted
    drawn = jax.vmap(lambda k: model.sample(params, k, 3))(jax.random.split(jax.random.key(1), 2000))
    bright = jax.nn.sigmoid(params["pixel_logits"][3])
    seen = (bright > 0.01) & (bright < 0.99)
    assert_mean(drawn[:, seen], bright[seen])


def test_without_classes_it_is_one_distribution():
    model = naive_bayes((64,), smoothing=1.0)
    params = count(model, {"x": X})
    mean = (X.sum(0) + 1) / (len(X) + 2)
    np.testing.assert_allclose(jax.nn.sigmoid(params["pixel_logits"][0]), mean, rtol=1e-5)


def test_no_smoothing_is_refused():
    with pytest.raises(ValueError, match="smoothing must be above 0, got 0"):
        naive_bayes((4,), smoothing=0.0)
