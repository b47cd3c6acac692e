"""Hierarchies whose log p(x) and whose gradients are known: all networks affine, all scales fixed."""

import copy
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from toys import kind

from vae_jax import models, objectives
from vae_jax.core import Latent
from vae_jax.distributions import Normal, Sequential
from vae_jax.evaluation import latents, likelihood
from vae_jax.evaluation.gradients import against_exact, gradient_moments
from vae_jax.objectives.bounds import log_joint

SHAPE, DIMS = (5,), (3, 2)
AFFINE = {"name": "mlp", "hidden": ()}
SCALE = {"posterior": 1.2, "conditional": 0.8, "likelihood": 0.9}


def config(inference="top_down", skip=True, network=AFFINE, dims=DIMS, **changes):
    fixed = {part: {"name": "normal_fixed_scale", "scale": scale} for part, scale in SCALE.items()}
    levels = {
        f"z{n}": {"latent_dim": dim, "encoder": dict(network), "decoder": dict(network)}
        for n, dim in enumerate(dims, 1)
    }
    objective = {"name": "iwae", "num_samples": 3}
    return {"levels": levels, "inference": inference, "skip": skip, **fixed, "objective": objective, **changes}


def build(num_classes=0, **changes):
    return models.from_config("hierarchical_vae", config(**changes), **kind(SHAPE, num_classes))


def data(size, seed=0, conditional=False):
    rng = np.random.default_rng(seed)
    x = {"x": jnp.asarray(rng.normal(size=(size, *SHAPE)), jnp.float32)}
    return {**x, "context": jnp.arange(size) % 3} if conditional else x


def affine(variables):
    """(W [out, in], b) of a network without hidden layers."""
    (dense,) = variables["params"]["DenseHead_0"].values()
    return np.asarray(dense["kernel"], np.float64).T, np.asarray(dense["bias"], np.float64)


def evidence(params, skip):
    """p(x), exact: x is an affine map of the noises of z_2, z_1 and x."""
    (a, a_0), (w, w_0) = affine(params["decoder"]["z2"]), affine(params["decoder"]["z1"])
    z_2 = np.concatenate([np.eye(2), np.zeros((2, 3))], axis=1)
    z_1 = a @ z_2 + np.concatenate([np.zeros((3, 2)), SCALE["conditional"] * np.eye(3)], axis=1)
    to_x = w @ (np.concatenate([z_1, z_2]) if skip else z_1)
    mean = w @ np.concatenate([a_0, np.zeros(2)] if skip else [a_0]) + w_0
    return scipy.stats.multivariate_normal(mean, to_x @ to_x.T + SCALE["likelihood"] ** 2 * np.eye(5))


PAIRS = [("bottom_up", False), ("top_down", True), ("top_down", False)]


@pytest.fixture(scope="module", params=PAIRS, ids=lambda pair: f"{pair[0]}-{'skip' if pair[1] else 'chain'}")
def fitted(request):
    inference, skip = request.param
    model = build(inference=inference, skip=skip)
    return model, jax.jit(model.init)(jax.random.key(0), data(1)), skip


def test_the_evidence_is_that_of_the_joint_gaussian(fitted):
    """Importance weighting within its error; in the mean ELBO < IWAE of 3 < log p(x)."""
    model, params, skip = fitted
    num_samples, examples = 4000, data(8)
    exact = evidence(params, skip).logpdf(examples["x"])
    given = likelihood.log_likelihood(model, params, jax.random.key(1), examples, num_samples=num_samples)
    z = (given["log_prob"] - exact) / np.sqrt((num_samples / given["ess"] - 1.0) / num_samples)
    assert np.all(np.abs(z) < 5) and np.all(given["ess"] > 20), (z, given["ess"])
    _, (terms, _) = jax.jit(model.loss)(params, jax.random.key(2), examples, 0)
    assert given["elbo"].mean() < terms["bound"].mean() < exact.mean()


def test_samples_have_the_moments_of_the_joint_gaussian(fitted, assert_mean):
    model, params, skip = fitted
    x = np.asarray(
        jax.jit(jax.vmap(functools.partial(model.sample, params)))(jax.random.split(jax.random.key(4), 5000))
    )
    exact = evidence(params, skip)
    assert_mean(x, exact.mean)
    centred = x - exact.mean
    assert_mean(centred[:, :, None] * centred[:, None, :], exact.cov)


def test_a_step_reaches_every_parameter(fitted):
    model, params, _ = fitted
    gradient = jax.jit(jax.grad(lambda p: model.loss(p, jax.random.key(1), data(4), 0)[0].sum()))(params)
    for path, leaf in jax.tree.leaves_with_path(gradient):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0, path


def test_levels_are_numbered_from_the_bottom(fitted):
    model, params, skip = fitted
    x = data(1)["x"][0]
    for chain in (model.latent.posterior(params, x), model.latent.prior(params)):
        assert [part.shape for part in chain.mean()] == [(3,), (2,)]
    assert affine(params["decoder"]["z1"])[0].shape == (5, 5 if skip else 3)


def test_a_conditional_hierarchy_uses_its_context_at_every_level():
    model, batch = build(3, dims=(3, 2, 2)), data(3, conditional=True)
    params = jax.jit(model.init)(jax.random.key(0), batch)
    x = batch["x"][0]

    @jax.jit
    @jax.vmap
    def means(c):
        z = tuple(jnp.zeros(dim) for dim in (3, 2, 2))
        q, p = model.latent.posterior(params, x, c), model.latent.prior(params, c)
        return [part.mean() for part in (*q.parts(z), *p.parts(z)[:-1], model.latent.likelihood(params, z, c))]

    for given in means(batch["context"]):
        assert np.abs(given[0] - given[1]).max() > 1e-3 and np.abs(given[1] - given[2]).max() > 1e-3
    with pytest.raises(ValueError, match=r"conditional on \d+ classes: a context is needed"):
        model.sample(params, jax.random.key(0))


def test_vamp_is_over_the_top_level():
    model = build(prior={"name": "vamp", "num_components": 3})
    params = jax.jit(model.init)(jax.random.key(0), data(4))
    prior = model.latent.prior(params)
    for k, x in enumerate(params["prior"]["pseudo_inputs"]):
        q_top = model.latent.posterior(params, x).first
        np.testing.assert_allclose(prior.first.components.loc[k], q_top.loc, rtol=1e-4, atol=1e-6)


def test_what_the_codes_of_a_data_set_carry():
    """Means, active units and posteriors of many examples, who share the networks."""
    model, examples = build(skip=False), data(30)
    params = jax.jit(model.init)(jax.random.key(0), examples)
    means, q = latents.posterior_means(model, params, examples), latents.posteriors(model, params, examples)
    assert [level.shape for level in means] == [(30, 3), (30, 2)]
    assert q.given[0].shape == (30, *SHAPE)
    jax.tree.map(np.testing.assert_array_equal, q.params, params["encoder"])
    again = jax.vmap(lambda one: one.mean(), in_axes=(latents.axes(q),))(q)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), means, again)
    assert latents.active_units(means) == sum(map(latents.active_units, means)) == 5
    assert latents.active_units((means[0], 0.0 * means[1])) == 3


@pytest.mark.parametrize("level", [0, 1])
def test_the_information_of_a_chain_is_that_of_the_level_that_sees_x(level):
    """A Gaussian channel of variance ¼ at the one level, noise at the other: I = ½ log 5."""

    def channel(params, x, before):
        return Normal(params * before[0] + (x if level else 0.0 * x), jnp.full(1, np.log(0.5)))

    loc = jnp.asarray(np.random.default_rng(0).normal(size=(1000, 1)), jnp.float32)
    first = Normal(0.0 * loc if level else loc, jnp.full((1000, 1), np.log(0.5)))
    q = Sequential(first, jnp.ones(1), loc, (channel,))
    given = latents.mutual_information(q, jax.random.key(0))
    np.testing.assert_allclose(given, 0.5 * np.log(5), atol=0.1)


@pytest.mark.parametrize(
    "path, value, words",
    [
        ("inference", "topdown", r"model.inference: unknown value 'topdown'.*\(allowed: bottom_up, top_down\)"),
        ("levels.z3", {}, r"model.levels.z3: missing key 'latent_dim', 'encoder', 'decoder'"),
        ("levels.z4", {}, r"model.levels must have the keys z1 \(next to x\), z2, ..., got z1, z2, z4"),
        ("levels", {}, r"model.levels must have the keys z1 .* got none"),
        ("levels.z2.latent_dim", 0, r"model.levels.z2.latent_dim must be at least 1, got 0"),
        ("levels.z1.encodr", {}, r"model.levels.z1: unknown key 'encodr'; did you mean 'encoder'"),
        ("levels.z1.decoder.hiden", (3,), r"model.levels.z1.decoder: unknown key 'hiden'"),
        ("conditional.name", "gaussian", r"model.conditional.name: unknown value 'gaussian'"),
        (
            "conditional",
            {"name": "bernoulli"},
            r"model.conditional: it is over values that are binary, .* a Normal, is over real; use the same",
        ),
        ("objective", {"name": "elbo"}, r"^objective\.name: 'elbo' cannot .* no closed-form KL; use 'elbo_sampled_kl'"),
        (
            "prior",
            {"name": "vamp", "num_components": 3},
            r"^model\.prior: it is a mixture of q\(z2\|x\).* use inference 'top_down'",
        ),
    ],
)
def test_a_wrong_key_is_named(path, value, words):
    given = copy.deepcopy(config("bottom_up"))
    *parents, key = path.split(".")
    place = given
    for parent in parents:
        place = place[parent]
    place[key] = value
    with pytest.raises(ValueError, match=words):
        model = models.from_config("hierarchical_vae", given, **kind(SHAPE))
        params = jax.eval_shape(model.init, jax.random.key(0), data(2))
        jax.eval_shape(model.loss, params, jax.random.key(0), data(2), 0)


# ------------------------------------------------------------- gradients: two levels of one dimension, by quadrature

GRID, GRID_WEIGHTS = np.polynomial.hermite_e.hermegauss(16)
NODES = jnp.asarray(list(itertools.product(GRID, repeat=2)), jnp.float32)
WEIGHTS = jnp.asarray(np.outer(GRID_WEIGHTS, GRID_WEIGHTS).ravel() / (2 * np.pi), jnp.float32)
NUM_DRAWS = 100_000
X = jnp.array([0.7])
PARAMS = {  # [slope in x, slope in the neighbour, shift, log-scale]
    "q_1": jnp.array([0.5, 0.4, 0.1, -0.6]),
    "q_2": jnp.array([0.3, -0.5, -0.2, -0.3]),
    "p_1": jnp.array([0.0, 0.8, 0.2, -0.2]),
    "p_x": jnp.array([0.6, 0.9, -0.1, -0.4]),
}


def line(params, x, neighbour):
    slope_x, slope, shift, log_scale = params
    return Normal(slope_x * x + slope * neighbour + shift, log_scale[None])


def q_of_1(params, x, before):
    return line(params["q_1"], x, before[0])


def q_of_2(params, x, before):
    return line(params["q_2"], x, before[0])


def p_of_1(params, given, before):
    return line(params["p_1"], 0.0, before[0])


TOP_DOWN = Latent(
    prior=lambda params, context=None: Sequential(Normal.standard((1,)), params, None, (p_of_1,), reverse=True),
    posterior=lambda params, x, context=None: Sequential(
        line(params["q_2"], x, 0.0), params, x, (q_of_1,), reverse=True
    ),
    likelihood=lambda params, z, context=None: line(params["p_x"], z[1], z[0]),
)
BOTTOM_UP = TOP_DOWN._replace(
    posterior=lambda params, x, context=None: Sequential(line(params["q_1"], x, 0.0), params, x, (q_of_2,))
)


@functools.cache
def exact_gradient(latent, num_samples):
    """Of E[log w] or of E[log ½ (w_1 + w_2)] over draws from the chain: its noises on a grid."""

    def z_of(q, noise):
        first = q.first.loc + jnp.exp(q.first.log_scale) * noise[:1]
        (conditional,) = q.conditionals
        then = conditional(q.params, q.given, (first,))
        return q._ordered((first, then.loc + jnp.exp(then.log_scale) * noise[1:]))

    @jax.jit
    @jax.grad
    def gradient(params):
        q = latent.posterior(params, X)
        z = jax.vmap(lambda noise: z_of(q, noise))(NODES)
        log_w = sum(jax.vmap(log_joint(latent, params, X))(z)) - jax.vmap(q.log_prob)(z)
        if num_samples == 1:
            return WEIGHTS @ log_w
        return WEIGHTS @ (jnp.logaddexp(log_w[:, None], log_w[None, :]) - np.log(2.0)) @ WEIGHTS

    return gradient(PARAMS)


@pytest.mark.parametrize(
    "latent, name, num_samples, bound",
    [
        (TOP_DOWN, "sticking_the_landing", 1, 1),
        (TOP_DOWN, "dreg", 2, 2),
        (TOP_DOWN, "vimco", 2, 2),
        (BOTTOM_UP, "iwae", 2, 2),
        (BOTTOM_UP, "sticking_the_landing", 1, 1),
        (BOTTOM_UP, "dreg", 2, 2),
    ],
)
def test_an_estimator_is_unbiased_through_a_chain(latent, name, num_samples, bound):
    objective = functools.partial(getattr(objectives, name), num_samples=num_samples)
    moments = gradient_moments(objective, latent, PARAMS, jax.random.key(0), X, num_draws=NUM_DRAWS)
    error = against_exact(moments, exact_gradient(latent, bound))
    for part, z in error["z"].items():
        assert np.all((np.abs(z) < 5) | (np.abs(error["bias"][part]) < 1e-6)), f"{part}: {z}"


def test_the_path_derivative_has_no_variance_at_the_exact_posterior():
    """Every level's: with z_1 -> x alone in p, q(z_2|z_1) q(z_1|x) can be p(z|x)."""
    a, b, v_1, v_x = 0.8, 0.9, np.exp(-0.4), np.exp(-0.8)  # z_1 = a z_2 + noise, x = b z_1 + noise
    prior = a**2 + v_1
    v_post = 1 / (1 / prior + b**2 / v_x)
    v_top = 1 / (1 + a**2 / v_1)
    exact = {
        "q_1": jnp.array([v_post * b / v_x, 0.0, 0.0, 0.5 * np.log(v_post)], jnp.float32),
        "q_2": jnp.array([0.0, v_top * a / v_1, 0.0, 0.5 * np.log(v_top)], jnp.float32),
        "p_1": jnp.array([0.0, a, 0.0, -0.2], jnp.float32),
        "p_x": jnp.array([0.0, b, 0.0, -0.4], jnp.float32),
    }
    for name, options in {"sticking_the_landing": {}, "dreg": {"num_samples": 3}}.items():
        objective = functools.partial(getattr(objectives, name), **options)
        moments = gradient_moments(objective, BOTTOM_UP, exact, jax.random.key(0), X, num_draws=100)
        for part in ("q_1", "q_2"):
            assert np.all(moments.variance[part] < 1e-8), (name, part)
            np.testing.assert_allclose(moments.mean[part], 0.0, atol=1e-4)
