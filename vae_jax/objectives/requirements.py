"""What an objective asks of the posterior and the prior, found out before anything is compiled."""

from typing import NamedTuple

from vae_jax.distributions import Mixture, Normal, has_closed_form, is_discrete


class OwnNetwork(NamedTuple):
    input: str  # "x", standardised, or "z"
    outputs: tuple  # shapes


# Networks that an equation learns for itself, by the name of the option.
OWN_NETWORKS: dict[str, OwnNetwork] = {"discriminator": OwnNetwork("z", ((2,),))}
CLOSED_KL = {"capacity", "elbo", "free_bits", "gumbel_softmax"}
PRIOR_OVER = {"real": "standard", "binary": "bernoulli", "sphere": "uniform_sphere"}
BY_SCORE = {"rloo", "score_function", "vimco"}  # of log q alone: no gradient passes through a draw
BY_DIMENSION = {"beta_tcvae", "dip_vae"}  # of a diagonal Gaussian's dimensions
INDEPENDENT = {*BY_DIMENSION, "factor_vae"}  # they draw q(z) towards independent dimensions


def check_pair(objective, q, p):
    """Raise `ValueError` with the remedy where `objective`, by name, cannot be maximised with posterior `q`, prior `p`.

    Some want KL(q || p) in closed form, some independent dimensions. All but the score-function estimators
    differentiate through z ~ q: a discrete draw has no gradient, unless `gumbel_softmax` relaxes it; the choice of a
    mixture's component has none, unless `stratified_elbo` sums it out.
    """
    q_name, p_name = type(q).__name__, type(p).__name__
    if q.support != p.support:
        raise ValueError(
            f"config.model.prior: a {p_name} is over {p.support}, the posterior, a {q_name}, over {q.support}; use "
            f"{PRIOR_OVER.get(q.support, 'vamp')!r}"
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
        remedy = "'rloo' or 'vimco'" if is_discrete(q) else "'elbo_sampled_kl'"
        raise ValueError(f"{where} and a {p_name} prior: no closed-form KL; use {remedy}")
    if objective == "free_bits" and type(q) is not type(p):
        raise ValueError(f"{where} and a {p_name} prior, whose KL does not split by dimension; use 'elbo'")
    if objective in BY_DIMENSION and not isinstance(q, Normal):
        raise ValueError(f"{where}, which does not split by dimension; use 'info_vae', or the posterior 'normal'")
    if objective in INDEPENDENT and not isinstance(p, Normal):
        raise ValueError(
            f"{where} and a {p_name} prior: its dimensions are not independent; use 'info_vae', or the prior 'standard'"
        )
