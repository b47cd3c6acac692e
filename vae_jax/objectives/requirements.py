"""What an objective asks of the posterior and the prior, found out before anything is compiled."""

from vae_jax.distributions import Mixture, has_closed_form, is_discrete

CLOSED_FORM = ("elbo",)  # want KL(q || p) in closed form
PATHWISE = ("elbo", "elbo_sampled_kl", "iwae")  # differentiate through z ~ q
STRATIFIED = ("stratified_elbo",)  # differentiate through the draws of every component of a mixture


def check_pair(objective, q, p):
    """Raise `ValueError` with the remedy where `objective`, by name, cannot be maximised with posterior `q`, prior `p`.

    q and p may hold shapes in place of arrays. A draw of a discrete q has no gradient, nor has the choice of a
    component of a mixture: a pathwise objective would train on a biased gradient and not say so.
    """
    q_name, p_name = type(q).__name__, type(p).__name__
    if is_discrete(q) != is_discrete(p):
        raise ValueError(
            f"config.model.prior: a {p_name} is over {p.support}, the posterior, a {q_name}, over {q.support}"
        )
    where = f"config.model.objective.name: {objective!r} cannot be used with a {q_name} posterior"
    if objective in PATHWISE + STRATIFIED and is_discrete(q):
        raise ValueError(f"{where}: no gradient passes through draws of {q.support}; it wants another estimator")
    if objective in PATHWISE and isinstance(q, Mixture):
        raise ValueError(f"{where}: no gradient passes through the choice of its component; use 'stratified_elbo'")
    if objective in CLOSED_FORM and not has_closed_form(q, p):
        raise ValueError(f"{where} and a {p_name} prior: no closed-form KL; use 'elbo_sampled_kl'")
