"""Where log p(x) - ELBO is lost, and whether the posterior has collapsed."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.evaluation import latents
from vae_jax.inference import local

AT_ONCE = 20  # examples fitted side by side
BOUND_SAMPLES = 500  # draws an example for either ELBO, the same noise for both
INACTIVE = 0.01  # nats of rate below which a dimension says nothing
UNFILLED = 0.3  # nats: codes that fill the fraction f of the prior evenly have KL(q(z) || p(z)) = -log f


def inference_gaps(model, params, key, data, log_prob, *, optimizer, num_steps, num_samples) -> dict:
    """log p(x) - ELBO of every example in two parts [N], nats, arXiv:1801.03558 table 1:

        approximation = log p(x) - ELBO(q*)      what the family of Gaussians cannot express
        amortisation  = ELBO(q*) - ELBO(q_φ)     what the encoder misses of the best in the family

    with q* fitted to each example by `inference.local.fit`, from q_φ on. `log_prob` [N] is the exact evidence, by
    `inference.grid`, or an estimate, by `evaluation.annealed` or importance weights: the approximation gap is
    then too small by the estimate's own. Returns `elbo`, `local_elbo`, `approximation`, `amortisation`.
    """
    bounds = _gaps(model.latent, optimizer, num_steps, num_samples, params, key, data)
    encoder, best = (np.asarray(bound, np.float64) for bound in bounds)
    return {
        "elbo": encoder,
        "local_elbo": best,
        "approximation": np.asarray(log_prob, np.float64) - best,
        "amortisation": best - encoder,
    }


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _gaps(latent, optimizer, num_steps, num_samples, params, key, data):
    def one(item):
        index, example = item
        options = {"optimizer": optimizer, "num_steps": num_steps, "num_samples": num_samples}
        own = (jax.random.fold_in(key, index), example["x"], example.get("context"))
        return local.improvement(latent, params, *own, **options, bound_samples=BOUND_SAMPLES)

    return jax.lax.map(one, (jnp.arange(len(data["x"])), data), batch_size=AT_ONCE)


class Collapse(NamedTuple):
    """What the codes carry, over N examples, in nats: rate = mutual_information + aggregate_kl."""

    active_units: int  # dimensions whose mean varies with x, `latents.active_units`
    num_units: int
    rate_per_dimension: np.ndarray  # [D]  mean KL(q(z_d|x) || p(z_d))
    mutual_information: float  # I_q(x; z), at most log N
    aggregate_kl: float  # KL(q(z) || p(z)) of q(z) = (1/N) Σ_n q(z|x_n)
    verdict: str


def collapse(model, params, key, data) -> Collapse:
    """Does the code say anything about x, and do codes of data look like draws of the prior?

    The mean rate splits as KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || p(z)) (Hoffman and Johnson 2016). Diagonal
    Gaussians only, else `TypeError`. `verdict` says it in words, with the numbers.
    """
    q = latents.posteriors(model, params, data)
    rates, information = latents.rate_per_dimension(model, params, data), latents.mutual_information(q, key)
    return diagnose(rates, information, latents.active_units(q.mean()), num_examples=len(data["x"]))


def diagnose(rates, information, active_units, *, num_examples) -> Collapse:
    """The report on numbers that are known: `rates` [D], nats, and the `information` of `num_examples` codes."""
    rates, information = np.asarray(rates, np.float64), max(0.0, float(information))
    report = Collapse(int(active_units), len(rates), rates, information, float(rates.sum()) - information, "")
    return report._replace(verdict=_verdict(report, num_examples))


def _verdict(report, size):
    silent = int(np.sum(report.rate_per_dimension < INACTIVE))
    units = f"{report.active_units} of {report.num_units} latent dimensions are active"
    if report.active_units == 0 or report.mutual_information < INACTIVE:
        return (
            f"collapsed: {units} and the code tells {report.mutual_information:.3f} nats about x; the decoder ignores "
            "z. Warm the KL up, weaken the decoder, or train the encoder more between its steps"
        )
    verdict = f"{units} and the code tells {report.mutual_information:.2f} nats about x"
    if report.mutual_information > 0.95 * math.log(size):
        verdict += f" at least (all that {size} examples can show)"
    verdict = f"{'partly collapsed' if silent else 'not collapsed'}: {verdict}"
    if silent:
        verdict += f"; {silent} say nothing (rate below {INACTIVE} nats)"
    misfit = f"KL(q(z) || p(z)) is {report.aggregate_kl:.2f} of {report.rate_per_dimension.sum():.2f} nats of rate"
    if report.aggregate_kl < UNFILLED:
        return f"{verdict}; the codes of all data fill the prior ({misfit})"
    return (
        f"{verdict}; the codes of all data do not fill the prior ({misfit}, as if they filled "
        f"{math.exp(-report.aggregate_kl):.0%} of it): draws from the prior may decode to what is no datum"
    )
