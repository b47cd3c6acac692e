"""Heads for counts 0, 1, 2, ..., such as reads of genes or words of a document.

With `library=True` a network returns shares, which add up to 1, and the means are the shares times the library size
(the total count of the example): μ = l softmax(h), as in arXiv:1709.02082 with its size observed. The logarithm of l is
the model's context, `library` of `data.contexts`.
"""

import jax
import jax.numpy as jnp

from vae_jax.conditionals.conditional import LOG_SCALE_LIMIT, Head
from vae_jax.distributions import NegativeBinomial, Poisson, ZeroInflated
from vae_jax.numerics import soft_clip
from vae_jax.spec import flags, one_of

__all__ = ["negative_binomial", "poisson", "zero_inflated_negative_binomial", "zero_inflated_poisson"]

LOG_MEAN_LIMIT = 16.0  # without a library: means up to 9 million
LIBRARY = (1,)  # the shape of its context


def poisson(event_shape, *, library=False) -> Head:
    """Return Poisson counts: the network returns a log-mean for each, or with `library` the logit of its share."""
    return _head(event_shape, lambda log_mean: Poisson(log_mean), library=library)


def negative_binomial(event_shape, *, library=False, dispersion="shared") -> Head:
    """Return negative binomial counts of mean μ and variance μ + μ²/θ, as in arXiv:1709.02082.

    log θ is softly clipped to (-8, 8).

    Args:
      event_shape: the shape of x.
      library: True for means that are shares of the total count.
      dispersion: "shared" for one θ for each entry (each gene), the same for all examples; "example" for a θ that the
        network returns.
    """
    return _with_dispersion(event_shape, NegativeBinomial, library=library, dispersion=dispersion)


def zero_inflated_poisson(event_shape, *, library=False) -> Head:
    """Return Poisson counts that are zero with an additional probability, whose log-odds the network returns."""
    return _head(
        event_shape, lambda log_mean, logits: ZeroInflated(logits, Poisson(log_mean)), num_more=1, library=library
    )


def zero_inflated_negative_binomial(event_shape, *, library=False, dispersion="shared") -> Head:
    """Return `negative_binomial` counts that are zero with an additional probability: ZINB, arXiv:1709.02082."""

    def distribution(log_mean, log_theta, logits):
        return ZeroInflated(logits, NegativeBinomial(log_mean, log_theta))

    return _with_dispersion(event_shape, distribution, num_more=1, library=library, dispersion=dispersion)


def _with_dispersion(event_shape, family, *, library, dispersion, num_more=0):
    """Return the head of `family(log_mean, log_theta, *more)`, θ from the network or from weights of the head."""
    one_of(("shared", "example"), dispersion=dispersion)
    if dispersion == "example":

        def from_outputs(log_mean, raw, *more):
            return family(log_mean, soft_clip(raw, LOG_SCALE_LIMIT), *more)

        return _head(event_shape, from_outputs, num_more=1 + num_more, library=library)

    def from_weights(log_mean, *more):
        *more, raw = more
        return family(log_mean, soft_clip(raw, LOG_SCALE_LIMIT), *more)

    return _head(event_shape, from_weights, num_more=num_more, library=library, init=lambda key: jnp.zeros(event_shape))


def _head(event_shape, family, *, library, num_more=0, init=None):
    """Return the head of `family(log_mean, *more)`; `more` are arrays of the shape of x, the weights last."""
    flags(library=library)

    def distribution(raw, *more, context=None):
        if not library:
            return family(soft_clip(raw, LOG_MEAN_LIMIT), *more)
        return family(context[0] + jax.nn.log_softmax(raw.ravel()).reshape(raw.shape), *more)

    return Head((event_shape,) * (1 + num_more), distribution, init, LIBRARY if library else None)
