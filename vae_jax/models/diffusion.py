"""The variational diffusion model, arXiv:2107.00630: a network takes the noise from data, step by step.

q(z_t|x) = N(α_t y, σ_t² I)    p(z_1) = N(0, I)    p(z_s|z_t) = q(z_s|z_t, y = x̂(z_t))

log p(x) is bounded (`objectives.diffusion`), with any number of steps. For a good network, more steps give a
tighter bound on average. p(x|z_0) is a distribution over the values of the data, so that the bound of bits and levels
is one of a mass.
"""

import functools

import jax
import jax.numpy as jnp

from vae_jax import core
from vae_jax.conditionals import denoisers
from vae_jax.core import Aux, Model
from vae_jax.distributions.diffusion import reverse
from vae_jax.objectives import diffusion as objective
from vae_jax.objectives import probability_flow
from vae_jax.spec import BadOption, integers, numbers, shown
from vae_jax.support import Binary, Levels, Real, Unit

TAKES = (Binary, Levels, Unit, Real)
CONTINUOUS = "continuous"
RUNGS = (10, 100, 1000)  # steps of the ladder of bounds


def diffusion(
    denoiser, init, *, num_steps=None, sampler=None, guidance=0.0, context_dropout=0.0, context=None, drops=False
) -> Model:
    """Return a diffusion model, fitted by `gradient`. Params are {"network", "schedule"} and what else `init` makes.

    The times of a batch have a low discrepancy. `bound` and `judge` of one example draw its time. `bounds` are the
    rungs of the ladder: 10, 100 and 1000 steps, infinitely many, and "ode", the probability-flow equation. The last one
    is of another model with the same network. It is much more expensive, and requires the extra `ode`.

    Args:
      denoiser: a `core.Denoiser`.
      init: (key, context) -> params.
      num_steps: T of the bound that is trained; None for continuous time.
      sampler: {"num_steps": N, "eta": 1 for ancestral draws, 0 for DDIM}; None for 100 ancestral steps.
      guidance: w, the weight of guidance without a classifier in draws; bounds have w = 0.
      context_dropout: the rate at which training hides the context.
      context: the `core.Context`; None for none.
      drops: True if the network drops units in training.
    """
    steps = (("num_steps", 100), ("eta", 1.0)) if sampler is None else tuple(sampler.items())

    def init_of_batch(key, batch):
        return init(key, core.first_example(batch)[1])

    def loss(params, key, batch, step):
        key_t, key_terms, key_keep, key_drop = jax.random.split(key, 4)
        size = len(batch["x"])
        given = {"t": objective.low_discrepancy(key_t, size)}
        if context_dropout:
            given["keep"] = jax.random.bernoulli(key_keep, 1.0 - context_dropout, (size,)).astype(jnp.float32)
        if drops:
            given["dropout_key"] = jax.random.split(key_drop, size)

        def one(params, key, x, c, *values):
            options = dict(zip(given, values, strict=True))
            return objective.terms(denoiser, params, key, x, c, num_steps=num_steps, clip=False, **options)

        terms = core.per_example(one)(params, key_terms, batch, *given.values())
        value = -terms["bound"]
        if drops or context_dropout:  # the bound of another model: without some units, or without some classes
            terms = {name: terms[name] for name in ("diffusion", "prior", "reconstruction")}
        return value, Aux(terms)

    def judge(params, key, x, c=None):
        return objective.terms(denoiser, params, key, x, c, num_steps=num_steps)

    def bound_of(num_steps):
        def bound(params, key, x, c=None):
            return objective.terms(denoiser, params, key, x, c, num_steps=num_steps)["bound"]

        return bound

    def sample(params, key, c=None):
        return reverse(denoiser, params, key, c, guidance=guidance, **dict(steps))

    def ode(params, key, x, c=None):
        return probability_flow.bound(denoiser, params, key, x, c)

    rungs = (*((f"T={number}", bound_of(number)) for number in RUNGS), ("infinity", bound_of(None)), ("ode", ode))
    fields = {"sample": sample, "bound": bound_of(num_steps), "denoiser": denoiser, "bounds": rungs}
    return Model(init_of_batch, loss, judge, **fields)


def from_config(
    *,
    event,
    context,
    network,
    schedule,
    parameterisation="epsilon",
    features=16,
    num_steps=CONTINUOUS,
    sampler,
    guidance=0.0,
    context_dropout=0.0,
    compute_dtype="float32",
) -> Model:
    """Return a diffusion model from dicts.

    Args:
      event: the `core.Event` x: bits, levels, numbers in [0, 1] or real numbers, of any shape.
      context: the `core.Context`; None for none.
      network: one of `networks.timed`: "unet" for images, "time_mlp", and its options.
      schedule: one of `networks.noise_schedules`.
      parameterisation: "epsilon", "v" or "levels" (`conditionals.denoisers`).
      features: the rank of the log-weights of "levels".
      num_steps: T, at least 1, or "continuous" for infinitely many steps.
      sampler: {"name": "ancestral" or "ddim", "num_steps": N}.
      guidance: w ≥ 0, the weight of guidance without a classifier in draws, arXiv:2207.12598; 0 for none.
      context_dropout: the rate at which training hides the class, which guidance requires; only for classes.
      compute_dtype: the precision of the network, "float32" or "bfloat16"; schedules and bounds are always float32.

    Raises `BadOption` that names the key.
    """
    numbers(guidance=guidance, at_least=0)
    numbers(context_dropout=context_dropout, at_least=0, below=1)
    of_classes = context is not None and context.shape == ()
    if (guidance or context_dropout) and not of_classes:
        option = "guidance" if guidance else "context_dropout"
        raise BadOption(
            f"{option} requires a model that is conditional on a class; set it to 0, or the context to label"
        )
    if guidance and not context_dropout:
        raise BadOption(
            f"guidance: {guidance} requires training that hides some classes: set context_dropout, such as 0.1"
        )
    build = functools.partial(denoisers.from_config, event, context=context, compute_dtype=compute_dtype)
    options = {"network": network, "schedule": schedule, "parameterisation": parameterisation, "features": features}
    denoiser, init, drops = build(**options)
    return diffusion(
        denoiser,
        init,
        num_steps=steps_of(num_steps),
        sampler=denoisers.sampler(sampler),
        guidance=guidance,
        context_dropout=context_dropout,
        context=context,
        drops=drops,
    )


def steps_of(num_steps) -> int | None:
    """Return T, or None for "continuous". Raises `BadOption` for anything else, such as 0."""
    if isinstance(num_steps, str) and num_steps.isdigit():  # as a flag gives it
        num_steps = int(num_steps)
    if num_steps == CONTINUOUS:
        return None
    if isinstance(num_steps, bool) or not isinstance(num_steps, int) or num_steps < 1:
        raise BadOption(
            f"num_steps must be at least 1, or {CONTINUOUS!r} for infinitely many steps, got {shown(num_steps)}"
        )
    integers(num_steps=num_steps)
    return num_steps
