"""One pass that gives all that a bound needs (`Latent.evidence`) against the three distributions it stands for.

z_2 ~ N(0, I), z_1 | z_2 ~ N(A z_2, s² I), x | z_1 ~ N(B z_1, t² I); q(z_2|x) and q(z_1|x, z_2) are affine.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax.random import clone

from vae_jax.core import Evidence, Latent
from vae_jax.distributions import Normal, Sequential, draw, kl_divergence
from vae_jax.evaluation.likelihood import importance_weighted
from vae_jax.objectives import elbo, elbo_sampled_kl, iwae
from vae_jax.objectives.bounds import evidences, log_weight, plain_elbo
from vae_jax.spec import BadOption

LOG_S, LOG_T = -0.4, -0.2
RNG = np.random.default_rng(0)
PARAMS = {
    name: jnp.asarray(RNG.normal(scale=0.4, size=shape), jnp.float32)
    for name, shape in {"a": (3, 2), "b": (4, 3), "x_to_2": (2, 4), "x_to_1": (3, 4), "2_to_1": (3, 2)}.items()
}
X = jnp.array([0.5, -1.0, 0.3, 0.8])


def q_of_1(params, x, before):
    return Normal(params["x_to_1"] @ x + params["2_to_1"] @ before[0], jnp.full(3, -0.1))


def q_of_2(params, x):
    return Normal(params["x_to_2"] @ x, jnp.full(2, 0.1))


def p_of_1(params, given, before):
    return Normal(params["a"] @ before[0], jnp.full(3, LOG_S))


def likelihood(params, z, context=None):
    return Normal(params["b"] @ z[0], jnp.full(4, LOG_T))


def evidence(params, key, x, context=None):
    """Draw from the top to the bottom, and sum up each level on the way."""
    key_2, key_1 = jax.random.split(key)
    levels = []
    z_2, log_q_2 = draw(q_of_2(params, x), key_2)
    levels.append((q_of_2(params, x), Normal.standard((2,))))
    z_1, log_q_1 = draw(q_of_1(params, x, (z_2,)), key_1)
    levels.append((q_of_1(params, x, (z_2,)), p_of_1(params, None, (z_2,))))
    kl = jnp.stack([kl_divergence(q, p) for q, p in reversed(levels)])
    log_prior = levels[0][1].log_prob(z_2) + levels[1][1].log_prob(z_1)
    z = (z_1, z_2)
    return Evidence(z, likelihood(params, z).log_prob(x), log_prior, log_q_2 + log_q_1, kl)


THREE = Latent(
    prior=lambda params, context=None: Sequential(Normal.standard((2,)), params, None, (p_of_1,), reverse=True),
    posterior=lambda params, x, context=None: Sequential(q_of_2(params, x), params, x, (q_of_1,), reverse=True),
    likelihood=likelihood,
)
ONE_PASS = THREE._replace(evidence=evidence)


@pytest.mark.parametrize("equation", [elbo_sampled_kl, iwae])
def test_the_same_draws_give_the_same_value_terms_and_gradient(equation):
    @jax.jit
    def evaluate(params):
        def value(params, latent):
            return equation(latent, params, jax.random.key(0), X, num_samples=5)

        return [jax.value_and_grad(value, has_aux=True)(params, latent) for latent in (ONE_PASS, THREE)]

    one_pass, three = evaluate(PARAMS)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), one_pass, three)


def test_the_elbo_of_closed_forms_by_level_is_that_of_draws(assert_mean):
    """The three distributions have no closed-form KL; one pass has one for each level, given the draws above."""

    @jax.jit
    @jax.vmap
    def both(key):
        sampled, _ = elbo_sampled_kl(THREE, PARAMS, clone(key), X)
        closed, terms = elbo(ONE_PASS, PARAMS, clone(key), X)
        return sampled, closed, terms, plain_elbo(ONE_PASS, PARAMS, clone(key), X, num_samples=1)[1]

    sampled, closed, terms, plain = both(jax.random.split(jax.random.key(1), 20_000))
    assert_mean(closed - sampled, 0.0)
    assert np.var(closed) < np.var(sampled)
    np.testing.assert_allclose(closed, terms["bound"], rtol=1e-5)
    np.testing.assert_allclose(closed, -terms["distortion"] - terms["rate"], rtol=1e-4, atol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), plain, terms)
    with pytest.raises(BadOption, match=r"'elbo' cannot be used .* no closed-form KL; use 'elbo_sampled_kl'"):
        elbo(THREE, PARAMS, jax.random.key(0), X)


def test_a_divergence_for_every_level():
    """The top one is the same for all draws; the sum over the levels of their mean is the rate."""
    keys = jax.random.split(jax.random.key(2), 6)
    by_level = jax.jit(jax.vmap(lambda key: evidence(PARAMS, key, X).kl))(keys)
    assert by_level.shape == (6, 2) and np.all(by_level > 0)
    top = kl_divergence(q_of_2(PARAMS, X), Normal.standard((2,)))
    np.testing.assert_allclose(by_level[:, 1], np.full(6, top), rtol=1e-5)
    assert np.std(by_level[:, 0]) > 0.01
    draws = jax.jit(lambda key: evidences(ONE_PASS, PARAMS, key, X, None, 6))(jax.random.key(2))
    assert draws.kl.shape == () and draws.log_lik.shape == draws.log_q.shape == (6,)
    np.testing.assert_allclose(draws.kl, by_level.sum(axis=1).mean(), rtol=1e-5)


def test_importance_weights_reach_the_exact_evidence():
    """log p(x) of the joint Gaussian, by one pass as by three distributions."""
    a, b = (np.asarray(PARAMS[name], np.float64) for name in "ab")
    z_1 = a @ a.T + np.exp(2 * LOG_S) * np.eye(3)
    exact = scipy.stats.multivariate_normal(np.zeros(4), b @ z_1 @ b.T + np.exp(2 * LOG_T) * np.eye(4)).logpdf(X)

    @jax.jit
    def weigh(key):
        both = (ONE_PASS, THREE)
        parts = [importance_weighted(latent, PARAMS, clone(key), X, num_samples=20_000) for latent in both]
        return parts, [log_weight(latent, PARAMS, clone(key), X) for latent in both]

    (one_pass, three), weights = weigh(jax.random.key(3))
    np.testing.assert_allclose(*weights, rtol=1e-4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3), one_pass, three)
    error = np.sqrt((20_000 / one_pass["ess"] - 1) / 20_000)
    assert abs(one_pass["log_prob"] - exact) < 5 * error
