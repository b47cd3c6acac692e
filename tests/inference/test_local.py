"""Variational inference for each example against the mean-field optimum of a Gaussian posterior."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from vae_jax.distributions import Normal
from vae_jax.inference import local

STEPS = 1000
OPTIMIZER = optax.adam(optax.cosine_decay_schedule(0.1, STEPS))


@pytest.fixture(scope="module")
def x(linear_gaussian):
    return linear_gaussian.data(6)


@pytest.mark.parametrize("initial", ["prior", "posterior", Normal(jnp.full(2, -1.0), jnp.full(2, 1.0))], ids=str)
def test_the_optimum_is_the_known_one(linear_gaussian, x, initial):
    """argmin_q KL(q || N(m, Λ⁻¹)) over diagonal q is N(m, diag(Λ)⁻¹), at KL = ½ (Σ log Λ_dd - log |Λ|)."""

    @jax.jit
    def run(key):
        one = lambda key, x: local.fit(  # noqa: E731
            linear_gaussian.mean_field,
            linear_gaussian.wrong,
            key,
            x,
            initial=initial,
            optimizer=OPTIMIZER,
            num_steps=STEPS,
            num_samples=16,
        )
        return jax.vmap(one)(jax.random.split(key, len(x)), x)

    fitted = run(jax.random.key(0))
    precision = np.linalg.inv(linear_gaussian.posterior_covariance)
    scale = np.broadcast_to(np.diag(precision) ** -0.5, (len(x), 2))
    np.testing.assert_allclose(fitted.q.loc, linear_gaussian.posterior_mean(x), atol=0.02)
    np.testing.assert_allclose(np.exp(fitted.q.log_scale), scale, rtol=0.03)
    gap = 0.5 * (np.log(np.diag(precision)).sum() - np.linalg.slogdet(precision)[1])
    assert fitted.bound.shape == (len(x), STEPS)
    late = np.asarray(fitted.bound[:, -300:])
    error = late.std() / np.sqrt(late.size)
    assert abs(np.mean(late - (linear_gaussian.log_prob(x) - gap)[:, None])) < 5 * error + 1e-3
    assert np.all(late.mean(axis=1) > fitted.bound[:, :1].mean(axis=1) - 0.5)


def test_a_start_with_constraints_is_refused(linear_gaussian, x):
    for initial, name in (("posterior", "MultivariateNormal"), ("encoder", "'encoder'")):
        with pytest.raises(ValueError, match=f"a distribution that is a Normal, got {name}"):
            local.fit(
                linear_gaussian.latent,
                linear_gaussian.wrong,
                jax.random.key(0),
                x[0],
                initial=initial,
                optimizer=OPTIMIZER,
                num_steps=2,
                num_samples=1,
            )


def test_a_pass_of_the_old_posterior_is_not_taken_for_the_new_one(linear_gaussian, x):
    """`evidence` belongs to the encoder's q: with it, every q would seem as good as any other."""
    broken = linear_gaussian.mean_field._replace(evidence=lambda *_: pytest.fail("the old posterior"))
    options = {"initial": "prior", "optimizer": OPTIMIZER, "num_steps": 2, "num_samples": 1}
    local.fit(broken, linear_gaussian.wrong, jax.random.key(0), x[0], **options)
    with pytest.raises(ValueError, match=r"requires p\(z\), and this model has none"):
        local.fit(broken._replace(prior=None), linear_gaussian.wrong, jax.random.key(0), x[0], **options)
