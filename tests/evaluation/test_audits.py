"""Checks of a likelihood: they hold for right models, and see what is wrong with others."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.core import Event
from vae_jax.data import values
from vae_jax.evaluation import audits, yardstick
from vae_jax.inference import psis
from vae_jax.objectives.bounds import log_weight
from vae_jax.runs import twins
from vae_jax.support import Binary, Levels, Real

MLP = {"name": "mlp", "hidden": (300, 200), "activation": "relu"}
VAE = {"latent_dim": 40, "encoder": MLP, "decoder": MLP, "prior": {"name": "standard"}}
VAE |= {"posterior": {"name": "normal"}, "likelihood": {"name": "bernoulli"}, "objective": {"name": "elbo"}}
NETWORK = {"channels": (24, 24), "first_kernel": 5, "kernel": 3, "hidden": (48,)}
PIXELS = {"network": NETWORK, "likelihood": {"name": "discretized_logistic_mixture", "num_components": 3}}


@pytest.fixture(scope="module")
def vae():
    return twins.of("vae", VAE, Event((28, 28, 1), Binary()))


def test_the_masses_of_a_latent_variable_model_sum_to_one_in_the_mean(vae):
    assert vae.data["x"].shape == (16, 2, 2, 1)
    total, se = audits.total_mass(vae.model, vae.params, jax.random.key(0), vae.data, num_samples=300)
    assert 0 < se < 0.05 and abs(total - 1.0) < 5 * se


def test_the_masses_of_levels_sum_to_one_exactly():
    small = twins.of("pixel_cnn", PIXELS, Event((28, 28, 1), Levels(256)))
    total, se = audits.total_mass(small.model, small.params, jax.random.key(0), small.data, num_samples=1)
    assert se == 0.0 and abs(total - 1.0) < 1e-5


def test_a_conditional_twin_has_the_class_of_the_example():
    event, context = Event((28, 28, 1), Binary()), values.label(10)
    small = twins.of("vae", VAE, event, context=context, of_context=np.int32(3))
    assert np.all(small.data["context"] == 3)
    total, se = audits.total_mass(small.model, small.params, jax.random.key(0), small.data, num_samples=300)
    assert abs(total - 1.0) < 5 * se


def test_a_bound_that_is_none_is_seen(vae):
    """The mean over z of log p(x|z) less the KL in closed form, in place of log w: the sum is above one."""
    wrong = vae.model._replace(log_prob=lambda params, x, context=None: jnp.float32(-1.0))
    total, _ = audits.total_mass(wrong, vae.params, jax.random.key(0), vae.data, num_samples=10)
    assert total > 2.0


def test_what_cannot_be_enumerated_is_refused():
    with pytest.raises(ValueError, match="x is not discrete"):
        twins.of("vae", VAE, Event((28, 28, 1), Real()))
    with pytest.raises(ValueError, match="has no small twin"):
        twins.of("vae", VAE, Event((3, 28), Binary()))
    deep = {"widths": (4,) * 3, "blocks": (1,) * 3, "latent_dim": 2, "likelihood": {"name": "bernoulli"}}
    with pytest.raises(ValueError, match=r"no small image suits the model: .*cannot be halved 3 times"):
        twins.of("deep_vae", deep | {"objective": {"name": "elbo"}}, Event((32, 32, 1), Binary()))


def test_the_tails_are_those_of_the_weights(vae):
    data, key = {"x": vae.data["x"][:3]}, jax.random.key(1)
    shape = audits.tail_shapes(vae.model, vae.params, key, data, num_samples=200)
    for n in range(3):
        keys = jax.random.split(jax.random.fold_in(key, n), 200)
        log_w = jax.vmap(lambda k, x: log_weight(vae.model.latent, vae.params, k, x), (0, None))(keys, data["x"][n])
        np.testing.assert_allclose(shape[n], psis.smooth(log_w).shape, rtol=1e-4, atol=1e-4)


def test_a_number_that_depends_on_batch_mates_is_seen(vae, monkeypatch):
    data, options = vae.data, {"num_samples": 4}
    assert audits.of_batch_mates(vae.model, vae.params, jax.random.key(0), data, **options).max() < 1e-4
    measure = yardstick.measure

    def normalised(*arguments, **options):
        measured = measure(*arguments, **options)
        brightness = arguments[3]["x"].reshape(len(measured.log_prob), -1).mean(axis=1)
        return measured._replace(log_prob=measured.log_prob - np.cumsum(brightness))

    with pytest.raises(ValueError, match="at least three examples are required, so that each gets other batch-mates"):
        audits.of_batch_mates(vae.model, vae.params, jax.random.key(0), {"x": data["x"][:2]}, **options)
    monkeypatch.setattr(audits.yardstick, "measure", normalised)
    assert audits.of_batch_mates(vae.model, vae.params, jax.random.key(0), data, **options).max() > 0.1
