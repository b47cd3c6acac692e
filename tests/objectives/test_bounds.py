"""Every bound against the exact log p(x) of a linear-Gaussian model."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import watched

from vae_jax import objectives
from vae_jax.core import Latent
from vae_jax.distributions import Mixture, Normal, kl_per_dim
from vae_jax.objectives.bounds import (
    capacity,
    ciwae,
    elbo,
    elbo_sampled_kl,
    free_bits,
    iwae,
    log_weight,
    miwae,
    piwae,
    plain_elbo,
    plain_iwae,
    renyi,
    stratified_elbo,
)
from vae_jax.spec import BadOption

SIZE, DRAWS = 4, 2000


@functools.partial(jax.jit, static_argnums=(0, 1), static_argnames="num_samples")
def draw(equation, latent, params, x, **options):
    keys = jax.random.split(jax.random.key(0), (len(x), DRAWS))
    one = functools.partial(equation, latent, params, **options)
    return jax.vmap(lambda x, keys: jax.vmap(lambda key: one(key, x))(keys))(x, keys)


def estimates(equation, latent, params, x, *, num_samples=1, beta=1.0):
    """Independent estimates for every x: values [N, DRAWS], terms {name: [N, DRAWS]}."""
    options = {} if equation is iwae else {"beta": beta}
    return jax.tree.map(np.asarray, draw(equation, latent, params, x, num_samples=num_samples, **options))


@pytest.fixture(scope="module")
def x(linear_gaussian):
    return linear_gaussian.data(SIZE)


@pytest.mark.parametrize("equation", [elbo_sampled_kl, iwae])
@pytest.mark.parametrize("num_samples", [1, 8])
def test_the_exact_posterior_makes_every_sample_equal_log_p(linear_gaussian, x, equation, num_samples):
    value, terms = estimates(equation, linear_gaussian.latent, linear_gaussian.exact, x, num_samples=num_samples)
    expected = np.repeat(linear_gaussian.log_prob(x)[:, None], DRAWS, axis=1)
    np.testing.assert_allclose(value, expected, atol=1e-4)
    np.testing.assert_allclose(terms["bound"], expected, atol=1e-4)


@pytest.mark.parametrize("mean_field", [False, True], ids=["full", "diagonal"])
@pytest.mark.parametrize("equation", [elbo, elbo_sampled_kl])
def test_the_gap_of_the_elbo_is_the_kl_to_the_posterior(linear_gaussian, x, equation, mean_field, assert_mean):
    latent = linear_gaussian.mean_field if mean_field else linear_gaussian.latent
    for params in (linear_gaussian.exact, linear_gaussian.wrong):
        if equation is elbo_sampled_kl and not mean_field and params is linear_gaussian.exact:
            continue  # no variance: tested above
        value, _ = estimates(equation, latent, params, x)
        gap = linear_gaussian.kl_to_posterior(params, mean_field)
        assert_mean(value.T, linear_gaussian.log_prob(x) - gap)


def test_more_samples_tighten_the_bound(linear_gaussian, x, assert_mean):
    latent, wrong = linear_gaussian.latent, linear_gaussian.wrong
    bounds = [estimates(iwae, latent, wrong, x, num_samples=k)[0] for k in (1, 8, 64)]
    gap = linear_gaussian.kl_to_posterior(linear_gaussian.wrong)
    assert_mean(bounds[0].T, linear_gaussian.log_prob(x) - gap)  # IWAE_1 is the ELBO
    ladder = [bound.mean(axis=1) for bound in bounds] + [linear_gaussian.log_prob(x)]
    errors = [bound.std(axis=1) / np.sqrt(DRAWS) for bound in bounds] + [0.0]
    for i in range(3):
        slack = 5 * np.hypot(errors[i], errors[i + 1])
        assert np.all(ladder[i] <= ladder[i + 1] + slack)
    assert np.all(ladder[1] - ladder[0] > 0.5 * gap)


def weight(*args, **_):
    return log_weight(*args), {}


def test_the_weights_are_unbiased(linear_gaussian, x, assert_mean):
    """E[w] = p(x); q is wide enough here that w has a variance."""
    log_w, _ = estimates(weight, linear_gaussian.latent, linear_gaussian.wrong, x)
    assert_mean(np.exp(log_w - linear_gaussian.log_prob(x)[:, None]).T, 1.0)


@pytest.mark.parametrize("equation", [elbo, elbo_sampled_kl])
def test_samples_of_one_example_average(linear_gaussian, x, equation, assert_mean):
    """L samples: the same mean, and a variance L times smaller."""
    one = estimates(equation, linear_gaussian.latent, linear_gaussian.wrong, x)[0]
    many = estimates(equation, linear_gaussian.latent, linear_gaussian.wrong, x, num_samples=8)[0]
    assert_mean((one - many).T, 0.0)
    np.testing.assert_allclose(one.var(axis=1) / many.var(axis=1), 8.0, rtol=0.3)


@pytest.mark.parametrize("equation", [elbo, elbo_sampled_kl])
def test_beta_weighs_the_value_and_never_the_bound(linear_gaussian, x, equation):
    plain, terms = estimates(equation, linear_gaussian.latent, linear_gaussian.wrong, x)
    value, weighted = estimates(equation, linear_gaussian.latent, linear_gaussian.wrong, x, beta=4.0)
    jax.tree.map(np.testing.assert_array_equal, terms, weighted)
    np.testing.assert_allclose(value, -terms["distortion"] - 4.0 * terms["rate"], rtol=1e-5)
    np.testing.assert_allclose(plain, terms["bound"], rtol=1e-6)


@pytest.mark.parametrize("equation", [elbo, elbo_sampled_kl])
def test_the_bound_is_minus_rate_and_distortion(linear_gaussian, x, equation):
    _, terms = estimates(equation, linear_gaussian.latent, linear_gaussian.wrong, x)
    np.testing.assert_allclose(terms["bound"], -(terms["rate"] + terms["distortion"]), rtol=1e-5)


def test_the_importance_weighted_bound_is_above_the_elbo_of_its_samples(linear_gaussian, x):
    value, terms = estimates(iwae, linear_gaussian.latent, linear_gaussian.wrong, x, num_samples=8)
    assert np.all(value >= -(terms["rate"] + terms["distortion"]) - 1e-5)
    np.testing.assert_array_equal(value, terms["bound"])


def test_the_sampled_rate_has_the_mean_of_the_closed_form(linear_gaussian, x, assert_mean):
    _, closed = estimates(elbo, linear_gaussian.latent, linear_gaussian.wrong, x)
    _, sampled = estimates(elbo_sampled_kl, linear_gaussian.latent, linear_gaussian.wrong, x)
    assert_mean(sampled["rate"].T, closed["rate"][:, 0])


@pytest.mark.parametrize("equation", [elbo, elbo_sampled_kl, iwae])
def test_the_gradient_points_to_the_posterior(linear_gaussian, x, equation):
    """By the shift of q, the ELBO's slope is -S⁻¹ shift; IWAE's has its sign and is smaller."""

    @jax.jit
    @jax.grad
    def slope(params):
        keys = jax.random.split(jax.random.key(0), (len(x), 2000))
        one = lambda x, key: equation(linear_gaussian.latent, params, key, x, num_samples=2)[0]  # noqa: E731
        return jnp.mean(jax.vmap(jax.vmap(one, (None, 0)))(x, keys))

    gradient = slope(linear_gaussian.wrong)
    assert all(np.isfinite(g).all() for g in gradient.values())
    expected = -np.linalg.inv(linear_gaussian.posterior_covariance) @ np.asarray(linear_gaussian.wrong["shift"])
    ratio = np.asarray(gradient["shift"]) / expected
    if equation is iwae:
        assert np.all((ratio > 0) & (ratio < 0.9))
    else:
        np.testing.assert_allclose(ratio, 1.0, atol=0.25)


NEW = (miwae, piwae, functools.partial(renyi, alpha=0.5), functools.partial(ciwae, elbo_weight=0.5))
CAPACITY, FREE = functools.partial(capacity, gamma=1.0, nats=1.0), functools.partial(free_bits, free_nats=0.1)


@pytest.mark.parametrize("equation", [elbo, elbo_sampled_kl, iwae, log_weight, *NEW, CAPACITY, FREE])
def test_context_reaches_every_distribution(linear_gaussian, equation):
    latent, calls = watched(linear_gaussian.mean_field)
    run = lambda key, x: equation(latent, linear_gaussian.exact, key, x, "the context")  # noqa: E731
    jax.eval_shape(run, jax.random.key(0), jnp.zeros(3))
    assert set(calls) == {(name, "the context") for name in ("prior", "posterior", "likelihood")}


# ---------------------------------------------------------------------------------------------- bounds beside the two


def same_samples(linear_gaussian, x, equation, **options):
    """Estimates [N, DRAWS] and terms for the same keys, hence the same samples, whatever the equation."""
    given = draw(equation, linear_gaussian.latent, linear_gaussian.wrong, x, **options)
    return jax.tree.map(functools.partial(np.asarray, dtype=np.float64), given)


def test_the_bounds_of_evaluation_are_those_of_training(linear_gaussian, x):
    """Value, terms and draws; with a KL in closed form and without."""
    for plain, equation in ((plain_elbo, elbo), (plain_iwae, iwae)):
        pair = (same_samples(linear_gaussian, x, function, num_samples=8) for function in (plain, equation))
        jax.tree.map(np.testing.assert_array_equal, *pair)


def test_renyi_falls_from_iwae_to_the_elbo_and_on(linear_gaussian, x):
    """The power mean inequality, sample by sample; at α = 0 it is IWAE, near 1 the ELBO."""
    given = {
        a: same_samples(linear_gaussian, x, renyi, num_samples=8, alpha=a)[0] for a in (-1.0, 0.0, 0.5, 0.999, 3.0)
    }
    ladder = list(given.values())
    assert all(np.all(high >= low - 1e-3) for high, low in itertools.pairwise(ladder))
    assert all(np.all(high.mean(axis=1) > low.mean(axis=1) + 0.05) for high, low in itertools.pairwise(ladder))
    np.testing.assert_allclose(given[0.0], same_samples(linear_gaussian, x, iwae, num_samples=8)[0], atol=1e-4)
    average, _ = same_samples(linear_gaussian, x, elbo_sampled_kl, num_samples=8)
    np.testing.assert_allclose(given[0.999], average, atol=0.05)


def test_renyi_is_smooth_and_finite_where_a_schedule_passes_one(linear_gaussian, x):
    average, _ = same_samples(linear_gaussian, x, elbo_sampled_kl, num_samples=8)
    for alpha in (jnp.float32(1.0), 1.0 - 1e-6, 1.0 + 1e-6, 1.0 - 9e-4, 1.0 - 1.1e-3):
        value, _ = same_samples(linear_gaussian, x, renyi, num_samples=8, alpha=alpha)
        np.testing.assert_allclose(value, average, atol=0.05 if abs(alpha - 1) > 1e-4 else 1e-3)
    slope = jax.grad(lambda p: renyi(linear_gaussian.latent, p, jax.random.key(0), x[0], alpha=jnp.float32(1.0))[0])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope(linear_gaussian.wrong)))


def test_the_terms_of_renyi_do_not_depend_on_alpha(linear_gaussian, x):
    value, terms = same_samples(linear_gaussian, x, renyi, num_samples=8, alpha=-1.0)
    np.testing.assert_array_equal(terms.pop("renyi"), value)
    expected = same_samples(linear_gaussian, x, iwae, num_samples=8)[1]
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), terms, expected)
    assert np.all(value >= terms["bound"] - 1e-4)  # the value may exceed log p(x), the bound is IWAE's


def test_renyi_of_one_is_refused(linear_gaussian):
    with pytest.raises(ValueError, match="alpha must differ from 1, got 1; the limit is objective 'elbo_sampled_kl'"):
        renyi(linear_gaussian.latent, linear_gaussian.wrong, jax.random.key(0), jnp.zeros(3), alpha=1)


def test_the_combination_lies_between_its_bounds(linear_gaussian, x):
    low, _ = same_samples(linear_gaussian, x, elbo_sampled_kl, num_samples=8)
    high, terms = same_samples(linear_gaussian, x, iwae, num_samples=8)
    ends = [same_samples(linear_gaussian, x, ciwae, num_samples=8, elbo_weight=w) for w in (1.0, 0.25, 0.0)]
    np.testing.assert_allclose(ends[0][0], low, atol=1e-4)
    np.testing.assert_allclose(ends[1][0], 0.25 * low + 0.75 * high, atol=1e-4)
    np.testing.assert_allclose(ends[2][0], high, atol=1e-4)
    for _, given in ends:
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), given, terms)


def test_groups_of_samples_lie_between_the_elbo_and_iwae_of_all(linear_gaussian, x, assert_mean):
    low, _ = same_samples(linear_gaussian, x, elbo_sampled_kl, num_samples=8)
    high, terms = same_samples(linear_gaussian, x, iwae, num_samples=8)
    middle, _ = same_samples(linear_gaussian, x, functools.partial(miwae, num_outer=4), num_samples=2)
    partial, named = same_samples(linear_gaussian, x, functools.partial(piwae, num_outer=4), num_samples=2)
    assert np.all(low <= middle + 1e-4) and np.all(middle <= high + 1e-4)
    assert np.all(middle.mean(axis=1) > low.mean(axis=1) + 0.02)
    assert np.all(high.mean(axis=1) > middle.mean(axis=1) + 0.02)
    np.testing.assert_allclose(partial, high, atol=1e-4)
    np.testing.assert_allclose(named.pop("miwae"), middle, atol=1e-4)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), named, terms)
    assert_mean((middle - estimates(iwae, linear_gaussian.latent, linear_gaussian.wrong, x, num_samples=2)[0]).T, 0.0)


def test_free_bits_charge_no_dimension_less_than_lambda(linear_gaussian, x):
    latent, params = linear_gaussian.mean_field, linear_gaussian.wrong
    kl = np.asarray(jax.vmap(lambda x: kl_per_dim(latent.posterior(params, x), latent.prior(params)))(x), np.float64)
    threshold = float(np.median(kl))
    given = draw(free_bits, latent, params, x, free_nats=threshold, num_samples=1)
    plain, expected = draw(elbo, latent, params, x, num_samples=1)
    value, terms = given[0], dict(given[1])
    charged = np.maximum(kl, threshold).sum(axis=1)
    np.testing.assert_allclose(terms.pop("free_rate")[:, 0], charged, rtol=1e-5)
    np.testing.assert_allclose(value, -terms["distortion"] - charged[:, None], rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, terms, expected)
    np.testing.assert_allclose(draw(free_bits, latent, params, x, free_nats=0.0, num_samples=1)[0], plain, rtol=1e-5)


def test_free_bits_pull_on_what_is_charged_alone(linear_gaussian, x):
    """The KL's own gradient: all of it where every dimension is above λ, none where every one is below."""
    latent = linear_gaussian.mean_field._replace(likelihood=lambda params, z, context=None: Normal.standard((3,)))
    slope = lambda **options: jax.grad(  # noqa: E731
        lambda p: free_bits(latent, p, jax.random.key(0), x[0], **options)[0]
    )(linear_gaussian.wrong)
    whole = jax.grad(lambda p: elbo(latent, p, jax.random.key(0), x[0])[0])(linear_gaussian.wrong)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5), slope(free_nats=0.0), whole)
    assert all(np.all(leaf == 0.0) for leaf in jax.tree.leaves(slope(free_nats=100.0)))


def test_capacity_is_the_distance_from_the_nats_asked_for(linear_gaussian, x):
    latent, params = linear_gaussian.latent, linear_gaussian.wrong
    value, terms = draw(capacity, latent, params, x, gamma=10.0, nats=2.0, num_samples=1)
    expected = draw(elbo, latent, params, x, num_samples=1)[1]
    terms = dict(terms)
    np.testing.assert_allclose(terms.pop("excess"), expected["rate"] - 2.0, rtol=1e-5)
    np.testing.assert_allclose(value, -expected["distortion"] - 10.0 * np.abs(expected["rate"] - 2.0), rtol=1e-5)
    jax.tree.map(np.testing.assert_array_equal, terms, expected)


@pytest.mark.parametrize("equation", [miwae, piwae])
def test_groups_are_refused_without_samples(linear_gaussian, equation):
    place = (linear_gaussian.latent, linear_gaussian.wrong, jax.random.key(0), jnp.zeros(3))
    for name in ("num_samples", "num_outer"):
        with pytest.raises(BadOption, match=f"^{name} must be at least 1, got -2"):
            equation(*place, **{"num_samples": 2, "num_outer": 2, name: -2})


@pytest.mark.parametrize("equation", [elbo, elbo_sampled_kl, iwae, stratified_elbo])
@pytest.mark.parametrize("num_samples", [0, -3])
def test_no_samples_are_refused(linear_gaussian, equation, num_samples):
    with pytest.raises(ValueError, match=f"num_samples must be at least 1, got {num_samples}"):
        equation(
            linear_gaussian.latent, linear_gaussian.exact, jax.random.key(0), jnp.zeros(3), num_samples=num_samples
        )


# ------------------------------------------------------------------------------------------------ mixture posteriors

LOCS, SCALES, LOGITS = np.array([-1.2, 0.9]), np.array([0.5, 0.8]), np.array([0.4, -0.3])


def on_a_line():
    """z in one dimension, p(z) = N(0, 1), p(x|z) = N(tanh 2z, 0.5²), q(z|x) a mixture of two normals."""
    return Latent(
        prior=lambda params, context=None: Normal.standard((1,)),
        posterior=lambda params, x, context=None: Mixture(
            params["logits"], Normal(params["locs"][:, None], jnp.log(params["scales"])[:, None])
        ),
        likelihood=lambda params, z, context=None: Normal(jnp.tanh(2.0 * z), jnp.full(1, jnp.log(0.5))),
    )


def elbo_by_quadrature(logits, locs, scales, x):
    z = np.linspace(-8.0, 8.0, 8001)
    normal = lambda z, m, s: -0.5 * ((z - m) / s) ** 2 - np.log(s) - 0.5 * np.log(2 * np.pi)  # noqa: E731
    weights = np.exp(logits) / np.exp(logits).sum()
    q = sum(w * np.exp(normal(z, m, s)) for w, m, s in zip(weights, locs, scales, strict=True))
    integrand = q * (normal(x, np.tanh(2 * z), 0.5) + normal(z, 0.0, 1.0) - np.log(np.maximum(q, 1e-300)))
    return integrand.sum() * (z[1] - z[0])


@pytest.fixture(scope="module")
def of_a_mixture():
    """Values and gradients [N] of a stratified and a plain bound, many draws each, and the exact ones by quadrature."""
    params = {"logits": LOGITS, "locs": LOCS, "scales": SCALES}
    latent, x = on_a_line(), 0.3

    @functools.partial(jax.jit, static_argnums=0)
    def draws(equation):
        given = jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), params)
        one = lambda params, key: equation(latent, params, key, jnp.full(1, x))[0]  # noqa: E731
        return jax.vmap(jax.value_and_grad(one), (None, 0))(given, jax.random.split(jax.random.key(0), 20_000))

    exact = {}
    for name, value in params.items():
        exact[name] = np.zeros(2)
        for i in range(2):
            step = 1e-5 * np.eye(2)[i]
            up, down = ({**params, name: value + s * step} for s in (1, -1))
            exact[name][i] = (elbo_by_quadrature(**up, x=x) - elbo_by_quadrature(**down, x=x)) / 2e-5
    plain = functools.partial(plain_elbo, num_samples=1)
    return draws(stratified_elbo), draws(plain), elbo_by_quadrature(**params, x=x), exact


def test_the_stratified_bound_is_the_elbo_of_a_mixture(of_a_mixture, assert_mean):
    (stratified, _), (plain, _), exact, _ = of_a_mixture
    assert_mean(stratified, exact)
    assert_mean(plain, exact)
    assert stratified.var() < plain.var()


@pytest.mark.parametrize("name", ["logits", "locs", "scales"])
def test_the_gradient_of_the_stratified_bound_is_exact_in_the_mean(of_a_mixture, name, assert_mean):
    (_, gradient), _, _, exact = of_a_mixture
    assert_mean(gradient[name], exact[name])


def test_the_pathwise_gradient_of_the_weights_is_not(of_a_mixture):
    """Why a mixture posterior is refused under the other bounds: the choice of the component has no gradient."""
    _, (_, gradient), _, exact = of_a_mixture
    logits = np.asarray(gradient["logits"], np.float64)
    z = (logits.mean(axis=0) - exact["logits"]) / (logits.std(axis=0) / np.sqrt(len(logits)))
    assert np.all(np.abs(z) > 20)


@pytest.mark.parametrize("equation", [elbo_sampled_kl, iwae, *NEW])
def test_a_mixture_is_refused_where_its_weights_would_not_learn(equation):
    params = jax.tree.map(jnp.asarray, {"logits": LOGITS, "locs": LOCS, "scales": SCALES})
    words = r"^name: '\w+' cannot be used with a Mixture posterior: no gradient .*; use 'stratified_elbo'"
    with pytest.raises(BadOption, match=words):
        equation(on_a_line(), params, jax.random.key(0), jnp.zeros(1))


def test_without_a_mixture_the_stratified_bound_is_the_sampled_one(linear_gaussian, x):
    given, expected = (
        estimates(equation, linear_gaussian.latent, linear_gaussian.wrong, x)
        for equation in (stratified_elbo, elbo_sampled_kl)
    )
    jax.tree.map(np.testing.assert_array_equal, given, expected)


def test_all_names_what_can_be_maximised():
    assert all(callable(getattr(objectives, name)) for name in objectives.__all__)
