"""From an equation to what training maximises: of a batch, at a step, with what the equation learns for itself."""

import functools
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax

from vae_jax import objectives
from vae_jax.core import build, check_options, nearest, per_example
from vae_jax.objectives import schedules
from vae_jax.objectives.requirements import OWN_NETWORKS, check_pair


class Objective(NamedTuple):
    """What an equation learns for itself is params["objective"].

    `coupled`: whether the value of an example depends on the others in its batch.
    """

    init: Callable  # (key, {"x": one x, "z": one z}) -> params, None where there is nothing to learn
    value: Callable  # (latent, params, key, batch, step) -> what is maximised [B], terms {name: [B]}
    coupled: bool


def of(equation, **options) -> Objective:
    """`equation` with `options`, of which any number may be a schedule, step -> number, and a network (`init`, `apply`)
    is learned with the model: the equation is given the function it is, a pytree of its parameters, so that
    `stop_gradient(function)` is the same function, which does not learn from what it is used for.

    An equation of one example, `(latent, params, key, x, context)`, is lifted to a batch; one whose examples are
    coupled is written `(latent, params, key, batch)`.
    """
    learned = {name: option for name, option in options.items() if name in OWN_NETWORKS}
    options = {name: option for name, option in options.items() if name not in learned}
    coupled = _is_coupled(equation)

    def init(key, example):
        keys = jax.random.split(key, max(1, len(learned)))
        inputs = {name: example[OWN_NETWORKS[name].input] for name in learned}
        own = {name: net.init(k, inputs[name]) for k, (name, net) in zip(keys, learned.items(), strict=False)}
        return own or None

    def value(latent, params, key, batch, step):
        own = {name: jax.tree_util.Partial(net.apply, params["objective"][name]) for name, net in learned.items()}
        bound = functools.partial(equation, latent, **schedules.resolve(options, step), **own)
        return bound(params, key, batch) if coupled else per_example(bound)(params, key, batch)

    return Objective(init, value, coupled)


def from_config(spec, q, p, *, build_network):
    """The equation that `spec` names and its options, schedules and networks built by `build_network(spec, outputs,
    where=...)`; `q` and `p` are the posterior and the prior with shapes in place of arrays.

    Raises `ValueError` that names the key, and the reason where the equation cannot be used with this pair.
    """
    options, where = dict(spec), "config.model.objective"
    name = options.pop("name", None)
    if name not in objectives.__all__:
        raise ValueError(f"{where}.name: unknown value {name!r}{nearest(str(name), objectives.__all__)}")
    equation = getattr(objectives, name)
    check_options(equation, options, where=where, num_args=4 if _is_coupled(equation) else 5)
    for key, value in options.items():
        if key in OWN_NETWORKS:
            options[key] = build_network(value, OWN_NETWORKS[key].outputs, where=f"{where}.{key}")
        elif isinstance(value, dict):
            options[key] = build(schedules, value, where=f"{where}.{key}")
    check_pair(name, q, p)
    return equation, options


def _is_coupled(equation):
    return "batch" in inspect.signature(equation).parameters
