"""Every prior against what it says it is."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from toys import kind

from vae_jax import models
from vae_jax.conditionals import priors
from vae_jax.core import Latent
from vae_jax.distributions import Bernoulli, Mixture, Normal, UniformSphere
from vae_jax.distributions.support import real_coordinates
from vae_jax.objectives.bounds import elbo_sampled_kl
from vae_jax.support import Binary, Levels, Real

BATCH = {"x": jnp.asarray(np.random.default_rng(0).integers(2, size=(6, 3)), jnp.float32)}
GAIN = jnp.array([[0.7, -0.3, 0.2], [0.1, 0.5, -0.9]])


def encode(x):
    """A posterior over the plane that moves with x."""
    return Normal(GAIN @ x, -0.5 + 0.3 * jnp.tanh(GAIN @ x))


def noise(seed, tree):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(scale=0.4, size=a.shape), jnp.float32), tree)


def start(name, dim=2, support=Binary(), **options):  # noqa: B008
    prior = getattr(priors, name)((dim,), support, **options)
    return prior, jax.jit(prior.init)(jax.random.key(0), BATCH)


def test_standard_is_the_standard_normal():
    prior, params = start("standard")
    assert params is None
    np.testing.assert_array_equal(prior.distribution(None, encode).loc, jnp.zeros(2))
    np.testing.assert_array_equal(prior.distribution(None, encode).log_scale, jnp.zeros(2))


def test_uniform_sphere_is_the_uniform_law():
    prior, params = start("uniform_sphere")
    assert params is None and prior.distribution(None, None) == UniformSphere(2)


def test_mixture_against_scipy():
    prior, params = start("mixture", num_components=3, spread=2.0)
    z = np.array([0.4, -1.2])
    normals = scipy.stats.norm(np.asarray(params["locs"], np.float64), 1.0)
    expected = np.log(np.mean(np.exp(normals.logpdf(z).sum(axis=1))))
    np.testing.assert_allclose(prior.distribution(params, None).log_prob(jnp.asarray(z, jnp.float32)), expected, 1e-4)
    many = start("mixture", num_components=2000, spread=2.0)[1]["locs"]
    np.testing.assert_allclose(many.std(), 2.0, rtol=0.1)


def test_vamp_is_the_average_of_posteriors():
    prior, params = start("vamp", num_components=4)
    params = noise(1, params)
    z = jnp.array([0.3, -0.2])
    inputs = 1.0 / (1.0 + np.exp(-np.asarray(params["pseudo_inputs"], np.float64)))
    density = 0.0
    for u in inputs:
        mean = np.asarray(GAIN, np.float64) @ u
        density += np.prod(scipy.stats.norm(mean, np.exp(-0.5 + 0.3 * np.tanh(mean))).pdf(np.asarray(z))) / 4
    np.testing.assert_allclose(prior.distribution(params, encode).log_prob(z), np.log(density), rtol=1e-5)


def test_vamp_begins_at_the_mean_of_the_batch():
    params = start("vamp", num_components=3, noise=0.0)[1]
    to_data, _ = real_coordinates(Binary())
    inputs, mean = to_data(params["pseudo_inputs"]), BATCH["x"].mean(axis=0)
    np.testing.assert_allclose(inputs, np.tile(np.clip(mean, 0.01, 0.99), (3, 1)), rtol=1e-5)
    moved = start("vamp", num_components=500, noise=0.5)[1]["pseudo_inputs"] - params["pseudo_inputs"][:1]
    np.testing.assert_allclose([moved.mean(), moved.std()], [0.0, 0.5], atol=0.06)


def test_the_gradient_of_vamp_reaches_pseudo_inputs_and_encoder():
    prior, params = start("vamp", num_components=4)

    def log_prob(params, shift):
        return prior.distribution(params, lambda x: encode(x + shift)).log_prob(jnp.array([0.3, -0.2]))

    for leaf in jax.tree.leaves(jax.grad(log_prob, (0, 1))(params, jnp.zeros(3))):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 1e-4


@pytest.mark.parametrize("support, top", [(Binary(), 1.0), (Levels(256), 255.0), (Real(), None)])
def test_pseudo_inputs_stay_in_the_range_of_the_data(support, top):
    to_data, to_real = real_coordinates(support)
    u = jnp.array([-1e4, -3.0, 0.0, 2.0, 1e4])
    x = to_data(u)
    np.testing.assert_allclose(to_real(x)[1:4], u[1:4], rtol=1e-3, atol=1e-3)
    if top:
        assert x.min() == 0.0 and x.max() == top and np.isfinite(to_real(x)).all()


@pytest.mark.parametrize("dim, num_flows", [(2, 2), (3, 3)])
def test_flow_begins_as_the_standard_normal(dim, num_flows):
    prior, params = start("flow", dim, num_flows=num_flows, hidden=(4,))
    z = jnp.asarray(np.random.default_rng(0).normal(size=(10, dim)), jnp.float32)
    given = jax.jit(jax.vmap(prior.distribution(params, None).log_prob))(z)
    np.testing.assert_allclose(given, jax.vmap(Normal.standard((dim,)).log_prob)(z), rtol=1e-5)


def test_flow_is_a_density_once_it_has_moved():
    prior, params = start("flow", num_flows=3, hidden=(4,))
    moved = prior.distribution(noise(1, params), None)
    grid = np.linspace(-12, 12, 801)
    points = jnp.asarray(np.stack(np.meshgrid(grid, grid), -1).reshape(-1, 2), jnp.float32)
    log_p = np.asarray(jax.jit(jax.vmap(moved.log_prob))(points), np.float64)
    np.testing.assert_allclose(np.exp(log_p).sum() * (grid[1] - grid[0]) ** 2, 1.0, atol=1e-4)
    standard = jax.vmap(Normal.standard((2,)).log_prob)(points)
    assert np.abs(np.exp(log_p) - np.exp(standard)).max() > 0.01


def test_bernoulli():
    prior, params = start("bernoulli")
    np.testing.assert_array_equal(prior.distribution({"logits": jnp.array([1.0, -2.0])}, None).logits, [1.0, -2.0])
    fixed, nothing = start("bernoulli", learned=False)
    assert nothing is None
    for p in (prior.distribution(params, None), fixed.distribution(None, None)):
        assert isinstance(p, Bernoulli)
        np.testing.assert_allclose(p.log_prob(jnp.array([1.0, 0.0])), 2 * np.log(0.5), rtol=1e-6)


@functools.cache
def bits(dim=4):
    """An autoregressive prior that has moved, all states [2^D, D] and their probabilities."""
    prior, params = start("autoregressive", dim, hidden=(8,))
    p = prior.distribution(jax.tree.map(lambda a: 3.0 * a, noise(3, params)), None)
    states = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=dim)))
    return p, states, np.exp(np.asarray(jax.jit(jax.vmap(p.log_prob))(states), np.float64))


def test_autoregressive_begins_as_the_uniform_one():
    prior, params = start("autoregressive", 4, hidden=(8,))
    log_p = jax.jit(jax.vmap(prior.distribution(params, None).log_prob))(bits()[1])
    np.testing.assert_allclose(log_p, 4 * np.log(0.5), rtol=1e-6)


def test_autoregressive_probabilities_sum_to_one():
    _, states, probabilities = bits()
    np.testing.assert_allclose(probabilities.sum(), 1.0, rtol=1e-6)
    ones = np.asarray(probabilities @ states)
    independent = np.prod(np.where(states, ones, 1 - ones), axis=1)
    assert np.abs(probabilities - independent).max() > 0.02  # the bits do depend on one another


def test_autoregressive_draws_have_its_probabilities(assert_mean):
    p, states, probabilities = bits()
    z = jax.jit(jax.vmap(p.sample))(jax.random.split(jax.random.key(0), 20_000))
    found = np.all(np.asarray(z)[:, None] == states[None], axis=2)
    assert np.all(found.sum(axis=1) == 1)
    assert_mean(found[:, probabilities > 1e-3], probabilities[probabilities > 1e-3])
    np.testing.assert_allclose(p.mean(), probabilities @ states, atol=5 * 0.5 / np.sqrt(128))


def test_pixel_cnn_is_a_density_of_codes_laid_out_as_an_image():
    prior, params = start("pixel_cnn", 8, shape=(2, 2, 2), channels=(4,), hidden=(4,))
    states = jnp.asarray(list(itertools.product((0.0, 1.0), repeat=8)))
    log_probs = jax.jit(jax.vmap(lambda params, z: prior.distribution(params, None).log_prob(z), (None, 0)))
    np.testing.assert_allclose(log_probs(params, states), 8 * np.log(0.5), rtol=1e-6)
    moved = jax.tree.map(lambda a: 2.0 * a, noise(4, params))
    probabilities = np.exp(np.asarray(log_probs(moved, states), np.float64))
    np.testing.assert_allclose(probabilities.sum(), 1.0, rtol=1e-5)
    z = jax.jit(jax.vmap(prior.distribution(moved, None).sample))(jax.random.split(jax.random.key(0), 2000))
    assert z.shape == (2000, 8)
    np.testing.assert_allclose(z.mean(axis=0), probabilities @ states, atol=5 * 0.5 / np.sqrt(2000))
    ones = np.asarray(probabilities @ states)
    independent = np.prod(np.where(states, ones, 1 - ones), axis=1)
    assert np.abs(probabilities - independent).max() > 1e-3  # the bits do depend on one another
    with pytest.raises(ValueError, match=r"shape must be \(h, w, d\) with h w d = 8, .* got \(2, 2, 3\)"):
        start("pixel_cnn", 8, shape=(2, 2, 3))


def test_the_sampled_kl_is_that_of_quadrature(assert_mean):
    """KL(N(0.8, 0.6²) || mixture prior), one dimension: the rate of `elbo_sampled_kl`, as it falls to such a prior."""
    prior, params = start("mixture", dim=1, num_components=3)
    params = noise(2, params)
    q = Normal(jnp.array([0.8]), jnp.log(jnp.array([0.6])))
    latent = Latent(
        prior=lambda params, context=None: prior.distribution(params, None),
        posterior=lambda params, x, context=None: q,
        likelihood=lambda params, z, context=None: Normal(jnp.zeros(1), jnp.zeros(1)),
    )
    rates = jax.jit(jax.vmap(lambda key: elbo_sampled_kl(latent, params, key, jnp.zeros(1))[1]["rate"]))(
        jax.random.split(jax.random.key(0), 5000)
    )
    weights = np.exp(params["logits"]) / np.exp(params["logits"]).sum()
    p = scipy.stats.norm(
        np.asarray(params["locs"])[:, 0], np.exp(8 * np.tanh(np.asarray(params["raw_log_scales"]) / 8))[:, 0]
    )
    target = scipy.stats.norm(0.8, 0.6)
    ratio = lambda z: target.pdf(z) * (target.logpdf(z) - np.log(weights @ p.pdf(z)))  # noqa: E731
    assert_mean(rates, scipy.integrate.quad(ratio, -6, 8)[0])


# ------------------------------------------------------------------------------------------------------- in the model

CONFIG = {
    "latent_dim": 2,
    "encoder": {"name": "mlp", "hidden": (4,)},
    "decoder": {"name": "mlp", "hidden": (4,)},
    "posterior": {"name": "normal"},
    "likelihood": {"name": "bernoulli"},
    "objective": {"name": "elbo_sampled_kl"},
}


def build(**changes):
    return models.from_config("vae", {**CONFIG, **changes}, **kind((3,)))


def test_only_what_is_learned_is_among_the_parameters():
    plain, standard = build(), build(prior={"name": "standard"})
    without = jax.jit(plain.init)(jax.random.key(0), BATCH)
    assert set(without) == {"encoder", "decoder"}
    jax.tree.map(np.testing.assert_array_equal, without, jax.jit(standard.init)(jax.random.key(0), BATCH))
    vamp = jax.jit(build(prior={"name": "vamp", "num_components": 4}).init)(jax.random.key(0), BATCH)
    jax.tree.map(np.testing.assert_array_equal, without, {k: vamp[k] for k in without})
    assert vamp["prior"]["pseudo_inputs"].shape == (4, 3)


def test_the_model_hands_its_own_encoder_to_vamp():
    model = build(prior={"name": "vamp", "num_components": 4})
    params = jax.jit(model.init)(jax.random.key(0), BATCH)
    p = model.latent.prior(params)
    assert isinstance(p, Mixture)
    for k, raw in enumerate(params["prior"]["pseudo_inputs"]):
        q = model.latent.posterior(params, jax.nn.sigmoid(raw))
        np.testing.assert_allclose(p.components.loc[k], q.loc, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "prior, words",
    [
        ({"name": "vampp"}, "model.prior.name: unknown value 'vampp'; did you mean 'vamp'"),
        ({"name": "vamp", "components": 3}, "model.prior: unknown key 'components'; did you mean 'num_comp"),
        ({"name": "vamp", "num_components": 0}, "num_components must be at least 1, got 0"),
        ({"name": "vamp", "num_components": 3, "support": Real()}, "model.prior: unknown key 'support'"),
        (
            {"name": "flow", "num_flows": 0},
            "num_flows must be at least 1, got 0",
        ),
        (
            {"name": "bernoulli"},
            r"model.prior: it is over values that are binary, and the posterior, a Normal, is over real",
        ),
    ],
)
def test_a_mistake_is_named(prior, words):
    with pytest.raises(ValueError, match=words):
        build(prior=prior)


def test_every_prior_is_tested_here():
    assert set(priors.__all__) == {
        "autoregressive",
        "bernoulli",
        "diffusion",  # in models/test_diffusion.py: it has no density
        "flow",
        "mixture",
        "pixel_cnn",
        "standard",
        "uniform_sphere",
        "vamp",
    }
