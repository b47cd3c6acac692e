"""What the codes carry, where it is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import kind

from vae_jax import models
from vae_jax.bijectors import InverseAutoregressive
from vae_jax.core import Model
from vae_jax.distributions import Normal, kl_divergence
from vae_jax.evaluation import latents


@pytest.fixture(scope="module")
def data(linear_gaussian):
    return {"x": linear_gaussian.data(30)}


def test_posteriors_of_a_data_set(linear_gaussian, data):
    model = Model(None, None, None, latent=linear_gaussian.latent)
    means = latents.posterior_means(model, linear_gaussian.exact, data)
    np.testing.assert_allclose(means, linear_gaussian.posterior_mean(data["x"]), atol=1e-5)
    q = latents.posteriors(model, linear_gaussian.exact, data)
    covariance = q.scale_tril[7] @ q.scale_tril[7].T
    np.testing.assert_allclose(covariance, linear_gaussian.posterior_covariance, atol=1e-5)


def test_networks_of_a_posterior_are_not_copied_for_every_example():
    flow = {"name": "inverse_autoregressive_flow", "num_flows": 2, "hidden": (3,), "context_dim": 2}
    mlp = {"name": "mlp", "hidden": (3,)}
    config = {"latent_dim": 2, "encoder": mlp, "decoder": mlp, "posterior": flow, "likelihood": {"name": "normal"}}
    model = models.from_config("vae", {**config, "objective": {"name": "elbo_sampled_kl"}}, **kind((3,)))
    data = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(30, 3)), jnp.float32)}
    params = jax.jit(model.init)(jax.random.key(0), data)
    params = jax.tree.map(lambda a: a + 0.1, params)  # the flows begin as nothing
    q = latents.posteriors(model, params, data)
    flows = [part for part in q.bijector.bijectors if isinstance(part, InverseAutoregressive)]
    for k, part in enumerate(flows):
        jax.tree.map(
            lambda a, b, k=k: np.testing.assert_array_equal(a, b[k]), part.params, params["encoder"]["weights"]
        )
        assert part.context.shape == (30, 2)
    again = jax.vmap(lambda one: one.mean(), in_axes=(latents.axes(q),))(q)
    np.testing.assert_allclose(latents.posterior_means(model, params, data), again, rtol=1e-4, atol=1e-5)
    assert 0 < latents.mutual_information(q, jax.random.key(1)) < np.log(30)
    assert latents.shares_networks(q) and not latents.shares_networks(q.base)


def test_networks_that_posteriors_share_are_no_examples():
    """At first q(z|x) = p(z) in a deep hierarchy: the codes tell nothing, whatever the shapes of its networks."""
    config = {"widths": (4,), "blocks": (1,), "latent_dim": 1, "objective": {"name": "elbo"}}
    model = models.from_config("deep_vae", {**config, "likelihood": {"name": "normal"}}, **kind((4, 4, 1)))
    data = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(5, 4, 4, 1)), jnp.float32)}
    q = latents.posteriors(model, jax.jit(model.init)(jax.random.key(0), data), data)
    np.testing.assert_allclose(latents.mutual_information(q, jax.random.key(1)), 0.0, atol=1e-4)


def test_few_passes_of_a_network_are_in_memory_at_once(monkeypatch):
    """Every pair of a code and a posterior takes a pass of a deep hierarchy: all of N² need tens of gigabytes."""
    config = {"widths": (4,), "blocks": (1,), "latent_dim": 1, "objective": {"name": "elbo"}}
    model = models.from_config("deep_vae", {**config, "likelihood": {"name": "normal"}}, **kind((4, 4, 1)))
    data = {"x": jnp.asarray(np.random.default_rng(0).normal(size=(64, 4, 4, 1)), jnp.float32)}
    params = jax.tree.map(lambda a: a + 0.1, jax.jit(model.init)(jax.random.key(0), data))
    q, measure, found = latents.posteriors(model, params, data), latents.mutual_information.__wrapped__, []
    for pairs in (latents.PAIRS_WITH_NETWORKS, latents.PAIRS_AT_ONCE):
        monkeypatch.setattr(latents, "PAIRS_WITH_NETWORKS", pairs)
        compiled = jax.jit(lambda q, key: measure(q, key)).lower(q, jax.random.key(1)).compile()
        found.append((compiled(q, jax.random.key(1)), compiled.memory_analysis().temp_size_in_bytes))
    (few, small), (all_at_once, large) = found
    np.testing.assert_allclose(few, all_at_once, rtol=1e-5)
    assert 0 < few and small < large / 4


def test_active_units_are_those_whose_mean_varies():
    means = np.random.default_rng(0).normal(size=(1000, 4)) * np.array([1.0, 0.2, 0.05, 0.0]) + 3.0
    assert latents.active_units(means) == 2  # variances 1, 0.04, 0.0025, 0
    assert latents.active_units(means, threshold=0.001) == 3


def test_the_rate_of_the_dimensions_adds_up(linear_gaussian, data):
    model, params = Model(None, None, None, latent=linear_gaussian.mean_field), linear_gaussian.wrong
    given = latents.rate_per_dimension(model, params, data)
    q = latents.posteriors(model, params, data)
    rates = jax.vmap(lambda one: kl_divergence(one, Normal.standard((2,))))(q)
    assert given.shape == (2,) and np.all(given > 0)
    np.testing.assert_allclose(given.sum(), rates.mean(), rtol=1e-5)


def test_a_full_covariance_has_no_rate_per_dimension(linear_gaussian, data):
    with pytest.raises(TypeError, match="rate of MultivariateNormal against Normal does not split by dimension"):
        latents.rate_per_dimension(Model(None, None, None, latent=linear_gaussian.latent), linear_gaussian.exact, data)


def codes(loc, scale):
    return Normal(jnp.asarray(loc, jnp.float32), jnp.full(np.shape(loc), np.log(scale), jnp.float32))


def test_equal_posteriors_carry_nothing():
    given = latents.mutual_information(codes(np.ones((64, 2)), 0.5), jax.random.key(0))
    np.testing.assert_allclose(given, 0.0, atol=1e-5)


def test_separate_posteriors_carry_the_name_of_the_image():
    loc = np.stack([np.arange(300.0), np.zeros(300)], axis=1)
    np.testing.assert_allclose(latents.mutual_information(codes(loc, 0.01), jax.random.key(0)), np.log(300), rtol=1e-5)


def test_two_clusters_carry_one_bit():
    loc = np.repeat([[-50.0], [50.0]], 40, axis=0)
    np.testing.assert_allclose(latents.mutual_information(codes(loc, 1.0), jax.random.key(0)), np.log(2), rtol=1e-4)


def test_a_gaussian_channel_has_its_capacity(linear_gaussian):
    """Means N(0, 1), noise s: I = ½ log(1 + 1/s²), up to the finite number of means."""
    loc = np.random.default_rng(0).normal(size=(2000, 1))
    given = latents.mutual_information(codes(loc, 0.5), jax.random.key(0))
    np.testing.assert_allclose(given, 0.5 * np.log(1 + 1 / 0.25), atol=0.07)
