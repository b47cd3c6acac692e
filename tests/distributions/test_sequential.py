"""The chain rule against the joint Gaussian that a chain of affine Gaussians is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from vae_jax.distributions import Bernoulli, Mixture, Normal, Sequential, has_discrete_part
from vae_jax.distributions.sequential import parts_at_mean
from vae_jax.support import Binary, Real

# z_1 [2] = A + σ_1 ε,  z_2 [1] = B z_1 + c + σ_2 ε,  z_3 [2] = C z_1 + D z_2 + σ_3 ε.
A, B, C, D = np.array([0.5, -1.0]), np.array([[0.8, -0.6]]), np.array([[0.3, 0.2], [0.0, -0.7]]), np.array([1.2, 0.4])
SCALES = np.array([0.7, 1.1, 0.5])
PARAMS = {"b": jnp.asarray(B, jnp.float32), "c": jnp.asarray(C, jnp.float32), "d": jnp.asarray(D, jnp.float32)}
SHIFT = jnp.array([0.4])


def normal(loc, scale):
    return Normal(loc, jnp.full(loc.shape, np.log(scale), jnp.float32))


def second(params, given, before):
    return normal(params["b"] @ before[0] + given, SCALES[1])


def third(params, given, before):
    return normal(params["c"] @ before[0] + params["d"] * before[1], SCALES[2])


def chain(reverse=False):
    return Sequential(normal(jnp.asarray(A, jnp.float32), SCALES[0]), PARAMS, SHIFT, (second, third), reverse)


def joint():
    """Mean and covariance of (z_1, z_2, z_3), by the matrix that takes the five noises to them."""
    noise = np.diag(np.repeat(SCALES, [2, 1, 2]))
    z_1, z_2 = noise[:2], B @ noise[:2] + noise[2:3]
    to_z = np.concatenate([z_1, z_2, C @ z_1 + np.outer(D, z_2) + noise[3:]])
    mean_2 = B @ A + 0.4
    return np.concatenate([A, mean_2, C @ A + D * mean_2]), to_z @ to_z.T


def flat(z, reverse):
    return np.concatenate([np.asarray(part, np.float64) for part in (z[::-1] if reverse else z)], axis=-1)


@pytest.mark.parametrize("reverse", [False, True])
def test_it_is_the_joint_gaussian(reverse, assert_mean):
    """Density, moments, mean; the density that comes with a draw is that of the draw."""
    given, (mean, covariance) = chain(reverse), joint()
    keys = jax.random.split(jax.random.key(0), 20_000)
    z, log_prob = jax.jit(jax.vmap(given.sample_and_log_prob))(keys)
    draws = flat(z, reverse)
    np.testing.assert_allclose(log_prob, scipy.stats.multivariate_normal(mean, covariance).logpdf(draws), atol=1e-4)
    np.testing.assert_allclose(jax.jit(jax.vmap(given.log_prob))(z), log_prob, atol=1e-4)
    assert_mean(draws, mean)
    centred = draws - mean
    assert_mean(centred[:, :, None] * centred[:, None, :], covariance)
    np.testing.assert_allclose(flat(given.mean(), reverse), mean, rtol=1e-5)  # affine: the ancestral mean is the mean


def test_the_density_is_the_sum_of_its_parts():
    given = chain(reverse=True)
    z = given.sample(jax.random.key(1))
    parts = given.parts(z)
    assert [part.loc.shape for part in parts] == [(2,), (1,), (2,)]
    expected = sum(part.log_prob(value) for part, value in zip(parts, z, strict=True))
    np.testing.assert_allclose(given.log_prob(z), expected, rtol=1e-6)
    np.testing.assert_allclose(parts[1].loc, B @ np.asarray(z[2]) + 0.4, rtol=1e-5)  # z[2] was drawn first


def test_it_is_a_pytree_of_its_parameters():
    """A gradient by the chain itself, and a vmap over chains that share their networks."""
    z = chain().sample(jax.random.key(0))
    gradient = jax.jit(jax.grad(lambda given: given.log_prob(z)))(chain())
    error = (np.asarray(z[1]) - B @ np.asarray(z[0]) - 0.4) / SCALES[1] ** 2
    np.testing.assert_allclose(gradient.params["b"], np.outer(error, z[0]), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(gradient.given, error, rtol=1e-4, atol=1e-5)
    many = chain().replace(given=jnp.array([[0.0], [1.0]]))
    where = many.replace(first=None, params=None, given=0)
    means = jax.vmap(lambda given: given.mean(), in_axes=(where,))(many)
    np.testing.assert_allclose(means[1][1] - means[1][0], 1.0, rtol=1e-5)


def test_parts_may_be_over_anything():
    """A bit, whose draw carries no density, then a mixture that sees it."""

    def mixture(params, given, before):
        return Mixture(jnp.zeros(2), Normal(before[0][None] + jnp.array([[0.0], [3.0]]), jnp.zeros((2, 1))))

    given = Sequential(Bernoulli(jnp.array([0.3])), conditionals=(mixture,))
    assert given.support == (Binary(), Real()) and has_discrete_part(given) and not has_discrete_part(chain())
    assert [type(part) for part in parts_at_mean(given)] == [Bernoulli, Mixture]
    z, log_prob = given.sample_and_log_prob(jax.random.key(0))
    expected = given.first.log_prob(z[0]) + mixture(None, None, z[:1]).log_prob(z[1])
    np.testing.assert_allclose(log_prob, expected, rtol=1e-6)


def test_an_event_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a chain of 3 variables was given 2"):
        chain().log_prob((jnp.zeros(2), jnp.zeros(1)))
