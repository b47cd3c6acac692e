"""The one yardstick: which kind of number log p(x) is for a model, and that number for every example of a data set."""

from typing import NamedTuple

import jax
import numpy as np

from vae_jax.evaluation import likelihood
from vae_jax.spec import integers

EXACT, IMPORTANCE, BOUND, NONE = "=", "≥ IW", "≥", "-"
ONLY_DRAWS = (
    "this model only draws samples (`sample`): it has no density and no bound, hence no log p(x). Under Gaussian noise "
    "annealed importance sampling estimates it: `runs.observation.log_prob(run, x, scale=...)`"
)


class Measured(NamedTuple):
    """The measured log p(x) of the examples of a data set, in nats."""

    kind: str  # "=": exact; "≥ IW-K": importance-weighted bound; "≥": mean bound; "-": there is no number
    log_prob: np.ndarray | None  # [N]; None for "-"
    terms: dict  # {name: [N]}: rate, distortion, ess ...
    note: str  # a sentence for the reader


def kind_of(model, num_samples) -> str:
    """Return the kind of number that `measure` gives: it depends only on the fields that the model fills."""
    if model.log_prob is not None:
        return EXACT
    if model.latent is not None and model.latent.prior is not None:
        return f"{IMPORTANCE}-{num_samples}"
    return NONE if model.bound is None else BOUND


def check_has_number(model):
    """Raise `ValueError` for a model of samples only (a GAN), of which nothing about log p(x) can be measured."""
    if kind_of(model, 1) == NONE and model.latent is None:
        raise ValueError(ONLY_DRAWS)


def is_bound(kind) -> bool:
    """Return True if log p(x) may be larger than the number."""
    return kind.startswith(BOUND)


def dequantised(kind) -> str:
    """Return how to read a number of this kind when it is the density of dequantised levels: a bound of their mass."""
    return kind if kind == NONE else f"{BOUND if kind == EXACT else kind}, dequantised"


def measure(model, params, key, data, *, num_samples, offset=0.0, progress=False) -> Measured:
    """Measure a model on a data set. The fields that it fills decide which number there is.

        "="        `log_prob`: exact
        "≥ IW-K"   `latent` with a prior: K importance samples (`likelihood.importance_weighted`)
        "≥"        `bound`: the mean of K estimates, with a standard error
        "-"        reconstruction terms of an auto-encoder; nothing for a model of samples only (a GAN)

    Args:
      model: a `core.Model`.
      params: its parameters.
      key: the randomness of the samples.
      data: {"x": [N, ...]} and "context" for a conditional model.
      num_samples: K.
      offset: D log V for the density of D dequantised values of V levels, subtracted from it (`likelihood.of_levels`).
      progress: True for a progress bar.
    """
    integers(num_samples=num_samples)
    kind, note, terms, log_prob = kind_of(model, num_samples), "", {}, None
    key_terms, key_weights = jax.random.split(key)
    if kind == EXACT:
        log_prob, note = likelihood.exact(model, params, data), "exact"
    elif kind.startswith(IMPORTANCE):
        terms = likelihood.elbo_terms(model, params, key_terms, data)
        options = {"num_samples": num_samples, "progress": progress}
        weighted = likelihood.log_likelihood(model, params, key_weights, data, **options)
        log_prob, terms = weighted["log_prob"], {**terms, "elbo": terms["bound"], "ess": weighted["ess"]}
        note = f"importance-weighted bound, K = {num_samples}"
    elif kind == BOUND:
        terms = likelihood.mean_bound(model, params, key_weights, data, num_samples=num_samples)
        log_prob, note = terms.pop("log_prob"), f"bound, mean of {num_samples} estimates"
    elif model.latent is not None:
        terms, note = likelihood.reconstructions(model, params, data), "no p(z), hence no log p(x)"
    else:
        note = "no log p(x): this model only draws samples"
    if offset:
        terms = likelihood.of_levels(terms, offset)
        log_prob = None if log_prob is None else log_prob - offset
        kind = dequantised(kind)
    return Measured(kind, log_prob, terms, note)


def summary(measured: Measured, *, num_samples, num_examples, **units) -> dict:
    """Return the means over a data set as one flat dict: `kind`, what `likelihood.summary_of` gives, and the terms.

    `num_samples` is K of a bound; `units` are `event_size` or `num_tokens`.
    """
    terms = {name: float(np.mean(values, dtype=np.float64)) for name, values in measured.terms.items()}
    result = {"kind": measured.kind}
    if "ess" in terms:
        result |= {name: terms[name] for name in ("elbo", "rate", "distortion")} | {
            "effective_samples": float(np.mean(measured.terms["ess"]))
        }
    elif "mse" in terms:
        result |= {name: terms[name] for name in ("distortion", "mse")}
    if is_sampled(measured):
        result["num_samples"] = num_samples
    if measured.log_prob is None:
        return result | {"num_examples": num_examples}
    return result | likelihood.summary_of(measured.log_prob, **units)


def is_sampled(measured: Measured) -> bool:
    """Return True if the number depends on a number of samples."""
    return "ess" in measured.terms or "se" in measured.terms
