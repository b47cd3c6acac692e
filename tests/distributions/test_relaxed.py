"""Relaxations against the logistic distribution, quadrature, and the discrete distributions they relax."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from vae_jax.conditionals import heads
from vae_jax.distributions import Bernoulli, Normal, OneHot, RelaxedBernoulli, RelaxedOneHot, relax

RNG = np.random.default_rng(0)
LOGITS = jnp.asarray(RNG.normal(scale=2.0, size=(2, 3)), jnp.float32)
BITS = RelaxedBernoulli(LOGITS, jnp.float32(0.4))
DRAWS = 4000


def keys():
    return jax.random.split(jax.random.key(0), DRAWS)


def test_the_logit_of_a_relaxed_bit_is_logistic():
    y = jax.vmap(BITS.sample)(keys())
    truth = scipy.stats.logistic(np.asarray(LOGITS, np.float64) / 0.4, 1 / 0.4)
    np.testing.assert_allclose(jax.vmap(BITS.log_prob)(y), truth.logpdf(y).sum((1, 2)), rtol=1e-4, atol=1e-4)
    for d in np.ndindex(2, 3):
        location = float(LOGITS[d]) / 0.4
        assert scipy.stats.kstest(y[:, *d], scipy.stats.logistic(location, 1 / 0.4).cdf).pvalue > 1e-5
    np.testing.assert_allclose(BITS.mean(), truth.mean(), rtol=1e-6)


def test_the_density_from_the_noise_is_that_of_the_draw():
    y, log_p = jax.vmap(BITS.sample_and_log_prob)(keys())
    np.testing.assert_allclose(log_p, jax.vmap(BITS.log_prob)(y), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("discrete", [Bernoulli(LOGITS), OneHot(LOGITS)], ids=["bits", "one-hot"])
def test_the_hard_draw_is_the_discrete_draw_of_the_same_key(discrete):
    relaxed = relax(discrete, 0.4)
    y, x = jax.vmap(relaxed.sample)(keys()), jax.vmap(discrete.sample)(keys())
    np.testing.assert_array_equal(jax.vmap(relaxed.hard)(y), x)


@pytest.mark.parametrize("discrete", [Bernoulli(LOGITS), OneHot(LOGITS)], ids=["bits", "one-hot"])
def test_the_soft_draw_tends_to_the_hard_one(discrete):
    def distance(temperature):
        relaxed = relax(discrete, temperature)
        y = jax.vmap(relaxed.sample)(keys())
        return float(jnp.mean(jnp.abs(jax.vmap(relaxed.soft)(y) - jax.vmap(relaxed.hard)(y))))

    far, near, nearest = (distance(t) for t in (1.0, 0.1, 0.01))
    assert far > 3 * near > 9 * nearest > 0


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_relaxed_categories_are_a_density_on_the_simplex(temperature):
    """Of two categories: it adds up to one, and is the relaxed bit of the difference of the logits."""
    logits = jnp.array([0.3, -0.4])
    relaxed, bit = RelaxedOneHot(logits, temperature), RelaxedBernoulli(logits[:1] - logits[1:], temperature)

    @jax.jit
    def density(x):
        y = jnp.log(jnp.stack([x, 1.0 - x]))
        return jnp.exp(relaxed.log_prob(y) - jnp.sum(y))

    total, _ = scipy.integrate.quad(density, 1e-6, 1 - 1e-6, limit=200, epsabs=1e-4)
    np.testing.assert_allclose(total, 1.0, atol=0.01)
    for x in (0.1, 0.5, 0.8):
        logit = jnp.array([scipy.special.logit(x)])
        np.testing.assert_allclose(density(x), np.exp(bit.log_prob(logit)) / (x * (1 - x)), rtol=1e-4)


def test_relaxed_categories_are_a_density_of_their_own_draws():
    """E[p₂(y) / p₁(y)] = 1 for any other p₂: two temperatures of three categories."""
    one, other = RelaxedOneHot(LOGITS[:1], 0.7), RelaxedOneHot(0.5 * LOGITS[:1], 0.8)
    y = jax.vmap(one.sample)(jax.random.split(jax.random.key(0), 50_000))
    ratio = np.asarray(jnp.exp(jax.vmap(other.log_prob)(y) - jax.vmap(one.log_prob)(y)), np.float64)
    assert abs(ratio.mean() - 1.0) < 5 * ratio.std() / np.sqrt(len(ratio))


def test_gradients_reach_the_logits_through_a_draw():
    for relaxed in (BITS, RelaxedOneHot(LOGITS, 0.4)):
        soft = lambda logits, r=relaxed: jnp.sum(r.soft(r.replace(logits=logits).sample(jax.random.key(0))) ** 2)  # noqa: E731
        assert np.all(np.abs(jax.grad(soft)(LOGITS)) > 0)


def test_what_cannot_be_relaxed_is_refused():
    with pytest.raises(TypeError, match=r"no relaxation of Normal \(allowed: Bernoulli, OneHot\)"):
        relax(Normal.standard((2,)), 0.5)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_the_temperature_of_a_head_is_positive(temperature):
    with pytest.raises(ValueError, match=r"temperature must be (above 0|one finite number, above 0)"):
        heads.relaxed_bernoulli((2,), temperature=temperature)
