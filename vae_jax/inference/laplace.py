"""Laplace's approximation of the posterior: a Gaussian at the mode of p(z|x), with its curvature.

As a proposal of importance sampling it stands in for an encoder that was trained on few examples:
`latent.exchange(posterior=laplace.posterior(latent))`. The weights correct what it misses.
"""

import jax
import jax.numpy as jnp

from vae_jax.distributions import MultivariateNormal
from vae_jax.distributions.support import supports
from vae_jax.support import Real

STEP_SIZES = (1.0, 0.5, 0.2, 0.05, 0.0)
LEAST_CURVATURE = 0.1  # a flatter direction, or one of another sign, gets this precision


def posterior(latent, *, num_steps=20, stretch=1.1):
    """Return (params, x, context) -> N(z*, stretch² H⁻¹), z* = argmax_z log p(x|z) + log p(z), H = -∇² there.

    Newton's method starts from the mean of q(z|x). Each step takes the length that increases the density most, so the
    density never falls. Directions of negative curvature are followed uphill.

    Args:
      latent: a `core.Latent` whose z is one vector of real numbers.
      num_steps: the number of steps.
      stretch: above 1 the proposal has wider tails than the approximation.

    The distribution raises `ValueError` for another z.
    """

    def distribution(params, x, context=None):
        prior = latent.prior(params, context)
        if not suits(prior):
            raise ValueError("proposal: 'laplace' is for z that is one vector of real numbers; use 'encoder'")

        def log_joint(z):
            return latent.likelihood(params, z, context).log_prob(x) + prior.log_prob(z)

        def step(z, _):
            values, vectors = _curvature(log_joint, z)
            direction = vectors @ ((vectors.T @ jax.grad(log_joint)(z)) / values)
            candidates = z[None] + jnp.asarray(STEP_SIZES)[:, None] * direction[None]
            heights = jax.vmap(log_joint)(candidates)
            return candidates[jnp.argmax(jnp.where(jnp.isfinite(heights), heights, -jnp.inf))], None

        z, _ = jax.lax.scan(step, latent.posterior(params, x, context).mean(), None, length=num_steps)
        values, vectors = _curvature(log_joint, z)
        covariance = (vectors / values[None]) @ vectors.T
        return MultivariateNormal(z, stretch * jnp.linalg.cholesky(0.5 * (covariance + covariance.T)))

    return distribution


def suits(prior) -> bool:
    """Return True if z is one vector of real numbers, whose log-density has a curvature."""
    z = jax.tree.leaves(jax.eval_shape(lambda: prior.sample(jax.random.key(0))))
    return set(supports(prior)) == {Real()} and len(z) == 1 and z[0].ndim == 1


def _curvature(log_joint, z):
    """Return the absolute eigenvalues of -∇² log p(x, z), at least `LEAST_CURVATURE`, and the eigenvectors."""
    values, vectors = jnp.linalg.eigh(-jax.hessian(log_joint)(z))
    return jnp.maximum(jnp.abs(values), LEAST_CURVATURE), vectors
