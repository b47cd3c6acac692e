"""The bound of diffusion models against exact log p(x): closed forms, the exact denoiser of a mixture, laws."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from toy_models import exact_bound

from vae_jax.core import Denoiser
from vae_jax.distributions import Normal
from vae_jax.distributions.diffusion import alpha_sigma, guided, reverse, reverse_step
from vae_jax.networks import noise_schedules
from vae_jax.objectives import diffusion
from vae_jax.spec import BadOption

WEIGHTS = np.array([0.3, 0.7], np.float32)
MEANS = np.array([[-1.5, 0.5], [1.0, -0.5]], np.float32)
SCALES = np.array([0.3, 0.6], np.float32)


def denoiser_of(noise, schedule, dim=2):
    """A denoiser of real vectors that is a function of (z, γ, context)."""
    return Denoiser(
        (dim,),
        schedule.gamma,
        schedule.rate,
        lambda params, z, gamma, context=None, *, keep=None, dropout_key=None: noise(z, gamma, context, keep),
        lambda x: x,
        lambda y, gamma: Normal(y, jnp.full(y.shape, 0.5 * gamma)),
    )


def log_mixture(z, alpha=1.0, sigma=0.0):
    """log p(z) of z = α x + σ ε, where x is from the mixture."""
    variance = jnp.square(alpha * SCALES) + sigma**2
    square = jnp.sum(jnp.square(z[None] - alpha * MEANS), axis=1) / variance
    return jax.nn.logsumexp(jnp.log(WEIGHTS) - 0.5 * square - jnp.log(2 * jnp.pi * variance))


def exact_noise(z, gamma, context=None, keep=None):
    """E[ε | z] = -σ ∇ log p(z) of the mixture."""
    alpha, sigma = alpha_sigma(gamma)
    return -sigma * jax.grad(log_mixture)(z, alpha, sigma)


@functools.partial(jax.jit, static_argnums=(0, 3, 4))
def many(denoiser, params, x, num_steps, number):
    """Estimates of the bound of x, at times that are evenly spread."""
    keys, times = jax.random.split(jax.random.key(0), number), (jnp.arange(number) + 0.5) / number
    one = lambda key, t: diffusion.terms(denoiser, params, key, x, t=t, num_steps=num_steps)["bound"]  # noqa: E731
    return jax.vmap(one)(keys, times)


def test_the_ladder_brackets_the_exact_log_density_of_a_mixture():
    schedule = noise_schedules.linear(gamma_min=-9.0, gamma_max=7.0, learned_ends=False)
    denoiser = denoiser_of(exact_noise, schedule)
    for x in (np.array([-1.4, 0.6], np.float32), np.array([0.3, 0.2], np.float32)):
        exact, rungs, errors = float(log_mixture(x)), [], []
        for num_steps in (4, 16, 128, None):
            values = np.asarray(many(denoiser, None, x, num_steps, 20_000), np.float64)
            rungs.append(values.mean())
            errors.append(values.std() / np.sqrt(len(values)))
        assert np.all(np.diff(rungs) > 0), rungs
        assert rungs[-1] < exact + 5 * errors[-1] + 0.01, "no rung is above log p(x)"
        assert rungs[-1] > exact - 5 * errors[-1] - 0.02, "infinitely many steps of the exact denoiser reach it"


def test_the_bound_of_finitely_many_steps_is_that_in_closed_form():
    number, rng = 8, np.random.default_rng(0)
    params = {"scale": rng.normal(size=number) * 0.3 + 0.5, "shift": rng.normal(size=(number, 2)) * 0.2}
    scale, shift = (jnp.asarray(params[name], jnp.float32) for name in ("scale", "shift"))
    schedule = noise_schedules.linear(gamma_min=-4.0, gamma_max=4.0, learned_ends=False)

    def affine(z, gamma, context, keep):
        i = jnp.round((gamma + 4.0) / 8.0 * number).astype(int) - 1
        alpha, sigma = alpha_sigma(gamma)
        return (z - alpha * (scale[i] * z + shift[i])) / sigma

    x = np.array([0.7, -0.2], np.float32)
    values = many(denoiser_of(affine, schedule), None, x, number, 40_000)
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - exact_bound(params, x[None])[0]) < 5 * error


def test_times_are_uniform_and_their_mean_varies_less():
    keys = jax.random.split(jax.random.key(2), 4_000)
    times = jax.vmap(lambda key: diffusion.low_discrepancy(key, 8))(keys)
    assert np.all((times >= 0) & (times < 1))
    for column in np.asarray(times).T:  # each time is uniform: so says its mean, and that of its square
        assert abs(column.mean() - 1 / 2) < 5 * np.sqrt(1 / 12 / len(keys))
        assert abs(np.mean(column**2) - 1 / 3) < 5 * np.sqrt(4 / 45 / len(keys))
    spread, independent = np.var(np.mean(np.asarray(times) ** 2, axis=1)), 4 / 45 / 8
    assert spread < 0.2 * independent


def manual(schedule, params, y, epsilon, t):
    """½ γ' |ε - ε̂|² without marks."""
    gamma, slope = jax.jvp(lambda t: schedule.gamma(params, t), (t,), (jnp.ones(()),))
    alpha, sigma = alpha_sigma(gamma)
    return 0.5 * slope * jnp.sum(jnp.square(epsilon - exact_noise(alpha * y + sigma * epsilon, gamma)))


def test_the_interior_of_a_schedule_follows_the_square_and_its_ends_the_bound():
    schedule = noise_schedules.learned(width=4, gamma_min=-6.0, gamma_max=4.0)
    params = schedule.init(jax.random.key(0))
    denoiser = denoiser_of(exact_noise, schedule)
    y, epsilon = jax.random.normal(jax.random.key(1), (2, 5, 2))
    batch = y, epsilon, jnp.linspace(0.1, 0.9, 5)

    @functools.partial(jax.jit, static_argnums=0)
    def slopes(one, params):
        return jax.value_and_grad(lambda params: jnp.mean(jax.vmap(functools.partial(one, params))(*batch)))(params)

    value, slope = slopes(lambda p, y, e, t: diffusion.infinite_steps(denoiser, p, y, e, t), params)
    expected, of_bound = slopes(functools.partial(manual, schedule), params)
    _, of_square = slopes(lambda p, y, e, t: manual(schedule, p, y, e, t) ** 2 / 2, params)
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    for name in ("gamma_min", "raw_gap"):
        np.testing.assert_allclose(slope[name], of_bound[name], rtol=1e-4, atol=1e-6)
    for name, square in of_square["interior"].items():
        np.testing.assert_allclose(slope["interior"][name], square, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", ["linear", "cosine", "learned"])
def test_schedules_rise_between_their_ends(name):
    schedule = getattr(noise_schedules, name)(gamma_min=-13.3, gamma_max=5.0)
    params = schedule.init(jax.random.key(0))
    params = jax.tree.map(lambda a: a + 0.7 * jax.random.normal(jax.random.key(1), a.shape), params)
    times = jnp.linspace(0.0, 1.0, 501)
    gamma = np.asarray(jax.vmap(lambda t: schedule.gamma(params, t))(times))
    last = params["gamma_min"] + jax.nn.softplus(params["raw_gap"])
    np.testing.assert_allclose([gamma[0], gamma[-1]], [params["gamma_min"], last], rtol=1e-4)
    assert np.all(np.diff(gamma) > 0) and gamma.dtype == np.float32
    value, slope, _ = jax.vmap(lambda t: schedule.rate(params, t))(times)
    np.testing.assert_allclose(value, gamma, rtol=1e-4, atol=1e-4)
    middle = (gamma[2:] - gamma[:-2]) / (times[2:] - times[:-2])
    np.testing.assert_allclose(np.asarray(slope)[5:-5], middle[4:-4], rtol=0.05)


def test_schedules_of_points_and_of_functions_must_rise():
    schedule = noise_schedules.points(gamma=(-4.0, 1.0, 2.0))
    np.testing.assert_allclose([schedule.gamma(None, t) for t in (0.0, 0.25, 0.5, 1.0)], [-4.0, -1.5, 1.0, 2.0])
    np.testing.assert_allclose(schedule.rate(None, 0.75)[:2], [1.5, 2.0])
    np.testing.assert_allclose(noise_schedules.given(lambda t: 8.0 * t - 4.0).rate(None, 0.5)[:2], [0.0, 8.0])
    for wrong in (lambda: noise_schedules.points(gamma=(0.0, -1.0)), lambda: noise_schedules.given(lambda t: -t)):
        with pytest.raises(BadOption, match=r"γ\(t\) must rise with t"):
            wrong()
    with pytest.raises(BadOption, match="gamma_min must be below gamma_max"):
        noise_schedules.linear(gamma_min=1.0, gamma_max=-1.0)
    with pytest.raises(BadOption, match="between -30 and 30"):
        noise_schedules.given(lambda t: 100.0 * t)


def test_a_step_back_is_the_ancestral_or_the_deterministic_one():
    schedule = noise_schedules.linear(gamma_min=-6.0, gamma_max=4.0, learned_ends=False)
    denoiser, z, noise = denoiser_of(exact_noise, schedule), jnp.array([0.3, -1.1]), jnp.array([0.5, 2.0])
    gamma_t, gamma_s = jnp.float32(1.0), jnp.float32(-0.5)
    (alpha_t, sigma_t), (alpha_s, sigma_s) = alpha_sigma(gamma_t), alpha_sigma(gamma_s)
    epsilon, c = exact_noise(z, gamma_t), -np.expm1(gamma_s - gamma_t)
    ancestral = alpha_s / alpha_t * (z - sigma_t * c * epsilon) + sigma_s * np.sqrt(c) * noise
    step = functools.partial(reverse_step, denoiser, None, z, gamma_t)
    np.testing.assert_allclose(step(gamma_s, noise, eta=1.0), ancestral, rtol=1e-5)
    ddim = alpha_s * (z - sigma_t * epsilon) / alpha_t + sigma_s * epsilon
    np.testing.assert_allclose(step(gamma_s, noise, eta=0.0), ddim, rtol=1e-5)
    for eta in (0.0, 1.0):  # a short step is no step
        np.testing.assert_allclose(step(gamma_t - 1e-6, noise, eta=eta), z, atol=5e-3)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_draws_by_the_exact_denoiser_of_a_normal_have_its_moments(eta):
    mean, scale = np.array([0.8, -0.4], np.float32), np.array([0.5, 0.2], np.float32)

    def noise(z, gamma, context, keep):
        alpha, sigma = alpha_sigma(gamma)
        return sigma * (z - alpha * mean) / (jnp.square(alpha * scale) + sigma**2)

    schedule = noise_schedules.linear(gamma_min=-9.0, gamma_max=9.0, learned_ends=False)
    denoiser = denoiser_of(noise, schedule)
    draw = jax.jit(jax.vmap(lambda key: reverse(denoiser, None, key, num_steps=200, eta=eta)))
    x = np.asarray(draw(jax.random.split(jax.random.key(3), 4_000)))
    np.testing.assert_allclose(x.mean(0), mean, atol=5 * scale.max() / np.sqrt(4_000) + 0.01)
    np.testing.assert_allclose(x.std(0), scale, rtol=0.08)


def test_guidance_moves_away_from_the_model_without_classes():
    schedule = noise_schedules.linear(learned_ends=False)
    denoiser = denoiser_of(lambda z, gamma, c, keep: z + (1.0 if keep is None else keep) * c, schedule)
    z, c = jnp.array([0.3, -1.0]), jnp.array([2.0, 1.0])
    np.testing.assert_array_equal(guided(denoiser, None, z, 0.0, c), z + c)
    np.testing.assert_allclose(guided(denoiser, None, z, 0.0, c, guidance=1.5), z + 2.5 * c, rtol=1e-6)


@pytest.mark.slow
def test_training_a_schedule_lowers_the_variance_and_leaves_the_bound():
    schedule = noise_schedules.learned(width=8, gamma_min=-9.0, gamma_max=7.0, learned_ends=False)
    denoiser, x = denoiser_of(exact_noise, schedule), jnp.array([0.3, 0.2])
    start = jax.jit(schedule.init)(jax.random.key(0))

    @functools.partial(jax.jit, static_argnums=2)
    def estimates(params, key, size):
        keys = jax.random.split(key, size)
        return jax.vmap(lambda key: diffusion.terms(denoiser, params, key, x)["diffusion"])(keys)

    adam = optax.adam(0.02)

    def step(carry, key):
        params, state = carry
        slope = jax.grad(lambda p: jnp.mean(estimates(p, key, 256)))(params)
        updates, state = adam.update(slope, state)
        return (optax.apply_updates(params, updates), state), None

    start = jax.tree.map(jnp.float32, start)
    keys = jax.random.split(jax.random.key(1), 400)
    trained = jax.jit(lambda p, keys: jax.lax.scan(step, (p, adam.init(p)), keys)[0][0])(start, keys)
    before, after = (np.asarray(estimates(p, jax.random.key(n), 20_000)) for n, p in ((2, start), (3, trained)))
    assert after.var() < 0.7 * before.var()
    assert abs(after.mean() - before.mean()) < 5 * np.sqrt((after.var() + before.var()) / 20_000)
    assert [float(schedule.gamma(trained, t)) for t in (0.0, 1.0)] == [-9.0, 7.0]
