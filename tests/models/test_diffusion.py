"""Diffusion models on enumerable worlds, their options, and a diffusion as the prior of a VAE."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vae_jax import models
from vae_jax.core import Event
from vae_jax.data import values
from vae_jax.distributions.diffusion import alpha_sigma, guided, reverse_step
from vae_jax.evaluation import likelihood, yardstick
from vae_jax.spec import BadOption
from vae_jax.support import Binary, Levels, Real, Unit

MLP = {"name": "time_mlp", "hidden": (16,), "zero_output": False}
SCHEDULE = {"name": "learned", "width": 4, "gamma_min": -2.5, "gamma_max": 2.5}
SAMPLER = {"name": "ancestral", "num_steps": 5}
CONFIG = {"network": MLP, "schedule": SCHEDULE, "parameterisation": "v", "sampler": SAMPLER}


@functools.cache
def build(support=Binary(), shape=(2,), context=None, **options):  # noqa: B008
    model = models.from_config("diffusion", CONFIG | options, event=Event(shape, support), context=context)
    batch = {"x": jnp.zeros((4, *shape)), **({} if context is None else {"context": jnp.zeros(4, int)})}
    params = jax.jit(model.init)(jax.random.key(0), batch)
    return model, params | {"network": jax.tree.map(lambda a: 0.3 * a, params["network"])}  # any; not a wild one


def world(number, dim):
    return np.array(list(itertools.product(range(number), repeat=dim)), np.float32)


@pytest.mark.parametrize(
    ("support", "options"),
    [
        (Binary(), {"parameterisation": "levels", "num_steps": 2}),
        (Levels(3), {"parameterisation": "v", "num_steps": 3}),
        (Levels(40), {"parameterisation": "levels", "features": 4}),
    ],
)
def test_the_masses_of_an_enumerable_world_sum_to_at_most_one(support, options):
    """By the entry point of the tables: at a bound, the sum is below 1 by what the bound leaves."""
    dim = 4 if support == Binary() else 2 if support == Levels(3) else 1
    model, params = build(support, (dim,), **options)
    x = world(support.num_levels, dim)
    measured = yardstick.measure(model, params, jax.random.key(1), {"x": x}, num_samples=2_000)
    assert measured.kind == "≥"
    error = np.sqrt(np.sum(np.square(np.exp(measured.log_prob) * measured.terms["se"])))
    assert 1e-6 < np.sum(np.exp(measured.log_prob)) < 1 + 5 * error
    others = yardstick.measure(model, params, jax.random.key(1), {"x": np.concatenate([x[:1], x[::-1]])}, num_samples=9)
    same = yardstick.measure(model, params, jax.random.key(1), {"x": x[:1]}, num_samples=9)
    np.testing.assert_allclose(others.log_prob[0], same.log_prob[0], rtol=1e-5)


def test_the_bound_is_below_the_exact_log_probability_by_quadrature():
    """One bit and two steps: p(x) = ∫ p(z_1) p(z_½|z_1) p(z_0|z_½) p(x|z_0)."""
    model, params = build(Binary(), (1,), num_steps=2)
    denoiser, grid = model.denoiser, jnp.linspace(-7.0, 7.0, 1_401)
    density = jnp.exp(-0.5 * jnp.square(grid)) / jnp.sqrt(2 * jnp.pi)
    for n in (2, 1):
        gamma_t, gamma_s = (denoiser.gamma(params, m / 2) for m in (n, n - 1))
        step = functools.partial(reverse_step, denoiser, params)
        mean = jax.vmap(lambda z: step(z[None], gamma_t, gamma_s, jnp.zeros(1))[0])(grid)  # noqa: B023
        scale = alpha_sigma(gamma_s)[1] * jnp.sqrt(-jnp.expm1(gamma_s - gamma_t))
        kernel = jnp.exp(-0.5 * jnp.square((grid[:, None] - mean[None]) / scale)) / (scale * jnp.sqrt(2 * jnp.pi))
        density = kernel @ density * (grid[1] - grid[0])
    gamma = denoiser.gamma(params, 0.0)
    of_pixel = jax.vmap(lambda z, x: denoiser.decode(z[None] / alpha_sigma(gamma)[0], gamma).log_prob(x), (0, None))
    exact = [jnp.sum(jnp.exp(of_pixel(grid, jnp.full(1, x))) * density) * (grid[1] - grid[0]) for x in (0.0, 1.0)]
    np.testing.assert_allclose(sum(exact), 1.0, rtol=1e-3)
    data = {"x": np.array([[0.0], [1.0]], np.float32)}
    measured = yardstick.measure(model, params, jax.random.key(2), data, num_samples=2_000)
    gap = np.log(exact) - measured.log_prob
    assert np.all(gap > -5 * measured.terms["se"]) and np.all(gap < 20)


@pytest.mark.slow
def test_a_ladder_of_bounds_rises():
    model, params = build(Levels(3), (2,), parameterisation="levels")
    steps = model._replace(bounds=model.bounds[:-1])
    rungs = likelihood.ladder(steps, params, jax.random.key(3), {"x": world(3, 2)}, num_samples=2_000)
    assert list(rungs) == ["bound", "T=10", "T=100", "T=1000", "infinity"]
    means, error = {n: r["log_prob"].mean() for n, r in rungs.items()}, np.max(rungs["T=10"]["se"]) / 3
    assert means["T=10"] < means["T=100"] < means["infinity"] + 3 * error
    np.testing.assert_allclose(means["bound"], means["infinity"], rtol=1e-6)


@pytest.mark.slow
def test_the_probability_flow_is_a_rung_of_the_ladder():
    """It bounds a distribution of its own, whose masses also sum to at most one."""
    model, params = build(Levels(3), (2,), parameterisation="levels")
    assert [name for name, _ in model.bounds][-1] == "ode"
    only = model._replace(bounds=model.bounds[-1:])
    found = likelihood.ladder(only, params, jax.random.key(3), {"x": world(3, 2)}, num_samples=50)["ode"]
    error = np.sqrt(np.sum(np.square(np.exp(found["log_prob"]) * found["se"])))
    assert 0.05 < np.sum(np.exp(found["log_prob"])) < 1 + 5 * error + 5e-3


@pytest.mark.parametrize("support", [Binary(), Levels(5), Unit(), Real()])
def test_the_last_step_is_normalised(support):
    model, params = build(support, (1,))
    gamma = model.denoiser.gamma(params, 0.0)
    p = model.denoiser.decode(jnp.array([0.3]), gamma)
    if support.num_levels is None:
        x = np.linspace(-4.0, 4.0, 4_001, dtype=np.float32)
        total = np.sum(np.exp(jax.vmap(p.log_prob)(x[:, None]))) * (x[1] - x[0])
    else:
        total = np.sum(np.exp(jax.vmap(p.log_prob)(world(support.num_levels, 1))))
    np.testing.assert_allclose(total, 1.0, rtol=1e-4)
    if support == Unit():  # y = 2x - 1 has half the density
        np.testing.assert_allclose(p.mean(), 0.65, rtol=1e-6)


def test_classes_are_hidden_in_training_only():
    context = values.label(3)
    model, params = build(Binary(), (2,), context, context_dropout=0.5, guidance=2.0)
    z, c = jnp.array([0.1, -0.4]), jnp.int32(2)
    gamma = jnp.float32(0.5)
    hidden = model.denoiser.noise(params, z, gamma, c, keep=0.0)
    np.testing.assert_array_equal(hidden, model.denoiser.noise(params, z, gamma, jnp.int32(0), keep=0.0))
    shown = model.denoiser.noise(params, z, gamma, c)
    np.testing.assert_array_equal(guided(model.denoiser, params, z, gamma, c), shown)
    np.testing.assert_allclose(guided(model.denoiser, params, z, gamma, c, 2.0), 3.0 * shown - 2.0 * hidden, rtol=1e-5)
    batch = {"x": jnp.ones((4, 2)), "context": jnp.arange(4) % 3}
    value, aux = jax.jit(model.loss)(params, jax.random.key(0), batch, 0)
    assert np.isfinite(value).all() and "bound" not in aux.terms
    assert "bound" in model.judge(params, jax.random.key(1), batch["x"][0], batch["context"][0])


@pytest.mark.slow
def test_every_loss_and_gradient_is_finite_for_extreme_inputs():
    for support, parameterisation in ((Levels(256), "levels"), (Levels(256), "epsilon")):
        schedule = {"name": "linear"}
        model, params = build(support, (3,), parameterisation=parameterisation, schedule=Hashable(schedule))
        params = jax.tree.map(lambda a: 30.0 * a if a.ndim else a, params)
        batch = {"x": jnp.array([[0.0, 255.0, 128.0]])}
        slope = jax.jit(jax.grad(lambda p: jnp.sum(model.loss(p, jax.random.key(4), batch, 0)[0])))(params)  # noqa: B023
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slope))


class Hashable(dict):
    """A dict that `functools.cache` can keep."""

    def __hash__(self):
        return hash(tuple(self.items()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_steps": 0}, "model.num_steps must be at least 1, or 'continuous' for infinitely many steps, got 0"),
        ({"num_steps": None}, "model.num_steps must be at least 1, or 'continuous'"),
        ({"num_steps": 2.5}, "model.num_steps must be at least 1"),
        ({"schedule": {"name": "points", "gamma": (-4.0, 1.0, 0.0)}}, r"model.schedule.gamma: γ\(t\) must rise with t"),
        (
            {"schedule": {"name": "linear", "gamma_min": 2.0, "gamma_max": 2.0}},
            "schedule.gamma_min must be below",
        ),
        ({"schedule": {"name": "cosin"}}, "model.schedule.name: unknown value 'cosin'; did you mean 'cosine'"),
        ({"sampler": {"name": "ddpm", "num_steps": 5}}, "model.sampler.name: unknown value 'ddpm'"),
        ({"sampler": {"name": "ddim", "num_steps": 0}}, "model.sampler.num_steps must be at least 1"),
        ({"parameterisation": "levels"}, "model.parameterisation: 'levels' is for bits and levels"),
        ({"guidance": 1.0}, "model.guidance requires a model that is conditional on a class"),
        ({"network": {"name": "unet"}}, "model.network"),
    ],
)
def test_a_mistake_gets_one_clear_error(change, message):
    with pytest.raises(BadOption, match=message):
        models.from_config("diffusion", CONFIG | change, event=Event((2,), Real()))


PRIOR = {"name": "diffusion", "network": MLP, "schedule": SCHEDULE, "sampler": SAMPLER, "parameterisation": "v"}


def vae(objective="elbo_sampled_kl", **prior):
    net = {"name": "mlp", "hidden": (8,)}
    config = {
        "latent_dim": 2,
        "encoder": net,
        "decoder": net,
        "posterior": {"name": "normal"},
        "likelihood": {"name": "bernoulli"},
        "objective": {"name": objective},
        "prior": PRIOR | prior,
    }
    return models.from_config("vae", config, event=Event((2,), Binary()))


def test_a_vae_with_a_diffusion_prior_has_a_bound_and_draws():
    model, x = vae(), world(2, 2)
    params = jax.jit(model.init)(jax.random.key(0), {"x": x})
    measured = yardstick.measure(model, params, jax.random.key(1), {"x": x}, num_samples=2_000)
    assert measured.kind == "≥" and model.latent.prior is None and set(params) == {"encoder", "decoder", "prior"}
    error = np.sqrt(np.sum(np.square(np.exp(measured.log_prob) * measured.terms["se"])))
    assert np.sum(np.exp(measured.log_prob)) < 1 + 5 * error
    assert jax.jit(model.sample)(params, jax.random.key(2)).shape == (2,)
    slope = jax.jit(jax.grad(lambda p: jnp.mean(model.loss(p, jax.random.key(3), {"x": x}, 0)[0])))(params)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(slope["prior"]["network"]))


def test_a_bound_of_the_prior_makes_no_importance_weighted_bound():
    for objective in ("iwae", "elbo"):
        with pytest.raises(BadOption, match=f"objective.name: '{objective}' needs log p"):
            vae(objective)
    with pytest.raises(BadOption, match=r"prior\.parameterisation: 'levels' is for bits"):
        vae(parameterisation="levels")
