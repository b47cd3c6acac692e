"""Fully visible networks against the enumeration of all images, their gradients, and what they are fitted to."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from toys import kind

from vae_jax import models
from vae_jax.networks.autoregressive import nade
from vae_jax.training import gradient

DIM = 9
IMAGES = jnp.asarray(list(itertools.product([0.0, 1.0], repeat=DIM))).reshape(-1, 3, 3)
NETWORKS = {
    "sigmoid": {"name": "made", "hidden": ()},
    "made": {"name": "made", "hidden": (20, 20), "activation": "tanh"},
    "nade": {"name": "nade", "num_hidden": 7},
}


@functools.cache
def randomized(name, num_classes=0):
    """A model of 3x3 pixels, and params of which none is zero."""
    model = models.from_config("belief_network", {"network": NETWORKS[name]}, **kind((3, 3), num_classes))
    batch = {"x": IMAGES[:2]} | ({"context": jnp.zeros(2, jnp.int32)} if num_classes else {})
    shapes = jax.eval_shape(model.init, jax.random.key(0), batch)
    rng = np.random.default_rng(0)
    return model, jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.8, size=a.shape), a.dtype), shapes)


@functools.cache
def log_probs(name, context=None):
    model, params = randomized(name, 0 if context is None else 3)
    return np.asarray(jax.jit(jax.vmap(lambda x: model.log_prob(params, x, context)))(IMAGES), np.float64)


@pytest.mark.parametrize(("name", "context"), [*((name, None) for name in NETWORKS), ("made", 2), ("nade", 2)])
def test_the_masses_of_all_images_sum_to_one(name, context):
    np.testing.assert_allclose(np.exp(log_probs(name, context)).sum(), 1.0, rtol=1e-5)


@pytest.mark.parametrize("name", ["made", "nade"])
def test_a_class_changes_every_pixel(name):
    given = [np.exp(log_probs(name, c)) @ np.asarray(IMAGES).reshape(-1, DIM) for c in (0, 2)]
    assert np.all(np.abs(given[0] - given[1]) > 1e-5)  # far above rounding
    with pytest.raises(ValueError, match="a context is needed"):
        model, params = randomized(name, 3)
        model.log_prob(params, IMAGES[0])


@pytest.mark.parametrize("name", NETWORKS)
def test_a_pixel_depends_on_those_before_it_and_on_no_other(name):
    model, params = randomized(name)
    base = model.density(params).base
    by_x = np.asarray(jax.jit(jax.jacobian(lambda x: base.conditionals(base.params, x).logits))(jnp.ones(DIM) * 0.3))
    assert np.all(by_x[np.triu_indices(DIM)] == 0.0) and np.all(by_x[np.tril_indices(DIM, -1)] != 0.0)


@pytest.mark.parametrize("name", ["sigmoid", "nade"])
def test_draws_have_the_frequencies_of_all_images(name, assert_mean):
    model, params = randomized(name)
    p = np.exp(log_probs(name))
    drawn = jax.jit(jax.vmap(lambda k: model.sample(params, k)))(jax.random.split(jax.random.key(1), 10_000))
    image = np.asarray(drawn).reshape(-1, DIM) @ 2 ** np.arange(DIM)[::-1]
    common = np.flatnonzero(p > 3e-3)
    assert_mean((image[:, None] == common[None]).astype(float), p[common])


@pytest.mark.parametrize("name", NETWORKS)
def test_it_begins_as_the_uniform_distribution(name):
    model, _ = randomized(name)
    params = model.init(jax.random.key(0), {"x": IMAGES[:2]})
    np.testing.assert_allclose(model.log_prob(params, IMAGES[77]), -DIM * np.log(2.0), rtol=1e-6)


def test_the_sigmoid_network_is_a_logistic_regression_for_every_pixel():
    x = (load_digits().images[:600, 2:5, 2:5] > 7).astype(np.float32)
    model, _ = randomized("sigmoid")
    learner = gradient.gradient(model, gradient.optimizer(name="adam", learning_rate=0.05))
    batch = {"x": jnp.asarray(x)}

    @jax.jit
    def run(state):
        return jax.lax.scan(lambda state, _: learner.step(state, batch), state, length=1500)[0]

    params = learner.params(run(learner.init(jax.random.key(0), batch)))
    flat = x.reshape(-1, DIM)
    theirs = -np.mean(np.log(np.where(flat[:, 0], flat[:, 0].mean(), 1 - flat[:, 0].mean())))
    for d in range(1, DIM):
        regression = LogisticRegression(C=1e6, tol=1e-8, max_iter=1000).fit(flat[:, :d], flat[:, d])
        p = regression.predict_proba(flat[:, :d])[np.arange(len(flat)), flat[:, d].astype(int)]
        theirs -= np.mean(np.log(p))
    ours = float(jax.jit(jax.vmap(model.log_prob, (None, 0)))(params, batch["x"]).mean())
    np.testing.assert_allclose(ours, -theirs, atol=2e-3)


def test_an_unknown_network_is_named():
    with pytest.raises(ValueError, match=r"model\.network\.name: unknown value 'nad'; did you mean 'nade'"):
        models.from_config("belief_network", {"network": {"name": "nad"}}, **kind((3, 3)))


def test_another_length_is_refused():
    with pytest.raises(ValueError, match=r"NADE: 5 inputs, but outputs of shapes \(\(6,\),\): each must begin with 5"):
        nade(((6,),)).init(jax.random.key(0), jnp.ones(5))
