"""Dropout: a new mask for every example and step, one for all draws of z of an example, and none in evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toys import kind

from vae_jax import models, objectives
from vae_jax.conditionals import priors
from vae_jax.core import Conditional, Event
from vae_jax.distributions import Normal
from vae_jax.objectives import objective as objective_of
from vae_jax.support import Real
from vae_jax.training.gradient import gradient

SIZE, DIM = 6, 40
X = jnp.ones((SIZE, 1))


def dropping(event_dim):
    """A conditional whose mean is a random mask of its key, and zero without a key; its scale is nearly zero."""

    def distribution(params, x, context=None, dropout_key=None):
        mean = jnp.zeros(event_dim)
        if dropout_key is not None:
            mean = mean + jax.random.bernoulli(dropout_key, 0.5, (event_dim,))
        return Normal(mean + params, jnp.full(event_dim, -8.0))

    return Conditional(lambda key, x, context=None: jnp.zeros(()), distribution, Normal.standard((event_dim,)))


def observed(num_samples):
    """An equation whose terms show the masks: the posterior's and the likelihood's means, and those of all draws."""

    @objectives.equation.equation()
    def equation(latent, params, key, x, context=None):
        q = latent.posterior(params, x, context)
        z = jax.vmap(q.sample)(jax.random.split(key, num_samples))
        p = jax.vmap(lambda z: latent.likelihood(params, z, context).loc)(z)
        terms = {"rate": q.loc, "q": q.loc, "p": p, "z": z}
        return jnp.zeros(()), terms

    return equation


def masks(key):
    """What the equation saw, [SIZE, ...] each."""
    objective = objective_of.of(observed(3))
    seen = {}

    def spy(*args):
        value, aux = objective.value(*args)
        seen.update(aux.terms)
        return value, aux

    model = objective_of.latent_variable_model(
        dropping(DIM),
        dropping(DIM),
        priors.standard((DIM,)),
        event=Event((1,), Real()),
        latent_shape=(DIM,),
        objective=objective._replace(value=spy),
        drops=True,
    )
    params = model.init(jax.random.key(0), {"x": X})
    _, aux = model.loss(params, key, {"x": X}, 0)
    assert set(aux.terms) == {"rate"}  # the likelihood with dropout bounds no log p(x) of this model
    return model, params, {name: np.asarray(value) for name, value in seen.items()}


def test_each_example_and_step_has_a_mask_and_all_its_draws_share_it():
    _, _, first = masks(jax.random.key(1))
    _, _, again = masks(jax.random.key(1))
    _, _, other = masks(jax.random.key(2))
    for name in ("q", "p"):
        rows = first[name].reshape(SIZE, -1, DIM)
        np.testing.assert_array_equal(rows, np.repeat(rows[:, :1], rows.shape[1], axis=1))  # for all draws of z
        rows = rows[:, 0]
        assert set(np.unique(rows)) == {0.0, 1.0}
        assert len(np.unique(rows, axis=0)) == SIZE
        np.testing.assert_array_equal(first[name], again[name])
        assert np.all(np.any(rows != other[name].reshape(SIZE, -1, DIM)[:, 0], axis=1))
    assert np.all(np.any(first["q"] != first["p"][:, 0], axis=1))  # encoder and decoder drop apart
    assert np.any(first["z"][:, 0] != first["z"][:, 1])


def test_evaluation_and_draws_never_drop():
    model, params, _ = masks(jax.random.key(1))
    np.testing.assert_array_equal(model.latent.posterior(params, X[0]).loc, 0.0)
    np.testing.assert_array_equal(model.latent.likelihood(params, jnp.ones(DIM)).loc, 0.0)
    assert np.abs(model.sample(params, jax.random.key(3))).max() < 0.01
    terms = model.judge(params, jax.random.key(4), jnp.zeros(DIM))
    assert set(terms) == {"bound", "rate", "distortion"}
    expected = -Normal(jnp.zeros(DIM), jnp.full(DIM, -8.0)).log_prob(jnp.zeros(DIM))
    np.testing.assert_allclose(terms["distortion"], expected, rtol=1e-5)


SENTENCE = jnp.array([[3, 2, 4, 2, 1, 0]] * SIZE)
IMAGES = jnp.zeros((SIZE, 3, 3, 1)).at[:, 1, 1].set(1.0)
LSTM = {"name": "lstm", "width": 8, "dropout": 0.5}
FAMILIES = {
    "language_model": ({"network": LSTM}, kind((6,), vocabulary_size=5), SENTENCE),
    "pixel_cnn": (
        {
            "network": {"channels": (8,), "first_kernel": 3, "hidden": (), "dropout": 0.5, "zero_output": False},
            "likelihood": {"name": "bernoulli"},
        },
        kind((3, 3, 1)),
        IMAGES,
    ),
    "text_vae": (
        {
            "latent_dim": 2,
            "encoder": LSTM,
            "decoder": LSTM,
            "posterior": {"name": "normal"},
            "objective": {"name": "elbo"},
        },
        kind((6,), vocabulary_size=5),
        SENTENCE,
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_example_has_another_mask_in_every_place_of_a_batch_and_in_every_step(family):
    """Steps of the learner that change no parameter. The rate of a text VAE depends on no noise but the mask."""
    config, data, x = FAMILIES[family]
    model = models.from_config(family, config, **data)
    learner = gradient(model, optax.sgd(0.0))
    state = jax.jit(learner.init)(jax.random.key(0), {"x": x})
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.5, size=a.shape), a.dtype), state.params)
    state = state.replace(params=params)
    step = jax.jit(learner.step)

    @jax.jit
    def values(params, key):
        loss, aux = model.loss(params, key, {"x": x}, 0)
        return aux.terms.get("rate", loss)

    rows = np.asarray(values(params, jax.random.key(1)))
    assert len(np.unique(rows)) > SIZE // 2
    np.testing.assert_array_equal(rows, values(params, jax.random.key(1)))
    assert np.mean(rows != values(params, jax.random.key(2))) > 0.5
    name = "rate" if family == "text_vae" else "loss"
    metrics = []
    for _ in range(2):
        state, measured = step(state, {"x": x})
        metrics.append(float(measured[name]))
    jax.tree.map(np.testing.assert_array_equal, state.params, params)
    assert metrics[0] != metrics[1]
