"""The conditions of every objective on the posterior and the prior, checked before anything is compiled."""

from typing import NamedTuple

from vae_jax.distributions import Mixture, Normal, Sequential, has_closed_form, is_discrete
from vae_jax.distributions.sequential import parts_at_mean
from vae_jax.objectives.disentangling import KERNELS, KINDS, SAMPLINGS
from vae_jax.spec import BadOption, flags, integers, numbers, one_of, probe


class OwnNetwork(NamedTuple):
    input: str  # "x", standardised, or "z"
    outputs: tuple  # shapes


# Networks that an equation learns for itself, by the name of the option.
OWN_NETWORKS: dict[str, OwnNetwork] = {"baseline": OwnNetwork("x", ((),)), "discriminator": OwnNetwork("z", ((2,),))}
# Running means that an equation keeps, by the name of the option: the number given is the decay.
RUNNING_MEANS = {"running_mean", "running_variance"}
CLOSED_KL = {"capacity", "elbo", "free_bits", "gumbel_softmax"}
PRIOR_OVER = {"real": "standard", "binary": "bernoulli", "sphere": "uniform_sphere"}
BY_SCORE = {"nvil", "rloo", "score_function", "vimco"}  # of log q alone: no gradient passes through a draw
SUMMED = {"stratified_elbo"}  # over the components of a mixture
# These ask of q and p no more than draws and their densities.
BY_DENSITY = {"ciwae", "dreg", "elbo_sampled_kl", "iwae", "miwae", "piwae", "renyi", "sticking_the_landing"}
BY_DIMENSION = {"beta_tcvae", "dip_vae"}  # of a diagonal Gaussian's dimensions
INDEPENDENT = {*BY_DIMENSION, "factor_vae"}  # they draw q(z) towards independent dimensions


COUNTS = {"num_data", "num_outer", "num_samples"}
BOUNDS = {  # of the numbers that equations take, and of every value of a schedule in their place
    **{key: {"at_least": 0} for key in ("beta", "free_nats", "gamma", "lambda_d", "lambda_mmd", "lambda_od", "nats")},
    "elbo_weight": {"at_least": 0, "at_most": 1},
    "temperature": {"above": 0},
    **{key: {"at_least": 0, "below": 1} for key in RUNNING_MEANS},
    "alpha": {},
}
WORDS = {"kernel": tuple(KERNELS), "kind": KINDS, "sampling": SAMPLINGS}


def check_values(objective, options, needed):
    """Raise `BadOption` for a value, among the `options` of an objective by name, that no equation can take.

    A running mean may be None, unless it is among the options that the equation needs (`needed`).
    """
    for name, value in options.items():
        if name in COUNTS:
            integers(**{name: value}, at_least=2 if objective in ("rloo", "vimco") else 1)
        elif name in WORDS:
            one_of(WORDS[name], **{name: value})
        elif name == "hard":
            flags(hard=value)
        elif name == "scales":
            if not isinstance(value, tuple | list) or not value:
                raise BadOption(f"scales must be a tuple of numbers above 0, such as (0.5, 1.0), got {value!r}")
            for scale in value:
                numbers(**{"scales: each entry": scale}, above=0)
        elif name in OWN_NETWORKS:
            continue
        elif callable(value):
            for step, number in probe(value):
                numbers(**{f"{name}, at step {step},": number}, **BOUNDS[name])
        elif name in BOUNDS and not (value is None and name in RUNNING_MEANS and name not in needed):
            numbers(**{name: value}, **BOUNDS[name])
    if objective == "renyi" and options["alpha"] == 1:
        raise BadOption("alpha must differ from 1, got 1; the limit is objective 'elbo_sampled_kl'")


def check_pair(objective, q, p):
    """Raise `ValueError` with the remedy where `objective`, by name, cannot be maximised with posterior `q`, prior `p`.

    Some want KL(q || p) in closed form, some independent dimensions. All but the score-function estimators
    differentiate through z ~ q: a discrete draw has no gradient, unless `gumbel_softmax` relaxes it; the choice of a
    mixture's component has none, unless `stratified_elbo` sums it out. A chain, whose z is a tuple, wants both to be
    over the same at every level, and an equation that asks no more of z than its densities.
    """
    parts, chain = parts_at_mean(q), isinstance(q, Sequential)
    for q_part, p_part in zip(parts, parts_at_mean(p), strict=True):
        if q_part.support != p_part.support:
            q_name, p_name = type(q_part).__name__, type(p_part).__name__
            raise BadOption(
                f"prior: a {p_name} is over {p_part.support}, the posterior, a {q_name}, over "
                f"{q_part.support}; use {PRIOR_OVER.get(q_part.support, 'vamp')!r}"
            )
    q_name, p_name = type(q).__name__, type(p).__name__
    where = f"objective.name: {objective!r} cannot be used with a {q_name} posterior"
    discrete, closed = [part for part in parts if is_discrete(part)], has_closed_form(q, p)
    if discrete and objective not in BY_SCORE | {"gumbel_softmax"}:
        remedy = "'rloo' or 'vimco'" if chain else "'rloo', 'vimco' or 'gumbel_softmax'"
        raise ValueError(f"{where}: no gradient passes through draws of {discrete[0].support}; use {remedy}")
    if objective == "gumbel_softmax" and not discrete:
        raise ValueError(f"{where}, which needs no relaxation; use '{'elbo' if closed else 'elbo_sampled_kl'}'")
    by_choice, remedy = (BY_SCORE, "rloo") if chain else (SUMMED | BY_SCORE, "stratified_elbo")
    if any(isinstance(part, Mixture) for part in parts) and objective not in by_choice:
        raise ValueError(f"{where}: no gradient passes through the choice of a component; use {remedy!r}")
    if objective in CLOSED_KL and not closed:
        remedy = "'rloo' or 'vimco'" if discrete else "'elbo_sampled_kl'"
        raise ValueError(f"{where} and a {p_name} prior: no closed-form KL; use {remedy}")
    if objective == "free_bits" and type(q) is not type(p):
        raise ValueError(f"{where} and a {p_name} prior, whose KL does not split by dimension; use 'elbo'")
    if chain and objective not in BY_DENSITY | BY_SCORE | SUMMED:
        raise ValueError(f"{where}: it is an equation of a single code; use 'elbo_sampled_kl'")
    if objective in BY_DIMENSION and not isinstance(q, Normal):
        raise ValueError(f"{where}, which does not split by dimension; use 'info_vae', or the posterior 'normal'")
    if objective in INDEPENDENT and not isinstance(p, Normal):
        raise ValueError(
            f"{where} and a {p_name} prior: its dimensions are not independent; use 'info_vae', or the prior 'standard'"
        )
