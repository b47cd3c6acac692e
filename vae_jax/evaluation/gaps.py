"""The two parts of log p(x) - ELBO, and a report on posterior collapse."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.evaluation import latents
from vae_jax.inference import local

AT_ONCE = 20  # examples fitted side by side
BOUND_SAMPLES = 500  # draws for each example and ELBO; the noise of both ELBOs is the same
INACTIVE = 0.01  # nats of information; a code with less carries none
UNFILLED = 0.3  # nats; codes that evenly fill a fraction f of the prior have KL(q(z) || p(z)) = -log f


def inference_gaps(model, params, key, data, log_prob, *, optimizer, num_steps, num_samples) -> dict:
    """Return the two parts of log p(x) - ELBO of every example, [N] each, nats.  arXiv:1801.03558 table 1.

        approximation = log p(x) - ELBO(q*)      the loss by the family of Gaussians
        amortisation  = ELBO(q*) - ELBO(q_φ)     the loss by the encoder

    q* is fitted to each example by `inference.local.fit`, starting from q_φ. Returns {"elbo", "local_elbo",
    "approximation", "amortisation"}.

    Args:
      model: a `core.Model` with a `latent` whose posterior is a diagonal Gaussian.
      params: its parameters.
      key: the randomness.
      data: {"x": [N, ...]}, and "context".
      log_prob: [N], the exact evidence (`inference.grid`), or an estimate (`evaluation.annealed`, importance weights).
        An estimate that is too small makes the approximation gap too small by as much.
      optimizer: of Optax, for q*.
      num_steps: its steps.
      num_samples: draws of z at each step.
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
        case = (jax.random.fold_in(key, index), example["x"], example.get("context"))
        return local.improvement(latent, params, *case, **options, bound_samples=BOUND_SAMPLES)

    return jax.lax.map(one, (jnp.arange(len(data["x"])), data), batch_size=AT_ONCE)


class Collapse(NamedTuple):
    """The information in the codes of N examples, in nats: rate = I_q(x; z) + KL(q(z) || p(z))."""

    active_units: int  # dimensions whose mean varies with x, `latents.active_units`
    num_units: int
    rate_per_dimension: np.ndarray  # [D]  mean KL(q(z_d|x) || p(z_d))
    mutual_information: float  # an estimate of I_q(x; z) that is at most log N
    aggregate_kl: float  # rate - mutual_information: KL(q(z) || p(z)) is at most this
    least_aggregate_kl: float | None  # KL(q(z) || p(z)) is at least this; None if it was not computed
    verdict: str


def collapse(model, params, key, data) -> Collapse:
    """Report whether the code carries information about x, and whether codes of data look like draws of the prior.

    The mean rate splits as KL(q(z|x) || p(z)) = I_q(x; z) + KL(q(z) || p(z)) (Hoffman and Johnson 2016). N examples
    cannot show more than log N nats of I, so rate - I bounds the KL only from above; `latents.least_aggregate_kl`
    bounds it from below. `verdict` is a sentence with the numbers. Diagonal Gaussians only; else raises `TypeError`.

    Args:
      model: a `core.Model` with a `latent`.
      params: its parameters.
      key: the randomness of the draws.
      data: {"x": [N, ...]}, and "context".
    """
    q, prior = latents.posteriors(model, params, data), latents.prior_of(model, params, data)
    rates, information = latents.rate_per_dimension(model, params, data), latents.mutual_information(q, key)
    key_least = jax.random.fold_in(key, len(data["x"]))  # differs from the keys of the examples, the splits 0 .. N-1
    least = latents.least_aggregate_kl(q, prior, key_least)
    active = latents.active_units(q.mean())
    return diagnose(rates, information, active, num_examples=len(data["x"]), least_aggregate_kl=least)


def diagnose(rates, information, active_units, *, num_examples, least_aggregate_kl=None) -> Collapse:
    """Return the report on known numbers: `rates` [D], nats, and the `information` of `num_examples` codes."""
    rates, information = np.asarray(rates, np.float64), max(0.0, float(information))
    most = float(rates.sum()) - information
    report = Collapse(int(active_units), len(rates), rates, information, most, least_aggregate_kl, "")
    return report._replace(verdict=_verdict(report, num_examples))


def _verdict(report, size):
    if size < 2:
        return f"unknown: {size} example cannot show whether codes vary; use at least 2"
    silent = report.num_units - report.active_units
    units = f"{report.active_units} of {report.num_units} latent dimensions are active"
    if report.active_units == 0 or report.mutual_information < INACTIVE:
        return (
            f"collapsed: {units} and the code tells {report.mutual_information:.3f} nats about x; the decoder ignores "
            "z. Warm the KL up, weaken the decoder, or train the encoder more between its steps"
        )
    verdict = f"{units} and the code tells {report.mutual_information:.2f} nats about x"
    if latents.is_capped(report.mutual_information, size):
        verdict += " at least"
    if report.mutual_information > 0.95 * math.log(size):
        verdict += f" (all that {size} examples can show)"
    verdict = f"{'partly collapsed' if silent else 'not collapsed'}: {verdict}"
    if silent:
        verdict += f"; {silent} say nothing (their means hardly vary)"
    return f"{verdict}; {_filling(report, size)}"


def _filling(report, size):
    """Say if the codes of all data fill the prior, from bounds of KL(q(z) || p(z)) on both sides."""
    most, least = max(0.0, report.aggregate_kl), report.least_aggregate_kl
    if least is None and not latents.is_capped(report.mutual_information, size):
        least = most  # an estimate, which the limit of log N does not touch
    if not least or least < 0.005:
        bounds = f"at most {most:.2f}"
    elif least < most:
        bounds = f"between {least:.2f} and {most:.2f}"
    else:  # both are estimates
        bounds = f"about {least:.2f}"
    misfit = f"KL(q(z) || p(z)) is {bounds} of {report.rate_per_dimension.sum():.2f} nats of rate"
    if least is not None and least >= UNFILLED:
        return (
            f"the codes of all data do not fill the prior ({misfit}, as if they filled {math.exp(-least):.0%} of it at "
            "most): draws from the prior may decode to what is no datum"
        )
    if most < UNFILLED:
        return f"the codes of all data fill the prior ({misfit})"
    if least is None:
        return f"{size} examples cannot tell whether the codes of all data fill the prior ({misfit})"
    return f"the codes of all data fill the prior as far as {size} examples can tell ({misfit})"
