"""Laplace's approximation: the exact posterior of a linear-Gaussian model, and the mode of another."""

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.core import Latent
from vae_jax.distributions import Bernoulli, Normal
from vae_jax.evaluation import likelihood
from vae_jax.inference import laplace


def test_of_a_linear_gaussian_it_is_the_posterior(linear_gaussian):
    """From a wrong encoder, too: every weight is then p(x)."""
    x = linear_gaussian.data(3)
    distribution = laplace.posterior(linear_gaussian.latent, stretch=1.0)
    q = jax.jit(jax.vmap(distribution, (None, 0)))(linear_gaussian.wrong, x)
    np.testing.assert_allclose(q.loc, linear_gaussian.posterior_mean(x), atol=1e-4)
    covariance = np.einsum("nij,nkj->nik", q.scale_tril, q.scale_tril)
    np.testing.assert_allclose(covariance[1], linear_gaussian.posterior_covariance, rtol=1e-3, atol=1e-5)
    latent = linear_gaussian.latent._replace(posterior=distribution)
    estimate = jax.jit(
        lambda x: likelihood.importance_weighted(latent, linear_gaussian.wrong, jax.random.key(0), x, num_samples=4)
    )
    np.testing.assert_allclose(estimate(x[0])["log_prob"], linear_gaussian.log_prob(x)[0], atol=1e-3)


def test_it_finds_the_mode_and_makes_good_weights():
    rng = np.random.default_rng(0)
    weight = jnp.asarray(3.0 * rng.normal(size=(20, 2)), jnp.float32)
    x = jnp.asarray(rng.integers(2, size=20), jnp.float32)
    far = Normal(jnp.array([4.0, -4.0]), jnp.zeros(2))
    prior = lambda params, context=None: Normal.standard((2,))  # noqa: E731
    latent = Latent(prior, lambda params, x, context=None: far, lambda params, z, context=None: Bernoulli(weight @ z))
    better = latent._replace(posterior=laplace.posterior(latent))

    @jax.jit
    def run():
        mode = better.posterior({}, x).mean()
        joint = lambda z: latent.likelihood({}, z).log_prob(x) + prior({}).log_prob(z)  # noqa: E731
        parts = [likelihood.importance_weighted(p, {}, jax.random.key(0), x, num_samples=500) for p in (better, latent)]
        return jax.grad(joint)(mode), parts

    gradient, (good, poor) = run()
    np.testing.assert_allclose(gradient, 0.0, atol=1e-3)
    assert good["ess"] > 300 > 10 * poor["ess"]
