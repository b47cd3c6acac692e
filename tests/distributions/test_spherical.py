"""The sphere: von Mises-Fisher and uniform, against scipy, quadrature and identities of Bessel functions."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats

from vae_jax.distributions import Mixture, Normal, UniformSphere, VonMisesFisher, kl_divergence
from vae_jax.support import Sphere

DIMS = (2, 3, 10, 100)
CONCENTRATIONS = np.array([0.0, 1e-2, 0.3, 1.0, 5.0, 50.0, 1e3, 1e4])


def direction(dim, seed=0):
    x = np.random.default_rng(seed).normal(size=dim)
    return jnp.asarray(x / np.linalg.norm(x), jnp.float32)


def log_latitudes(dim, k):
    """log ∫ (1 - t²)^{(D-3)/2} e^{κ(t-1)} dt by the Bessel function, float64."""
    if k == 0.0:
        return scipy.special.betaln((dim - 1) / 2, 0.5)
    order = dim / 2 - 1
    bessel = np.log(scipy.special.ive(order, k))
    return 0.5 * np.log(np.pi) + scipy.special.gammaln(order + 0.5) + order * np.log(2 / k) + bessel


def ratio(dim, k):
    """A(κ) = I_{D/2}(κ) / I_{D/2-1}(κ)."""
    return scipy.special.ive(dim / 2, k) / scipy.special.ive(dim / 2 - 1, k) if k else 0.0


@functools.cache
def computed(dim):
    """By κ: the log of the integral, E[1 - t], the divergence to the uniform and its derivative by κ."""

    def one(k):
        q = VonMisesFisher(direction(dim), k)
        kl = lambda k: kl_divergence(VonMisesFisher(direction(dim), k), UniformSphere(dim))  # noqa: E731
        return q.log_latitudes(), q.mean_drop(), *jax.value_and_grad(kl)(k)

    return jax.jit(jax.vmap(one))(jnp.asarray(CONCENTRATIONS, jnp.float32))


@pytest.mark.parametrize("dim", DIMS)
def test_the_integral_is_that_of_the_bessel_function(dim):
    expected = [log_latitudes(dim, k) for k in CONCENTRATIONS]
    np.testing.assert_allclose(computed(dim)[0], expected, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(computed(dim)[1], [1.0 - ratio(dim, k) for k in CONCENTRATIONS], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dim", DIMS)
def test_the_divergence_is_that_of_the_bessel_functions(dim):
    """KL = κ (A - 1) - log ∫ e^{κ(t-1)} + log ∫ 1, and by κ: κ Var(t) = κ (1 - A² - (D-1) A / κ)."""
    expected, slope = [], []
    for k in CONCENTRATIONS:
        a = ratio(dim, k)
        expected.append(k * (a - 1.0) - log_latitudes(dim, k) + log_latitudes(dim, 0.0))
        slope.append(k * (1.0 - a**2) - (dim - 1) * a)
    np.testing.assert_allclose(computed(dim)[2], expected, rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(computed(dim)[3], slope, rtol=1e-3, atol=2e-5)


def test_the_divergence_is_that_of_quadrature():
    """In three dimensions, where the latitude is uniform under the uniform law."""
    k = 7.0
    total = scipy.integrate.quad(lambda t: np.exp(k * (t - 1)), -1, 1)[0]
    p = lambda t: np.exp(k * (t - 1)) / total  # noqa: E731
    expected = scipy.integrate.quad(lambda t: p(t) * np.log(2 * p(t)), -1, 1)[0]
    given = kl_divergence(VonMisesFisher(direction(3), jnp.float32(k)), UniformSphere(3))
    np.testing.assert_allclose(given, expected, rtol=1e-5)


@pytest.mark.parametrize("dim, k", [(2, 3.0), (3, 0.5), (5, 40.0), (20, 1000.0)])
def test_against_scipy(dim, k):
    mu = direction(dim)
    x = np.stack([direction(dim, seed) for seed in range(1, 6)] + [mu, -mu]).astype(np.float64)
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    exact = np.asarray(mu, np.float64) / np.linalg.norm(np.asarray(mu, np.float64))
    given = jax.vmap(VonMisesFisher(mu, jnp.float32(k)).log_prob)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(given, scipy.stats.vonmises_fisher(exact, k).logpdf(x), rtol=2e-6, atol=2e-5)


@jax.jit
@functools.partial(jax.vmap, in_axes=(None, None, 0))
@functools.partial(jax.grad, argnums=1, has_aux=True)
def drawn(mu, k, key):
    x, log_p = VonMisesFisher(mu, k).sample_and_log_prob(key)
    return mu @ x, (x, log_p)


@functools.cache
def draws(dim, k, sign):
    """Draws, log p of each, and the derivative by κ of the latitude."""
    mu = direction(dim)
    mu = mu * jnp.sign(mu[0]) * sign
    slope, (x, log_p) = drawn(mu, jnp.float32(k), jax.random.split(jax.random.key(0), 10_000))
    return VonMisesFisher(mu, jnp.float32(k)), np.asarray(x, np.float64), log_p, slope


CASES = [(2, 1.5, 1), (3, 0.0, -1), (3, 30.0, 1), (50, 2000.0, -1)]


@pytest.mark.parametrize("dim, k, sign", CASES)
def test_draws_have_the_moments(dim, k, sign, assert_mean):
    """E[x] = A μ, and E[x xᵀ] = A/κ I + (1 - D A/κ) μ μᵀ; A/κ = 1/D at κ = 0."""
    q, x, _, _ = draws(dim, k, sign)
    mu, a = np.asarray(q.direction, np.float64), ratio(dim, k)
    share = a / k if k else 1.0 / dim
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1.0, atol=1e-6)
    assert_mean(x, a * mu)
    np.testing.assert_allclose(q.mean(), a * mu, atol=1e-6)
    across = direction(dim, 7) - mu * (mu @ direction(dim, 7))
    assert_mean(np.square(x @ mu), share + (1.0 - dim * share))
    assert_mean(np.square(x @ across), share * (across @ across))


@pytest.mark.parametrize("dim, k, sign", CASES)
def test_a_latitude_has_its_distribution(dim, k, sign):
    """Kolmogorov and Smirnov's test of t = μ·x against the integral of its density."""
    q, x, _, _ = draws(dim, k, sign)
    angle = np.linspace(0.0, np.pi, 200_001)[1:-1]
    log_f = (dim - 2) * np.log(np.sin(angle)) + k * (np.cos(angle) - 1.0)
    mass = np.cumsum(np.exp(log_f - log_f.max()))
    cdf = lambda a: np.interp(a, angle, mass / mass[-1])  # noqa: E731
    found = np.arccos(np.clip(x @ np.asarray(q.direction, np.float64), -1, 1))
    assert scipy.stats.kstest(found, cdf).pvalue > 1e-5


@pytest.mark.parametrize("dim, k, sign", CASES)
def test_a_draw_knows_its_density(dim, k, sign):
    q, x, log_p, _ = draws(dim, k, sign)
    again = jax.vmap(q.log_prob)(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(log_p, again, rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("dim, k, sign", CASES)
def test_the_gradient_by_the_concentration_passes_through_the_draw(dim, k, sign, assert_mean):
    """d/dκ E[t] = 1 - A² - (D-1) A / κ; 1/D at κ = 0."""
    a = ratio(dim, k)
    assert_mean(draws(dim, k, sign)[3], 1.0 - a**2 - (dim - 1) * a / k if k else 1.0 / dim)


def test_the_gradient_by_the_direction_passes_through_the_draw(assert_mean):
    """d/dμ E[v·x] = A v along the sphere."""
    mu, v = direction(4), direction(4, 1)
    along = v - mu * (mu @ v)

    def moved(angle, key):
        turned = jnp.cos(angle) * mu + jnp.sin(angle) * along / jnp.linalg.norm(along)
        return v @ VonMisesFisher(turned, jnp.float32(3.0)).sample(key)

    slopes = jax.jit(jax.vmap(jax.grad(moved), in_axes=(None, 0)))(0.0, jax.random.split(jax.random.key(1), 10_000))
    assert_mean(slopes, ratio(4, 3.0) * np.linalg.norm(along))


def test_the_uniform_law(assert_mean):
    p = UniformSphere(3)
    np.testing.assert_allclose(p.log_prob(direction(3)), -np.log(4 * np.pi), rtol=1e-6)
    x = jax.jit(jax.vmap(p.sample))(jax.random.split(jax.random.key(0), 5000))
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1.0, atol=1e-6)
    assert_mean(x, 0.0)
    assert_mean(x**2, 1 / 3)
    np.testing.assert_array_equal(p.mean(), np.zeros(3))
    q = VonMisesFisher(direction(3), jnp.float32(0.0))
    np.testing.assert_allclose(q.log_prob(direction(3, 1)), p.log_prob(direction(3, 1)), rtol=1e-6)


def test_a_mixture_over_the_sphere_is_one():
    each = jax.vmap(VonMisesFisher)(jnp.stack([direction(3), -direction(3)]), jnp.array([2.0, 5.0]))
    assert Mixture(jnp.zeros(2), each).support == Sphere() != Normal.standard((3,)).support
