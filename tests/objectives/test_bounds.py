"""Every bound against the exact log p(x) of a linear-Gaussian model."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import objectives
from vae_jax.core import Latent
from vae_jax.distributions import Mixture, Normal
from vae_jax.objectives.bounds import elbo, elbo_sampled_kl, iwae, log_weight, stratified_elbo

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


@pytest.mark.parametrize("equation", [elbo, elbo_sampled_kl, iwae, log_weight])
def test_context_reaches_every_distribution(linear_gaussian, equation):
    seen = []

    def spy(name, function):
        def watched(params, *args):
            seen.append((name, args[-1]))
            return function(params, *args)

        return watched

    latent = Latent(*(spy(name, function) for name, function in linear_gaussian.latent._asdict().items()))
    run = lambda key, x: equation(latent, linear_gaussian.exact, key, x, "the context")  # noqa: E731
    jax.eval_shape(run, jax.random.key(0), jnp.zeros(3))
    assert set(seen) == {(name, "the context") for name in ("prior", "posterior", "likelihood")}


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
    return draws(stratified_elbo), draws(elbo_sampled_kl), elbo_by_quadrature(**params, x=x), exact


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


def test_without_a_mixture_the_stratified_bound_is_the_sampled_one(linear_gaussian, x):
    given, expected = (
        estimates(equation, linear_gaussian.latent, linear_gaussian.wrong, x)
        for equation in (stratified_elbo, elbo_sampled_kl)
    )
    jax.tree.map(np.testing.assert_array_equal, given, expected)


def test_all_names_what_can_be_maximised():
    assert all(callable(getattr(objectives, name)) for name in objectives.__all__)
