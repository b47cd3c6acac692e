"""Penalties and corruptions of auto-encoders against finite differences, closed forms and frequencies."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.conditionals.deterministic import k_sparse
from vae_jax.core import Latent
from vae_jax.distributions import Deterministic, Normal
from vae_jax.objectives import corruptions, penalties

RNG = np.random.default_rng(0)
PARAMS = {
    "encoder": jnp.asarray(RNG.normal(size=(3, 5)), jnp.float32),
    "decoder": {"kernel": jnp.asarray(RNG.normal(size=(5, 3)), jnp.float32), "bias": jnp.arange(5.0)},
}
X = jnp.asarray(RNG.normal(size=(40, 5)), jnp.float32)


def decode(params, z, context=None):
    return Normal(jnp.tanh(params["decoder"]["kernel"] @ z + params["decoder"]["bias"]), jnp.zeros(5))


LATENT = Latent(
    prior=None,
    posterior=lambda params, x, context=None: Deterministic(jax.nn.sigmoid(params["encoder"] @ x)),
    likelihood=decode,
)


def codes(x):
    return 1.0 / (1.0 + np.exp(-np.asarray(x, np.float64) @ np.asarray(PARAMS["encoder"], np.float64).T))


def by_differences(function, at, step=1e-5):
    """Central differences in float64: the Jacobian [outputs, inputs]."""
    at = np.asarray(at, np.float64)
    return np.stack([(function(at + e) - function(at - e)) / (2 * step) for e in step * np.eye(len(at))], axis=1)


def test_the_contractive_penalty_is_the_jacobian_of_the_encoder():
    given = penalties.contractive().value(LATENT, PARAMS, X[0])
    np.testing.assert_allclose(given, np.sum(by_differences(codes, X[0]) ** 2), rtol=1e-5)
    z, weight = codes(X[0]), np.asarray(PARAMS["encoder"], np.float64)
    closed = np.sum((z * (1 - z)) ** 2 * np.sum(weight**2, axis=1))  # of one layer of sigmoids
    np.testing.assert_allclose(given, closed, rtol=1e-5)


def test_its_gradient_is_that_of_the_closed_form():
    def closed(params):
        z = jax.nn.sigmoid(params["encoder"] @ X[0])
        return jnp.sum(jnp.square(z * (1 - z)) * jnp.sum(jnp.square(params["encoder"]), axis=1))

    given = jax.grad(lambda params: penalties.contractive().value(LATENT, params, X[0]))(PARAMS)
    np.testing.assert_allclose(given["encoder"], jax.grad(closed)(PARAMS)["encoder"], rtol=1e-4, atol=1e-6)


def test_the_gradient_penalty_is_the_jacobian_of_the_decoder():
    kernel, bias = (np.asarray(PARAMS["decoder"][name], np.float64) for name in ("kernel", "bias"))
    expected = np.sum(by_differences(lambda z: np.tanh(kernel @ z + bias), codes(X[0])) ** 2)
    np.testing.assert_allclose(penalties.gradient_penalty().value(LATENT, PARAMS, X[0]), expected, rtol=1e-5)


def test_norms_and_decay():
    z = codes(X[0])
    np.testing.assert_allclose(penalties.l1().value(LATENT, PARAMS, X[0]), np.abs(z).sum(), rtol=1e-5)
    np.testing.assert_allclose(penalties.l2().value(LATENT, PARAMS, X[0]), 0.5 * np.sum(z**2), rtol=1e-5)
    expected = np.sum(np.square(PARAMS["decoder"]["kernel"])) + np.sum(np.arange(5) ** 2)
    np.testing.assert_allclose(penalties.weight_decay().value(LATENT, PARAMS, X[0]), expected, rtol=1e-5)


def test_a_target_activation_is_a_divergence_from_the_mean_over_the_batch():
    mean = codes(X).mean(0)
    expected = np.sum(0.2 * np.log(0.2 / mean) + 0.8 * np.log(0.8 / (1 - mean)))
    given = penalties.target_activation(activation=0.2).value(LATENT, PARAMS, {"x": X})
    np.testing.assert_allclose(given, expected, rtol=1e-5)
    far = {"encoder": 1e4 * PARAMS["encoder"]}
    value, slope = jax.value_and_grad(lambda p: penalties.target_activation(activation=0.2).value(LATENT, p, {"x": X}))(
        far
    )
    assert np.isfinite(value) and np.isfinite(slope["encoder"]).all()
    with pytest.raises(ValueError, match=r"activation must be above 0 and below 1, got 1"):
        penalties.target_activation(activation=1)


def test_only_a_target_activation_is_of_a_whole_batch():
    options = {"target_activation": {"activation": 0.2}}
    made = {name: getattr(penalties, name)(**options.get(name, {})) for name in penalties.__all__}
    assert [name for name, penalty in made.items() if penalty.of_batch] == ["target_activation"]


def test_k_sparse_keeps_the_largest_and_their_gradient():
    head, a = k_sparse((5,), num_active=2), jnp.array([0.3, -1.0, 2.0, 0.5, 0.5])
    np.testing.assert_array_equal(head.distribution(a).mean(), [0, 0, 2, 0.5, 0])  # of equal ones the first
    slope = jax.grad(lambda a: jnp.sum(jnp.arange(1.0, 6.0) * head.distribution(a).sample(None)))(a)
    np.testing.assert_array_equal(slope, [0, 0, 3, 4, 0])


def test_corruptions_have_their_frequencies(assert_mean):
    x = jnp.array([0.25, 0.5, 0.75])

    def draw(corrupt):
        return np.asarray(jax.vmap(lambda k: corrupt(k, x))(jax.random.split(jax.random.key(0), 4000)))

    np.testing.assert_array_equal(draw(corruptions.none()), np.tile(x, (4000, 1)))
    masked = draw(corruptions.masking(rate=0.3))
    assert_mean(masked == 0, 0.3)
    np.testing.assert_array_equal(masked[masked != 0], np.tile(x, (4000, 1))[masked != 0])
    noisy = draw(corruptions.salt_and_pepper(rate=0.4, low=0.0, high=1.0))
    assert_mean(noisy == 0, 0.2)
    assert_mean(noisy == 1, 0.2)
    assert set(np.unique(noisy)) == {0.0, 0.25, 0.5, 0.75, 1.0}
    added = draw(corruptions.gaussian(scale=0.5)) - np.asarray(x)[None]
    assert_mean(added, 0.0)
    assert_mean(added**2, 0.25)


@pytest.mark.parametrize(
    "corrupt", [corruptions.masking, lambda rate: corruptions.salt_and_pepper(rate=rate, low=0, high=1)]
)
def test_a_rate_is_a_probability(corrupt):
    with pytest.raises(ValueError, match=r"rate must be between 0 and 1, got -0.1"):
        corrupt(rate=-0.1)
    with pytest.raises(ValueError, match="scale must be at least 0, got -1"):
        corruptions.gaussian(scale=-1)
