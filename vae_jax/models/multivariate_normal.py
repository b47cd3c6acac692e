"""One Gaussian with a full covariance, by counting: x = A z + μ, z ~ N(0, I), A Aᵀ = Σ.

p(x) = N(x; μ, Σ)        μ = Σ_n x_n / N        Σ = (1 - λ) S + λ tr(S)/D I,   S = Σ_n (x_n - μ)(x_n - μ)ᵀ / N
"""

import math

import jax
import jax.numpy as jnp

from vae_jax import spec
from vae_jax.core import Model, Sums, tractable
from vae_jax.distributions import MultivariateNormal, Reshaped
from vae_jax.numerics import mean_and_covariance, moments


def multivariate_normal(event_shape, *, shrinkage) -> Model:
    """Return a Gaussian over events of size D, fitted by `counting`.

    λ = `shrinkage` in [0, 1] moves the covariance S of maximum likelihood towards a multiple of the identity with the
    same trace (Ledoit and Wolf 2004, doi:10.1016/S0047-259X(03)00096-4). The diagonal of S would not do as a target: it
    is 0 for a pixel that never changes. λ = 0 is maximum likelihood: with such pixels, or with fewer than D + 1
    examples, S is singular and the density is NaN.
    Params: μ [D] as `loc`, A [D, D] as `scale_tril`, the Cholesky factor of Σ.
    Raises `BadOption` for a shrinkage outside [0, 1].
    """
    spec.numbers(shrinkage=shrinkage, at_least=0, at_most=1)
    size = math.prod(event_shape)

    def init(key, batch):
        return {"loc": jnp.ravel(jnp.mean(batch["x"], axis=0)), "scale_tril": jnp.eye(size)}

    def density(params, context=None):
        return Reshaped(MultivariateNormal(params["loc"], params["scale_tril"]), tuple(event_shape))

    def expect(params, batch):
        log_prob = jax.vmap(density(params).log_prob)(batch["x"])
        return moments(batch["x"].reshape(-1, size), params["loc"]), log_prob

    def maximize(params, sums):
        shift, covariance = mean_and_covariance(sums)
        ball = jnp.trace(covariance) / size * jnp.eye(size)
        scale_tril = jnp.linalg.cholesky((1.0 - shrinkage) * covariance + shrinkage * ball)
        return {"loc": params["loc"] + shift, "scale_tril": scale_tril}

    return tractable(init, density, sums=Sums(expect, maximize, one_pass=True))


def from_config(*, event, shrinkage) -> Model:
    """Return the model from the keys of a config; the learner is `counting`."""
    return multivariate_normal(event.shape, shrinkage=shrinkage)
