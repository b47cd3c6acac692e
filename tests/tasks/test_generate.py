"""A density of codes against the density that the codes were drawn from."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax.core import Latent, Model
from vae_jax.distributions import Normal
from vae_jax.distributions.deterministic import Deterministic
from vae_jax.tasks import generate
from vae_jax.tasks.generate import with_code_density

SIZE = 4000
WEIGHTS = np.array([0.25, 0.75])
MEANS = np.array([[-6.0, 0.0], [6.0, 3.0]])
TRILS = np.array([[[1.0, 0.0], [0.8, 0.6]], [[0.5, 0.0], [0.0, 1.5]]])


def identity(posterior):
    """A model whose q(z|x) is `posterior(x)` and whose p(x|z) is a point next to z."""
    likelihood = lambda params, z, context=None: Normal(z, jnp.full(2, -8.0))  # noqa: E731
    latent = Latent(None, lambda params, x, context=None: posterior(x), likelihood)
    return Model(init=None, loss=None, judge=None, latent=latent)


@pytest.fixture(scope="module")
def planted():
    rng = np.random.default_rng(0)
    which = rng.choice(2, size=SIZE, p=WEIGHTS)
    x = MEANS[which] + np.einsum("nij,nj->ni", TRILS[which], rng.normal(size=(SIZE, 2)))
    return {"x": jnp.asarray(x, jnp.float32)}


@pytest.mark.parametrize("scale", [0.0, 1.0])
def test_it_is_the_density_of_the_codes(planted, scale):
    posterior = Deterministic if scale == 0 else lambda x: Normal(x, jnp.full(2, np.log(scale)))
    density = generate.code_density(identity(posterior), {}, planted, jax.random.key(1), 2)
    order = np.argsort(density.components.loc[:, 0])
    np.testing.assert_allclose(jnp.exp(density.log_weights())[order], WEIGHTS, atol=5 * np.sqrt(0.19 / SIZE))
    covariances = TRILS @ np.swapaxes(TRILS, 1, 2) + scale**2 * np.eye(2)  # draws of q(z|x), not its means alone
    fitted = np.asarray(density.components.scale_tril, np.float64)[order]
    for k, covariance in enumerate(covariances):
        variance = np.diag(covariance)
        error = np.sqrt(variance / (SIZE * WEIGHTS[k]))
        np.testing.assert_allclose((density.components.loc[order[k]] - MEANS[k]) / error, 0.0, atol=5)
        error = np.sqrt((np.outer(variance, variance) + covariance**2) / (SIZE * WEIGHTS[k]))
        np.testing.assert_allclose((fitted[k] @ fitted[k].T - covariance) / error, 0.0, atol=5)


def test_a_model_draws_from_it(planted, assert_mean):
    model = identity(Deterministic)
    density = generate.code_density(model, {}, planted, jax.random.key(1), 2)
    sample = jax.jit(jax.vmap(lambda k: with_code_density(model, density).sample({}, k)))
    drawn = sample(jax.random.split(jax.random.key(2), 4000))
    assert_mean(drawn, density.mean())


def test_a_dimension_that_never_varies_has_a_density(planted):
    model = identity(lambda x: Deterministic(x * jnp.array([1.0, 0.0])))
    density = generate.code_density(model, {}, planted, jax.random.key(1), 3)
    drawn = jax.jit(jax.vmap(density.sample))(jax.random.split(jax.random.key(0), 500))
    assert np.isfinite(density.log_prob(jnp.zeros(2))) and np.abs(drawn[:, 1]).max() < 0.1 < np.abs(drawn[:, 0]).max()


@pytest.mark.parametrize(
    ("model", "num_components", "message"),
    [
        (identity(Deterministic)._replace(latent=None), 2, "no `latent`"),
        (identity(lambda x: Deterministic(x[0])), 2, r"shapes \(\)"),
        (identity(Deterministic), SIZE + 1, "between 1 and the 4000 examples, got 4001"),
    ],
)
def test_a_mistake_is_named(planted, model, num_components, message):
    with pytest.raises(ValueError, match=message):
        generate.code_density(model, {}, planted, jax.random.key(0), num_components)
