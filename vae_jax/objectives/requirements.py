"""What an objective asks of the posterior and the prior, found out before anything is compiled."""

from typing import NamedTuple

from vae_jax.distributions import Mixture, has_closed_form, is_discrete


class OwnNetwork(NamedTuple):
    input: str  # "x", standardised, or "z"
    outputs: tuple  # shapes


# Networks that an equation learns for itself, by the name of the option.
OWN_NETWORKS: dict[str, OwnNetwork] = {"baseline": OwnNetwork("x", ((),))}
# Running means that an equation keeps, by the name of the option: the number given is the decay.
RUNNING_MEANS = {"running_mean", "running_variance"}
CLOSED_KL = {"capacity", "elbo", "free_bits", "gumbel_softmax"}
BY_SCORE = {"nvil", "rloo", "score_function", "vimco"}  # of log q alone: no gradient passes through a draw


def check_pair(objective, q, p):
    """Raise `ValueError` with the remedy where `objective`, by name, cannot be maximised with posterior `q`, prior `p`.

    Some want KL(q || p) in closed form. All but the score-function estimators differentiate through z ~ q: a discrete
    draw has no gradient, unless `gumbel_softmax` relaxes it; the choice of a mixture's component has none, unless
    `stratified_elbo` sums it out.
    """
    q_name, p_name = type(q).__name__, type(p).__name__
    if is_discrete(q) != is_discrete(p):
        raise ValueError(
            f"config.model.prior: a {p_name} is over {p.support}, the posterior, a {q_name}, over {q.support}"
        )
    where = f"config.model.objective.name: {objective!r} cannot be used with a {q_name} posterior"
    if is_discrete(q) and objective not in BY_SCORE | {"gumbel_softmax"}:
        raise ValueError(
            f"{where}: no gradient passes through draws of {q.support}; use 'rloo', 'vimco' or 'gumbel_softmax'"
        )
    if objective == "gumbel_softmax" and not is_discrete(q):
        raise ValueError(f"{where}, which needs no relaxation; use 'elbo'")
    if isinstance(q, Mixture) and objective not in BY_SCORE | {"stratified_elbo"}:
        raise ValueError(f"{where}: no gradient passes through the choice of its component; use 'stratified_elbo'")
    if objective in CLOSED_KL and not has_closed_form(q, p):
        raise ValueError(f"{where} and a {p_name} prior: no closed-form KL; use 'elbo_sampled_kl'")
    if objective == "free_bits" and type(q) is not type(p):
        raise ValueError(f"{where} and a {p_name} prior, whose KL does not split by dimension; use 'elbo'")
