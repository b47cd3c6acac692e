"""The function that training maximises, made of an equation: over a batch, at a step, with what the equation learns."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp

from vae_jax import objectives
from vae_jax.core import Aux, Latent, Model, by_loss, embedded, first_example, learned, per_example
from vae_jax.objectives import diffusion, schedules
from vae_jax.objectives.bounds import log_weight, plain_elbo
from vae_jax.spec import BadOption, build, check_options, nearest, probe, shown, under
from vae_jax.support import seen


class Objective(NamedTuple):
    """An equation with its options, and what it learns: params["objective"], and params["state"] for running means."""

    init: Callable  # (key, {"x": one x, "z": one z}) -> parts of the parameters; {} if the equation learns nothing
    value: Callable  # (latent_of, params, key, batch, step, dropout_key=None) -> what is maximised [B], Aux
    see: Callable  # x -> the input of the equation's networks
    of_batch: bool  # True if the value of an example depends on the other examples of its batch


def of(equation, *, see=lambda x: x, **options) -> Objective:
    """Return the `Objective` that maximises `equation` with `options`.

    A number among the options may be a schedule, step -> number. A `Network` is learned with the model: the equation
    receives a function, a pytree of its parameters, so that `stop_gradient(function)` is the same function without
    learning from its use. For a running mean the option is the decay d: m ← d m + (1-d) mean_B v, from m = 0.

    Args:
      equation: a function of this package, declared by `equation.equation`.
      see: x -> the input of the equation's networks.
      **options: the keyword arguments of the equation.

    Raises `BadOption` for a value out of range, also of a schedule.
    """
    declared = equation.declaration
    with under("objective"):
        for name, value in options.items():
            _check(declared, name, value)
    learned = {name: option for name, option in options.items() if name in declared.networks}
    means = [name for name in declared.means if options.get(name) is not None]
    unused = [name for name in declared.means if name not in means]
    options = {name: option for name, option in options.items() if name not in (*learned, *unused)}

    def init(key, example):
        keys = jax.random.split(key, max(1, len(learned)))
        inputs = {name: example[declared.networks[name].input] for name in learned}
        networks = {name: net.init(k, inputs[name]) for k, (name, net) in zip(keys, learned.items(), strict=False)}
        parts = {"objective": networks, "state": {name: jnp.zeros(()) for name in means}}
        return {name: part for name, part in parts.items() if part}

    def function_of(name, variables):
        net, of_x = learned[name], declared.networks[name].input == "x"
        apply = lambda variables, value: net.apply(variables, see(value) if of_x else value)  # noqa: E731
        return jax.tree_util.Partial(apply, variables[name])

    def value(latent_of, params, key, batch, step, dropout_key=None):
        resolved = schedules.resolve(options, step)
        decays = {name: resolved.pop(name) for name in means}
        resolved |= {name: function_of(name, params["objective"]) for name in learned}
        resolved |= {name: params["state"][name] for name in means}

        def of_example(params, key, x, context, dropout_key=None):
            return equation(latent_of(dropout_key), params, key, x, context, **resolved)

        with under("objective"):
            if declared.of_batch:
                result, terms = equation(latent_of(dropout_key), params, key, batch, **resolved)
            else:
                keys = () if dropout_key is None else (jax.random.split(dropout_key, len(batch["x"])),)
                result, terms = per_example(of_example)(params, key, batch, *keys)
        state = dict(params.get("state", {}))
        for name in means:
            state[name] = decays[name] * state[name] + (1.0 - decays[name]) * jnp.mean(terms.pop(name))
        return result, Aux(terms, state or None)

    return Objective(init, value, see, declared.of_batch)


def _check(declared, name, value):
    """Raise `BadOption` if an option, or a value of a schedule, is out of range. None means no running mean."""
    if name in declared.networks or (value is None and name in declared.means):
        return
    if not callable(value):
        declared.check(name, value)
        return
    for step, number in probe(value):
        declared.check(name, number, place=f", at step {step},")


def model(init, latent_of, objective, *, drops=False, sample_prior=None) -> Model:
    """Return the model whose training maximises `objective`; x is drawn through z.

    Args:
      init: (key, batch) -> params.
      latent_of: dropout_key -> the three distributions; None for no dropout.
      objective: made by `of`.
      drops: True for dropout in training. The key is new for every example and step, and the same for all draws of z of
        an example; an equation of a whole batch has one key for the batch. Only `rate` is then reported: the likelihood
        with dropout gives no bound of this model's log p(x).
      sample_prior: (params, key, context) -> z ~ p(z); None: a draw of the prior of `latent_of`, which must have one.
    """
    latent = latent_of(None)
    sample_prior = sample_prior or (lambda params, key, context: latent.prior(params, context).sample(key))

    def loss(params, key, batch, step):
        if not drops:
            value, aux = objective.value(latent_of, params, key, batch, step)
            return -value, aux
        key, dropout_key = jax.random.split(key)
        value, aux = objective.value(latent_of, params, key, batch, step, dropout_key)
        return -value, Aux({"rate": aux.terms["rate"]}, aux.state)

    def judge(params, key, x, context=None):
        return plain_elbo(latent, params, key, x, context, num_samples=1)[1]

    def sample(params, key, context=None):
        key_z, key_x = jax.random.split(key)
        return latent.likelihood(params, sample_prior(params, key_z, context), context).sample(key_x)

    def bound(params, key, x, context=None):
        return log_weight(latent, params, key, x, context)

    judge = judge if objective.of_batch or drops else by_loss(loss)
    return Model(init, loss, judge, sample=sample, latent=latent, bound=bound)


def latent_variable_model(
    encoder, decoder, prior, *, event, latent_shape, objective, context=None, drops=False
) -> Model:
    """Return the model p(z), q(z|x, c) = encoder, p(x|z, c) = decoder.

    Args:
      encoder: a `core.Conditional`, x and c -> q(z|x, c).
      decoder: a `core.Conditional`, z and c -> p(x|z, c).
      prior: a `conditionals.priors.Prior`.
      event: the `core.Event` x.
      latent_shape: the shape of z.
      objective: made by `of`.
      context: the `core.Context` c; None for none.
      drops: True for dropout in training.

    Params have the parts "encoder", "decoder", and "prior", "objective", "state" where there is something to learn.
    With a prior that has only a bound of log p(z), such as a diffusion, the model has no `Latent.prior`.
    """
    scaled = functools.partial(seen, event.support, missing=event.missing)
    embed = functools.partial(embedded, context)

    def latent_of(dropout_key=None):
        key_q, key_p = (None, None) if dropout_key is None else (jax.random.fold_in(dropout_key, n) for n in (0, 1))

        def posterior(params, x, context=None):
            return encoder.distribution(params["encoder"], scaled(x), embed(context), key_q)

        def likelihood(params, z, context=None):
            return decoder.distribution(params["decoder"], z, embed(context), key_p)

        def prior_of(params, context=None):
            return prior.distribution(params.get("prior"), lambda x: posterior(params, x, context))

        if prior.denoiser is not None:
            return Latent(None, posterior, likelihood, diffusion.evidence(prior.denoiser, posterior, likelihood))
        return Latent(prior_of, posterior, likelihood)

    def init(key, batch):
        key_encoder, key_decoder = jax.random.split(key)
        x, c = first_example(batch)
        z, c = jnp.zeros(latent_shape), embed(c)
        example = {"x": objective.see(x), "z": z}
        return learned(
            encoder=encoder.init(key_encoder, scaled(x), c),
            decoder=decoder.init(key_decoder, z, c),
            prior=prior.init(jax.random.fold_in(key, 2), filled(batch, event)),
            **objective.init(jax.random.fold_in(key, 3), example),
        )

    sample_prior = prior.sample and (lambda params, key, context: prior.sample(params["prior"], key))
    return model(init, latent_of, objective, drops=drops, sample_prior=sample_prior)


def filled(batch, event):
    """Return `batch` with the mean of the observed values of a column in place of a missing one, or 0 for no value."""
    if not event.missing:
        return batch
    missing = jnp.isnan(batch["x"])
    total = jnp.sum(jnp.where(missing, 0.0, batch["x"]), axis=0)
    mean = total / jnp.maximum(jnp.sum(~missing, axis=0), 1)
    return batch | {"x": jnp.where(missing, mean[None], batch["x"])}


def from_config(spec, *, build_network) -> tuple[Callable, dict]:
    """Return the equation that the dict `spec` names, and its options for `of`: schedules and networks are built.

    `build_network(spec, outputs, where=...)` builds a network. Raises `BadOption` that names the key.
    """
    with under("objective"):
        if not isinstance(spec, Mapping):
            raise BadOption(f" must be a dict with a 'name' and its options, got {shown(spec)}")
        options = dict(spec)
        name = options.pop("name", None)
        if name not in objectives.__all__:
            raise BadOption(f"name: unknown value {shown(name)}{nearest(str(name), objectives.__all__)}")
        equation = getattr(objectives, name)
        declared = equation.declaration
        check_options(equation, options, num_args=4 if declared.of_batch else 5)
        for key, value in options.items():
            if key in declared.networks:
                options[key] = build_network(value, declared.networks[key].outputs, where=key)
            elif isinstance(value, dict):
                options[key] = build(schedules, value, where=key)
            if value is None and key in declared.means and not _may_be_none(equation, key):
                declared.check(key, value)
    return equation, options


def _may_be_none(equation, option) -> bool:
    return inspect.signature(equation).parameters[option].default is None
