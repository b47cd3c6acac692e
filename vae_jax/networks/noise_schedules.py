"""Noise schedules of diffusion models: γ(t) = -log(α_t²/σ_t²), the negative log signal-to-noise ratio, for t in [0, 1].

γ rises from γ_0 = γ(0), almost no noise, to γ_1 = γ(1), almost only noise. Everything is float32.
"""

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.numerics import scaled_later, soft_clip
from vae_jax.spec import BadOption, flags, integers, numbers, shown

__all__ = ["cosine", "learned", "linear", "points"]

LIMIT = 30.0  # of |γ|, so that e^γ and its square are float32
PROBED = 1001  # times at which a schedule that is given must rise


class NoiseSchedule(NamedTuple):
    """A noise schedule. `mark` belongs to `numerics.scaled_later`: it scales the gradient of all but the end points."""

    init: Callable  # key -> params; None if nothing is learned
    gamma: Callable  # (params, t) -> γ(t)
    rate: Callable  # (params, t) -> γ(t), dγ/dt, mark
    range: tuple  # γ_0 and γ_1 at initialisation


def linear(*, gamma_min=-13.3, gamma_max=5.0, learned_ends=True) -> NoiseSchedule:
    """Return γ(t) = γ_0 + (γ_1 - γ_0) t, arXiv:2107.00630 app. D.

    `gamma_min` and `gamma_max` are γ_0 and γ_1; with `learned_ends` training starts from them. Raises `BadOption`
    unless γ_0 < γ_1.
    """
    return _between(lambda t, ends: ends[0] + (ends[1] - ends[0]) * t, gamma_min, gamma_max, learned_ends)


def cosine(*, gamma_min=-13.3, gamma_max=5.0, learned_ends=True) -> NoiseSchedule:
    """Return γ(t) = 2 log tan(a + (b - a) t), with a and b such that the ends are γ_0 and γ_1: α_t is a cosine.

    arXiv:2102.09672 eq. (17), with other ends. Options and errors are those of `linear`.
    """

    def gamma(t, ends):
        first, last = (jnp.arctan(jnp.exp(0.5 * end)) for end in ends)
        return 2.0 * jnp.log(jnp.tan(first + (last - first) * t))

    return _between(gamma, gamma_min, gamma_max, learned_ends)


def learned(*, width=32, gamma_min=-13.3, gamma_max=5.0, learned_ends=True) -> NoiseSchedule:
    """Return γ(t) = γ_0 + (γ_1 - γ_0) (n(t) - n(0)) / (n(1) - n(0)) for a monotone network n.  arXiv:2107.00630 app. H.

    n(t) = a t + Σ_k c_k sigmoid(w_k (t - b_k)) with a, c_k, w_k > 0. Every n gives the ends γ_0 and γ_1.

    Args:
      width: the number of units k.
      gamma_min: γ_0.
      gamma_max: γ_1.
      learned_ends: True if γ_0 and γ_1 are learned too, from these numbers on.

    Raises `BadOption` for options out of range.
    """
    integers(width=width)
    ends, init_ends = _ends(gamma_min, gamma_max, learned_ends)

    def init(key):
        centres = (jnp.arange(width) + 0.5) / width
        units = {"log_height": jnp.full(width, math.log(0.2 / width)), "log_slope": jnp.full(width, math.log(8.0))}
        return {**init_ends, "interior": {"log_line": jnp.zeros(()), "centre": centres, **units}}

    def network(units, t):
        line, height, slope = (jnp.exp(soft_clip(units[f"log_{n}"], 8.0)) for n in ("line", "height", "slope"))
        return line * t + jnp.sum(height * jax.nn.sigmoid(slope * (t - units["centre"])))

    def share(units, t):
        first, last = network(units, jnp.zeros(())), network(units, jnp.ones(()))
        return (network(units, t) - first) / (last - first)

    def gamma(params, t):
        first, last = ends(params)
        return first + (last - first) * share(params["interior"], t)

    def rate(params, t):
        first, last = ends(params)
        t = jnp.asarray(t, jnp.float32)
        both = jax.jvp(functools.partial(share, params["interior"]), (t,), (jnp.ones_like(t),))
        (value, slope), mark = scaled_later(both)
        return first + (last - first) * value, (last - first) * slope, mark

    return NoiseSchedule(init, gamma, rate, (gamma_min, gamma_max))


def points(*, gamma) -> NoiseSchedule:
    """Return the piecewise linear γ(t) that has the values `gamma` at equally spaced times from 0 to 1.

    Raises `BadOption` for fewer than two values, and unless they rise.
    """
    if not isinstance(gamma, tuple | list) or len(gamma) < 2:
        raise BadOption(
            f"gamma must be a tuple of at least two rising numbers, such as (-13.3, 0.0, 5.0), got {gamma!r}"
        )
    numbers(**{f"gamma: entry {n}": value for n, value in enumerate(gamma)}, at_least=-LIMIT, at_most=LIMIT)
    values = np.asarray(gamma, np.float32)
    times = np.linspace(0.0, 1.0, len(values), dtype=np.float32)
    _check_rises("gamma", values, times)
    slopes = np.diff(values) * np.float32(len(values) - 1)

    def rate(params, t):
        place = jnp.clip(jnp.asarray(t * len(slopes), jnp.int32), 0, len(slopes) - 1)
        slope = jnp.asarray(slopes)[place]
        return jnp.asarray(values)[place] + slope * (t - jnp.asarray(times)[place]), slope, jnp.zeros(())

    return NoiseSchedule(_nothing, lambda params, t: rate(params, t)[0], rate, (gamma[0], gamma[-1]))


def given(gamma) -> NoiseSchedule:
    """Return the schedule that is the differentiable function `gamma`, t -> γ(t).

    Raises `BadOption` unless γ rises between t = 0 and t = 1, within [-30, 30].
    """
    times = np.linspace(0.0, 1.0, PROBED, dtype=np.float32)
    with jax.ensure_compile_time_eval():
        values = np.asarray(jax.vmap(gamma)(jnp.asarray(times)))
    if not np.all(np.abs(values) <= LIMIT):
        raise BadOption(f"schedule: γ(t) must lie between {-LIMIT:g} and {LIMIT:g}, got up to {np.abs(values).max():g}")
    _check_rises("schedule", values, times)
    ends = float(values[0]), float(values[-1])
    return NoiseSchedule(_nothing, lambda params, t: gamma(t), _rate(lambda params, t: gamma(t)), ends)


def _between(gamma_of, gamma_min, gamma_max, learned_ends) -> NoiseSchedule:
    """Return the schedule γ(t) = gamma_of(t, (γ_0, γ_1))."""
    ends, init_ends = _ends(gamma_min, gamma_max, learned_ends)
    gamma = lambda params, t: gamma_of(t, ends(params))  # noqa: E731
    return NoiseSchedule(lambda key: init_ends or None, gamma, _rate(gamma), (gamma_min, gamma_max))


def _rate(gamma):
    def rate(params, t):
        t = jnp.asarray(t, jnp.float32)
        value, slope = jax.jvp(functools.partial(gamma, params), (t,), (jnp.ones_like(t),))
        return value, slope, jnp.zeros(())

    return rate


def _ends(gamma_min, gamma_max, learned_ends):
    """Return (params -> γ_0, γ_1) and their parameters at initialisation. γ_1 - γ_0 is a softplus, so it stays > 0."""
    numbers(gamma_min=gamma_min, gamma_max=gamma_max, at_least=-LIMIT, at_most=LIMIT)
    flags(learned_ends=learned_ends)
    if not gamma_min < gamma_max:
        raise BadOption(f"gamma_min must be below gamma_max, so that the noise grows, got {gamma_min} and {gamma_max}")
    if not learned_ends:
        return lambda params: (jnp.float32(gamma_min), jnp.float32(gamma_max)), {}
    gap = gamma_max - gamma_min
    start = {"gamma_min": jnp.float32(gamma_min), "raw_gap": jnp.float32(gap + math.log(-math.expm1(-gap)))}

    def ends(params):
        return params["gamma_min"], params["gamma_min"] + jax.nn.softplus(params["raw_gap"])

    return ends, start


def _check_rises(name, values, times):
    falls = np.flatnonzero(~(np.diff(values) > 0))
    if falls.size:
        n = int(falls[0])
        pair = f"γ({times[n]:.3g}) = {values[n]:.4g} and γ({times[n + 1]:.3g}) = {values[n + 1]:.4g}"
        raise BadOption(f"{name}: γ(t) must rise with t, which adds noise, got {shown(pair)}")


def _nothing(key):
    return None
