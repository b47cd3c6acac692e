"""A continuous flow: noise that an ordinary differential equation carries to the data, trained by flow matching.

dz/dt = v(z, t)     z_0 ~ N(0, I)     y = z_1     log p(y) = log N(z_0; 0, I) - ∫ tr(∂v/∂z) dt     from t = 0 to 1

arXiv:1806.07366, arXiv:2210.02747. Levels x of V possible ones become y = 2 (x + u) / V - 1, u ~ U[0, 1), so that
log p(x) ≥ E_u[log p(y)] + D log(2 / V) is a bound of the mass. Numbers in [0, 1] become y = 2 x - 1.
"""

import math

import jax
import jax.numpy as jnp

from vae_jax import core
from vae_jax.bijectors.continuous import EXACT_LIMIT, Continuous, rademacher
from vae_jax.core import Aux, Model, by_loss, embedded
from vae_jax.distributions import Normal
from vae_jax.networks import timed
from vae_jax.networks.network import compute_in
from vae_jax.objectives import flow_matching
from vae_jax.spec import MANY, BadOption, build, integers, numbers, one_of
from vae_jax.support import Binary, Levels, Real, Unit

TAKES = (Binary, Levels, Unit, Real)
TRACES = ("exact", "hutchinson")


def continuous_flow(
    network,
    event,
    *,
    trace=None,
    num_probes=1,
    rtol=1e-5,
    atol=1e-5,
    max_solver_steps=4096,
    times="uniform",
    num_steps=25,
    context=None,
) -> Model:
    """Return a continuous flow, fitted by `gradient`. Its parameters are those of `network`.

    `bound` solves the equation with adaptive steps, and requires the extra `ode`. Up to the error of the solver, it is
    an unbiased estimate of log p(x) for real numbers, and of a lower bound of it for levels. `bounds` has the same with
    the other trace: "exact" for at most 64 dimensions, and "hutchinson". `sample` takes `num_steps` steps of
    Runge-Kutta.

    Args:
      network: a `Network` of (z, t, context) that returns one array like z, as in `networks.timed`.
      event: the `core.Event` x, of any shape.
      trace: "exact", "hutchinson", or None for the exact one up to 64 dimensions.
      num_probes: the number of probes of an estimated trace.
      rtol: the relative error of a step of the solver.
      atol: the absolute error of a step of the solver.
      max_solver_steps: the most steps of the solver; `bound` is NaN beyond.
      times: the distribution of t in training, "uniform" or "logit_normal".
      num_steps: the number of steps of `sample`, of four velocities each.
      context: the `core.Context`; None for none.

    Raises `BadOption` for options out of range.
    """
    integers(num_probes=num_probes, num_steps=num_steps, max_solver_steps=max_solver_steps)
    numbers(rtol=rtol, atol=atol, above=0, below=1)
    one_of(flow_matching.TIMES, times=times)
    shape = tuple(event.shape)
    size = math.prod(shape)
    if trace is None:
        trace = "exact" if size <= EXACT_LIMIT else "hutchinson"
    one_of(TRACES, trace=trace)
    num_levels = event.support.num_levels

    def velocity(params, z, t, dropout_key=None):
        variables, c = params
        return network.apply(variables, z, t, c, dropout_key=dropout_key)[0]

    def scaled(key, x):
        """Return y, and log |dy/dx| summed over the dimensions."""
        if num_levels is not None:
            u = jax.random.uniform(key, shape)
            return 2.0 * (x + u) / num_levels - 1.0, size * math.log(2.0 / num_levels)
        return (2.0 * x - 1.0, size * math.log(2.0)) if isinstance(event.support, Unit) else (x, 0.0)

    def unscaled(y):
        if num_levels is not None:
            return jnp.clip(jnp.floor(0.5 * (y + 1.0) * num_levels), 0.0, num_levels - 1.0)
        return jnp.clip(0.5 * (y + 1.0), 0.0, 1.0) if isinstance(event.support, Unit) else y

    def init(key, batch):
        _, c = core.first_example(batch)
        return network.init(key, jnp.zeros(shape), jnp.zeros(()), embedded(context, c))

    def loss(params, key, batch, step):
        key_times, key_terms = jax.random.split(key)
        t = flow_matching.times(key_times, len(batch["x"]), times)

        def one(params, key, x, c, t):
            key_x, key_noise, key_drop = jax.random.split(key, 3)
            given = params, embedded(context, c)
            v = lambda z, t: velocity(given, z, t, key_drop if network.drops else None)  # noqa: E731
            return flow_matching.flow_matching(v, key_noise, scaled(key_x, x)[0], t)

        value = core.per_example(one)(params, key_terms, batch, t)
        return value, Aux({"flow_matching": value})

    def bound_of(trace):
        def bound(params, key, x, c=None):
            key_x, key_probes = jax.random.split(key)
            y, log_slope = scaled(key_x, x)
            probes = rademacher(key_probes, shape, num_probes) if trace == "hutchinson" else None
            given = params, embedded(context, c)
            flow = Continuous(given, velocity, probes, rtol=rtol, atol=atol, max_steps=max_solver_steps)
            z, log_det = flow.inverse_and_log_det(y)
            return Normal.standard(shape).log_prob(z) + log_det + log_slope

        return bound

    def sample(params, key, c=None):
        given = params, embedded(context, c)

        def step(z, n):
            return runge_kutta(lambda z, t: velocity(given, z, t), z, n / num_steps, 1.0 / num_steps), None

        z, _ = jax.lax.scan(step, jax.random.normal(key, shape), jnp.arange(num_steps, dtype=jnp.float32))
        return unscaled(z)

    others = [kind for kind in TRACES if kind != trace and (kind == "hutchinson" or size <= EXACT_LIMIT)]
    bounds = tuple((f"{kind} trace", bound_of(kind)) for kind in others)
    return Model(init, loss, by_loss(loss), sample=sample, bound=bound_of(trace), bounds=bounds)


def runge_kutta(velocity, z, t, step):
    """Return z at t + `step`, by the classical method of order four."""
    first = velocity(z, t)
    second = velocity(z + 0.5 * step * first, t + 0.5 * step)
    third = velocity(z + 0.5 * step * second, t + 0.5 * step)
    fourth = velocity(z + step * third, t + step)
    return z + step / 6.0 * (first + 2.0 * second + 2.0 * third + fourth)


def from_config(
    *,
    event,
    context,
    network,
    trace="auto",
    num_probes=1,
    rtol=1e-5,
    atol=1e-5,
    max_solver_steps=4096,
    times="uniform",
    num_steps=25,
    compute_dtype="float32",
) -> Model:
    """Return a continuous flow from dicts.

    Args:
      event: the `core.Event` x: bits, levels, numbers in [0, 1] or real numbers, of any shape.
      context: the `core.Context`; None for none.
      network: "unet" for images or "time_mlp", and its options.
      trace: "exact", "hutchinson", or "auto": exact up to 64 dimensions.
      num_probes: see `continuous_flow`, as for the other options.
      rtol: relative error of a step of the solver.
      atol: absolute error of a step of the solver.
      max_solver_steps: the most steps of the solver.
      times: "uniform" or "logit_normal".
      num_steps: the steps of a draw.
      compute_dtype: the precision of the network, "float32" or "bfloat16"; the equation is solved in float32.

    Raises `BadOption` that names the key.
    """
    one_of(("auto", *TRACES), trace=trace)
    integers(num_steps=num_steps, at_most=MANY)
    if event.support.num_levels is None and not isinstance(event.support, Real | Unit):
        raise BadOption(f": the family 'continuous_flow' cannot model {event.support}")
    net = compute_in(compute_dtype, build(timed, network, (tuple(event.shape),), where="network"))
    return continuous_flow(
        net,
        event,
        trace=None if trace == "auto" else trace,
        num_probes=num_probes,
        rtol=rtol,
        atol=atol,
        max_solver_steps=max_solver_steps,
        times=times,
        num_steps=num_steps,
        context=context,
    )
