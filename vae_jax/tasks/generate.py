"""Samples from an auto-encoder: a density of its codes, fitted after training, takes the place of a prior."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.mixture import GaussianMixture

from vae_jax.core import Model
from vae_jax.distributions import Mixture, MultivariateNormal

AT_ONCE = 250  # examples in parallel
FLOOR = 1e-6  # times the mean variance of the codes, added to every variance: constant dimensions need it


def code_density(model, params, data, key, num_components) -> Mixture:
    """Fit a mixture of Gaussians with full covariances to the codes of `data`, for `with_code_density`.

    EM fits it to one draw z_n ~ q(z|x_n) for every example. For an auto-encoder these are its codes. For a VAE they
    follow the aggregate posterior q(z) = (1/N) Σ_n q(z|x_n), which may differ from the prior. This is ex-post density
    estimation, arXiv:1903.12436 sec. 4, which uses 10 components.

    Args:
      model: a `core.Model` with `latent`.
      params: its parameters.
      data: a dict of examples `x` [N, ...], and `context` if the model is conditional.
      key: a JAX key, which draws the codes and the start of EM.
      num_components: the number of Gaussians.

    Raises `ValueError` for a model without codes, for codes that are not vectors, and for more components than
    examples.
    """
    if model.latent is None:
        raise ValueError("a density of codes needs a latent-variable model; this one has no `latent`")
    key_codes, key_start = jax.random.split(key)
    codes = _draws(model.latent, params, jax.random.split(key_codes, len(data["x"])), data)
    if not isinstance(codes, jax.Array) or codes.ndim != 2:
        shapes = jax.tree.map(lambda a: a.shape[1:], codes)
        raise ValueError(f"a mixture of Gaussians requires codes that are vectors, got codes of shapes {shapes}")
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
    generative model of an auto-encoder, and may improve the samples of one that has a p(z). Numbers of the old p(z),
    such as an exact log p(x), are left out: importance weights measure the new one. `loss` and `judge` stay.
    Raises `ValueError` for a model without codes.
    """
    if model.latent is None:
        raise ValueError("a density of codes needs a latent-variable model; this one has no `latent`")
    latent = model.latent.exchange(prior=lambda params, context=None: density)

    def sample(params, key, context=None):
        key_z, key_x = jax.random.split(key)
        return latent.likelihood(params, density.sample(key_z), context).sample(key_x)

    measured = {"log_prob": None, "density": None, "bound": None, "bounds": (), "denoiser": None}
    return model._replace(sample=sample, latent=latent, **measured)


@functools.partial(jax.jit, static_argnums=0)
def _draws(latent, params, keys, data):
    def draw(item):
        key, example = item
        return latent.posterior(params, example["x"], example.get("context")).sample(key)

    return jax.lax.map(draw, (keys, data), batch_size=AT_ONCE)
