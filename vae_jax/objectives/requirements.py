"""What an objective asks of the posterior and the prior, found out before anything is compiled."""

from vae_jax.distributions import Mixture, has_closed_form, is_discrete


def check_pair(objective, q, p):
    """Raise `ValueError` with the remedy where `objective`, by name, cannot be maximised with posterior `q`, prior `p`.

    `elbo` wants KL(q || p) in closed form. All bounds but `stratified_elbo` differentiate through z ~ q, whose choice
    of a mixture's component has no gradient; all differentiate through the draw itself, which a discrete q has not.
    """
    q_name, p_name = type(q).__name__, type(p).__name__
    if is_discrete(q) != is_discrete(p):
        raise ValueError(
            f"config.model.prior: a {p_name} is over {p.support}, the posterior, a {q_name}, over {q.support}"
        )
    if objective not in ("elbo", "elbo_sampled_kl", "iwae", "stratified_elbo"):
        return
    where = f"config.model.objective.name: {objective!r} cannot be used with a {q_name} posterior"
    if is_discrete(q):
        raise ValueError(f"{where}: no gradient passes through draws of {q.support}; it wants another estimator")
    if isinstance(q, Mixture) and objective != "stratified_elbo":
        raise ValueError(f"{where}: no gradient passes through the choice of its component; use 'stratified_elbo'")
    if objective == "elbo" and not has_closed_form(q, p):
        raise ValueError(f"{where} and a {p_name} prior: no closed-form KL; use 'elbo_sampled_kl'")
