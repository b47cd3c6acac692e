"""What an auto-encoder lacks to draw images: a density of its codes, fitted when it is trained."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.mixture import GaussianMixture

from vae_jax.core import Model
from vae_jax.distributions import Mixture, MultivariateNormal

AT_ONCE = 250  # examples side by side
FLOOR = 1e-6  # added to the variances, of the average variance of a code: dimensions that never vary have a density too


def code_density(model, params, data, key, num_components) -> Mixture:
    """A mixture of `num_components` full Gaussians, fitted by EM to z_n ~ q(z|x_n), one draw for every example of
    `data`: of an auto-encoder its codes, of a VAE the aggregate posterior q(z) = (1/N) Σ_n q(z|x_n), which its prior
    may miss. What `with_code_density` takes: ex-post density estimation, arXiv:1903.12436 sec. 4 (10 components).

    `key` draws the codes and chooses where EM starts. Raises `ValueError` for a model without codes, codes that are not
    vectors, and more components than examples.
    """
    if model.latent is None:
        raise ValueError("a density of codes needs a latent-variable model; this one has no `latent`")
    key_codes, key_start = jax.random.split(key)
    codes = _draws(model.latent, params, jax.random.split(key_codes, len(data["x"])), data)
    if not isinstance(codes, jax.Array) or codes.ndim != 2:
        shapes = jax.tree.map(lambda a: a.shape[1:], codes)
        raise ValueError(f"a mixture of Gaussians is a density of vectors; the codes have the shapes {shapes}")
    if not 1 <= num_components <= len(codes):
        raise ValueError(f"num_components must be between 1 and the {len(codes)} examples, got {num_components}")
    codes = np.asarray(codes, np.float64)
    start = np.random.RandomState(np.asarray(jax.random.key_data(key_start)))
    mixture = GaussianMixture(num_components, reg_covar=FLOOR * codes.var(0).mean(), max_iter=500, random_state=start)
    mixture.fit(codes)
    fitted = np.log(mixture.weights_), mixture.means_, np.linalg.cholesky(mixture.covariances_)
    logits, mean, scale_tril = (jnp.asarray(a, jnp.float32) for a in fitted)
    return Mixture(logits, MultivariateNormal(mean, scale_tril))


def with_code_density(model, density) -> Model:
    """Return `model` with `density`, a distribution fitted to its codes, in the place of p(z).

    p(x) = ∫ p(x|z) p(z) dz can then be drawn from. This ex-post density estimation, arXiv:1903.12436 sec. 4, makes a
    generative model of an auto-encoder, and may improve the samples of one that has a p(z). Raises `ValueError` for a
    model without codes.
    """
    if model.latent is None:
        raise ValueError("a density of codes needs a latent-variable model; this one has no `latent`")
    latent = model.latent._replace(prior=lambda params, context=None: density)

    def sample(params, key, context=None):
        key_z, key_x = jax.random.split(key)
        return latent.likelihood(params, density.sample(key_z), context).sample(key_x)

    return model._replace(sample=sample, latent=latent, bound=None)


@functools.partial(jax.jit, static_argnums=0)
def _draws(latent, params, keys, data):
    def draw(item):
        key, example = item
        return latent.posterior(params, example["x"], example.get("context")).sample(key)

    return jax.lax.map(draw, (keys, data), batch_size=AT_ONCE)
