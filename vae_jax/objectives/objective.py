"""From an equation to what training maximises: of a batch, at a step, with what the equation learns for itself."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import objectives
from vae_jax.core import RUNNING, Model, per_example
from vae_jax.objectives import schedules
from vae_jax.objectives.bounds import log_weight
from vae_jax.objectives.requirements import OWN_NETWORKS, RUNNING_MEANS, check_pair, check_values
from vae_jax.objectives.running import RunningMean
from vae_jax.spec import BadOption, build, check_options, nearest, numbers, shown, under


class Objective(NamedTuple):
    """An equation and how it is used. Parameters that the equation itself learns are params["objective"].

    `coupled` is True where the value of an example depends on the other examples of its batch.
    """

    init: Callable  # (key, {"x": one x, "z": one z}) -> params, None where there is nothing to learn
    value: Callable  # (latent, params, key, batch, step) -> what is maximised [B], terms {name: [B]}
    coupled: bool


def of(equation, *, standardize=lambda x: x, **options) -> Objective:
    """`equation` with `options`, of which any number may be a schedule, step -> number; a network (`init`, `apply`) is
    learned with the model, and the equation is given the function it is, x brought into its range by `standardize`: a
    pytree of its parameters, so that `stop_gradient(function)` is the same, but does not learn from its use; of a
    running mean the option is the decay, and the equation is given the `RunningMean`.

    An equation of one example, `(latent, params, key, x, context)`, is lifted to a batch; one whose examples are
    coupled is written `(latent, params, key, batch)`. Raises `ValueError` for a decay outside [0, 1).
    """
    learned = {name: option for name, option in options.items() if name in OWN_NETWORKS}
    options = {name: option for name, option in options.items() if name not in learned}
    means = [name for name, decay in options.items() if name in RUNNING_MEANS and decay is not None]
    for name in means:
        if not callable(options[name]):
            numbers(**{name: options[name]}, at_least=0, below=1)
    coupled = is_coupled(equation)

    def init(key, example):
        keys = jax.random.split(key, max(1, len(learned)))
        inputs = {name: example[OWN_NETWORKS[name].input] for name in learned}
        own = {name: net.init(k, inputs[name]) for k, (name, net) in zip(keys, learned.items(), strict=False)}
        if means:
            own[RUNNING] = {name: jnp.zeros(()) for name in means}
        return own or None

    def function_of(name, own):
        net, of_x = learned[name], OWN_NETWORKS[name].input == "x"
        apply = lambda own, value: net.apply(own, standardize(value) if of_x else value)  # noqa: E731
        return jax.tree_util.Partial(apply, own[name])

    def value(latent, params, key, batch, step):
        own, given = params.get("objective"), schedules.resolve(options, step)
        given |= {name: function_of(name, own) for name in learned}
        given |= {name: RunningMean(own[RUNNING][name], given[name]) for name in means}
        bound = functools.partial(equation, latent, **given)
        return bound(params, key, batch) if coupled else per_example(bound)(params, key, batch)

    return Objective(init, value, coupled)


def model(init, latent, objective) -> Model:
    """The model that `objective` is maximised for: training minimises minus its value, and x is drawn by way of z."""

    def loss(params, key, batch, step):
        value, terms = objective.value(latent, params, key, batch, step)
        return -value, terms

    def sample(params, key, context=None):
        key_z, key_x = jax.random.split(key)
        return latent.likelihood(params, latent.prior(params, context).sample(key_z), context).sample(key_x)

    def bound(params, key, x, context=None):
        return log_weight(latent, params, key, x, context)

    return Model(init, loss, sample, bound=bound, latent=latent, coupled=objective.coupled)


def thinned(model, objective, latent) -> Model:
    """`model` whose training maximises `objective` of `latent`, networks thinned by dropout: there the context of an
    example is the key that says what is left out, new at every step and the same for all its draws of z.

    Of the terms the `rate` alone is reported: what the likelihood enters is no bound of this model's log p(x).
    """

    def loss(params, key, batch, step):
        key, key_dropout = jax.random.split(key)
        keys = jax.random.split(key_dropout, len(batch["x"]))
        value, terms = objective.value(latent, params, key, {**batch, "context": keys}, step)
        return -value, {"rate": terms["rate"]}

    return model._replace(loss=loss, thinned=True)


def from_config(spec, q, p, *, build_network):
    """The equation that `spec` names and its options, schedules and networks built by `build_network(spec, outputs,
    where=...)`; `q` and `p` are the posterior and the prior with shapes in place of arrays.

    Raises `ValueError` that names the key, and the reason where the equation cannot be used with this pair.
    """
    where = "objective"
    if not isinstance(spec, Mapping):
        raise ValueError(f"{where} must be a dict with a 'name' and its options, got {shown(spec)}")
    options = dict(spec)
    name = options.pop("name", None)
    if name not in objectives.__all__:
        raise ValueError(f"{where}.name: unknown value {shown(name)}{nearest(str(name), objectives.__all__)}")
    equation = getattr(objectives, name)
    with under(where):
        check_options(equation, options, num_args=4 if is_coupled(equation) else 5)
    for key, value in options.items():
        if key in OWN_NETWORKS:
            options[key] = build_network(value, OWN_NETWORKS[key].outputs, where=f"{where}.{key}")
        elif isinstance(value, dict):
            options[key] = build(schedules, value, where=f"{where}.{key}")
    needed = [p.name for p in inspect.signature(equation).parameters.values() if p.default is p.empty]
    try:
        check_values(name, options, needed)
    except BadOption as error:
        raise ValueError(f"{where}.{error}") from error
    check_pair(name, q, p)
    return equation, options


def is_coupled(equation) -> bool:
    """True where the equation takes a whole `batch`, so that the value of an example depends on the others."""
    return "batch" in inspect.signature(equation).parameters
