"""The contracts: from a batch to its examples, what is judged, and who takes a context."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.core import Aux, by_loss, embedded, first_example, learned, per_example, tractable
from vae_jax.data import values
from vae_jax.distributions import Normal
from vae_jax.spec import INT_MAX


def test_per_example_gives_every_example_its_own_key_and_context():
    function = per_example(lambda params, key, x, context: params * x + context + jax.random.uniform(key))
    batch = {"x": jnp.arange(4.0), "context": 10.0 * jnp.arange(4)}
    noise = function(2.0, jax.random.key(0), batch) - 12.0 * jnp.arange(4)
    keys = jax.random.split(jax.random.key(0), 4)
    np.testing.assert_allclose(noise, jax.vmap(jax.random.uniform)(keys), atol=1e-5)


def test_per_example_without_context():
    values = per_example(lambda params, key, x, context: x if context is None else jnp.nan)
    np.testing.assert_array_equal(values(None, jax.random.key(0), {"x": jnp.arange(3.0)}), jnp.arange(3.0))


def test_per_example_takes_more_arrays_that_lead_with_the_example():
    function = per_example(lambda params, key, x, context, more: x + more["a"])
    total = function(None, jax.random.key(0), {"x": jnp.arange(3.0)}, {"a": 10.0 * jnp.arange(3)})
    np.testing.assert_array_equal(total, 11.0 * jnp.arange(3))


def test_the_first_example_and_its_context():
    x, context = first_example({"x": jnp.arange(3.0), "context": jnp.arange(3) + 7})
    assert (x, context) == (0.0, 7)
    assert first_example({"x": jnp.arange(3.0)})[1] is None


def test_a_context_is_needed_or_refused():
    label = values.label(3)
    np.testing.assert_array_equal(embedded(label, jnp.asarray(1)), [0.0, 1.0, 0.0])
    assert embedded(None, None) is None
    with pytest.raises(ValueError, match=r"conditional on \d+ classes: a context is needed"):
        embedded(label, None)
    with pytest.raises(ValueError, match="this model takes no context, and one was given; leave it out"):
        embedded(None, jnp.asarray(1))


def test_what_is_not_learned_is_no_part_of_the_parameters():
    assert learned(encoder=1, prior=None, objective={}) == {"encoder": 1, "objective": {}}


X = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)), jnp.float32)


def test_a_tractable_model_maximises_its_likelihood():
    model = tractable(lambda key, batch: jnp.zeros(2), lambda params, context=None: Normal(params, jnp.zeros(2)))
    params = model.init(jax.random.key(0), {"x": X})
    log_prob = jax.vmap(Normal.standard((2,)).log_prob)(X)
    loss, aux = model.loss(params, jax.random.key(0), {"x": X}, 0)
    np.testing.assert_allclose(loss, -log_prob, rtol=1e-6)
    np.testing.assert_array_equal(aux.terms["bound"], -loss)
    assert aux.state is None and model.latent is None and model.bound is None
    np.testing.assert_allclose(model.log_prob(params, X[1]), log_prob[1], rtol=1e-6)
    np.testing.assert_allclose(model.judge(params, None, X[1])["bound"], log_prob[1], rtol=1e-6)
    np.testing.assert_array_equal(
        model.sample(params, jax.random.key(1)), model.density(params).sample(jax.random.key(1))
    )


@pytest.mark.parametrize("has_bound", [True, False])
def test_an_example_is_judged_by_the_terms_of_its_loss_at_the_end_of_schedules(has_bound):
    def loss(params, key, batch, step):
        value = params * batch["x"] + batch["context"] + (step == INT_MAX)
        return value, Aux({"rate": 2.0 * value} | ({"bound": -value} if has_bound else {}))

    judged = by_loss(loss)(3.0, jax.random.key(0), jnp.asarray(2.0), jnp.asarray(10.0))
    assert judged == {"rate": 34.0} | ({"bound": -17.0} if has_bound else {"loss": 17.0})
