"""Factor analysis, a VAE whose networks are linear: posterior, evidence and M step are exact.

p(z) = N(0, I)     p(x|z) = N(W z + μ, Ψ)     p(x) = N(μ, W Wᵀ + Ψ)     Ψ = diag(ψ), or σ² I: probabilistic PCA
p(z|x) = N(G (x - μ), M⁻¹),   M = I + WᵀΨ⁻¹W,   G = M⁻¹WᵀΨ⁻¹
"""

import math

import jax
import jax.numpy as jnp

from vae_jax import spec
from vae_jax.core import Latent, Model, Sums, tractable
from vae_jax.distributions import LowRankNormal, MultivariateNormal, Normal, Reshaped
from vae_jax.numerics import mean_and_covariance, moments
from vae_jax.spec import BadOption

NOISES = ("diagonal", "isotropic")
FITS = ("closed_form", "em")


def factor_analysis(event_shape, *, latent_dim, noise, fit, min_variance) -> Model:
    """Return factor analysis, or with isotropic noise probabilistic PCA.

    Args:
      event_shape: the shape of x, of size D.
      latent_dim: R, the size of z.
      noise: "diagonal" for factor analysis, "isotropic" for probabilistic PCA (Tipping and Bishop 1999,
        doi:10.1111/1467-9868.00196).
      fit: "closed_form" for the learner `counting`, only with isotropic noise: W = U (Λ - σ² I)^½ from the R leading
        eigenvectors and eigenvalues of the covariance [D, D] of the data; σ² is the mean of the other eigenvalues.
        "em" for the learner `em` (Rubin and Thayer 1982, doi:10.1007/BF02293851): sums of the size of W [D, R].
      min_variance: the lower limit of every ψ_d, above 0: a pixel that never changes would have an infinite density.
        The M step maximises under this constraint, so the likelihood never falls.

    Raises `BadOption` for an unknown noise or fit, for "closed_form" with diagonal noise, for R outside 1..D-1, and for
    a variance that is not positive.
    """
    size = math.prod(event_shape)
    _check(size, latent_dim, noise, fit, min_variance)

    def allowed(variance):
        return jnp.maximum(jnp.full(size, jnp.mean(variance)) if noise == "isotropic" else variance, min_variance)

    def init(key, batch):
        x = batch["x"].reshape(-1, size)
        variance = allowed(jnp.var(x, axis=0))
        factor = jnp.sqrt(variance / latent_dim)[:, None] * jax.random.normal(key, (size, latent_dim))
        return {"loc": jnp.mean(x, axis=0), "log_scale": 0.5 * jnp.log(variance), "factor": factor}

    def prior(params, context=None):
        return Normal.standard((latent_dim,))

    def posterior(params, x, context=None):
        gain, scale_tril = regression(params)
        return MultivariateNormal(gain @ (jnp.ravel(x) - params["loc"]), scale_tril)

    def likelihood(params, z, context=None):
        loc = params["loc"] + params["factor"] @ z
        return Normal(loc.reshape(event_shape), params["log_scale"].reshape(event_shape))

    def density(params, context=None):
        return Reshaped(LowRankNormal(**params), tuple(event_shape))

    def expect(params, batch):
        x = batch["x"].reshape(-1, size)
        sums = moments(x, params["loc"]) if fit == "closed_form" else expected_moments(params, x)
        return sums, jax.vmap(density(params).log_prob)(batch["x"])

    def maximize(params, sums):
        shift, factor, variance = principal(sums) if fit == "closed_form" else regressed(params, sums)
        return {"loc": params["loc"] + shift, "log_scale": 0.5 * jnp.log(variance), "factor": factor}

    def principal(sums):
        shift, covariance = mean_and_covariance(sums)
        values, vectors = jnp.linalg.eigh(covariance)  # in ascending order
        variance = allowed(values[:-latent_dim])
        stretch = jnp.sqrt(jnp.maximum(values[-latent_dim:] - variance[0], 0.0))
        return shift, (vectors[:, -latent_dim:] * stretch[None])[:, ::-1], variance

    def regressed(params, sums):
        """Regress x - μ on z, both centred: the mean of the data is the best μ for all W and Ψ.

        W moves by the regression of the present residuals ρ on z. Ψ is a sum of squares: the difference of E[x²] and
        the explained part would lose a small Ψ to rounding.
        """
        _, scale_tril = regression(params)
        within = scale_tril @ scale_tril.T
        x, z = sums["x"] / sums["count"], sums["z"] / sums["count"]
        residual = x - params["factor"] @ z
        rr = sums["rr"] / sums["count"] - jnp.square(residual)
        rz = sums["rz"] / sums["count"] - jnp.outer(residual, z)
        zz = sums["zz"] / sums["count"] - jnp.outer(z, z)
        change = jnp.linalg.solve(zz + within, (rz - params["factor"] @ within).T).T
        factor = params["factor"] + change
        square = rr - jnp.sum(change * (2.0 * rz - change @ zz), axis=1)
        return x, factor, allowed(jnp.maximum(square, 0.0) + jnp.sum(jnp.square(factor @ scale_tril), axis=1))

    latent = Latent(prior=prior, posterior=posterior, likelihood=likelihood)
    return tractable(init, density, latent=latent, sums=Sums(expect, maximize, one_pass=fit == "closed_form"))


def regression(params):
    """Return p(z|x): G [R, D], and the lower Cholesky factor U⁻ᵀ of M⁻¹ [R, R], where M = U Uᵀ."""
    a, tril = LowRankNormal(**params).whitened()
    gain = jax.scipy.linalg.cho_solve((tril, True), a.T * jnp.exp(-params["log_scale"])[None])
    identity = jnp.eye(a.shape[1])
    upper = jnp.linalg.cholesky((identity + a.T @ a)[::-1, ::-1])[::-1, ::-1]
    return gain, jax.scipy.linalg.solve_triangular(upper, identity, lower=False).T


def expected_moments(params, x):
    """Return the sums over the rows of x [B, D] of 1, e = x - μ, z = E[z|x], ρ ⊙ ρ, ρ zᵀ and z zᵀ, with ρ = e - W z."""
    gain, _ = regression(params)
    e = x - params["loc"][None]
    z = jnp.matmul(e, gain.T, precision="highest")
    residual = e - jnp.matmul(z, params["factor"].T, precision="highest")
    return {
        "count": jnp.asarray(len(x), e.dtype),
        "x": jnp.sum(e, axis=0),
        "z": jnp.sum(z, axis=0),
        "rr": jnp.sum(jnp.square(residual), axis=0),
        "rz": jnp.matmul(residual.T, z, precision="highest"),
        "zz": jnp.matmul(z.T, z, precision="highest"),
    }


def _check(size, latent_dim, noise, fit, min_variance):
    spec.one_of(NOISES, noise=noise)
    spec.one_of(FITS, fit=fit)
    if fit == "closed_form" and noise != "isotropic":
        raise BadOption("fit: 'closed_form' requires noise 'isotropic', got 'diagonal'; use 'em'")
    spec.integers(latent_dim=latent_dim, at_most=size - 1)
    spec.numbers(min_variance=min_variance, above=0)


def from_config(*, event, latent_dim, noise, fit, min_variance) -> Model:
    """Return the model from the keys of a config; `fit` decides the learner, `counting` or `em`."""
    options = {"noise": noise, "fit": fit, "min_variance": min_variance}
    return factor_analysis(event.shape, latent_dim=latent_dim, **options)
