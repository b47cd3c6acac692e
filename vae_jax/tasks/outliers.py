"""Scores that are larger for outliers, in nats.

Scores of one example are functions `(model, params, key, x, context) -> score`, which use the fields of a model that
they need. `of_data` applies one to a data set. The functions of arrays at the end correct such scores.
"""

import bz2
import functools
import lzma
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np

from vae_jax.inference import local
from vae_jax.objectives import bounds

AT_ONCE = 50  # examples in parallel, each with all its samples
CODERS = {
    "bz2": lambda data: bz2.compress(data, 9),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9}]),
    "zlib": lambda data: zlib.compress(data, 9, wbits=-15),  # without a header
}


def of_data(score, model, params, key, data, *, at_once=AT_ONCE, **options):
    """Return the score of every example of `data`, float64 [N].

    Example n uses the key fold_in(key, n), so its score does not depend on later examples.

    Args:
      score: `(model, params, key, x, context, **options) -> score`.
      model: a `core.Model`.
      params: its parameters.
      key: a JAX key.
      data: a dict of examples `x` [N, ...], and `context` if the model is conditional.
      at_once: the number of examples in parallel; memory is proportional to it.
      **options: options of the score.
    """
    scores = _of_data(score, model, at_once, tuple(sorted(options.items())), params, key, data)
    return np.asarray(scores, np.float64)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _of_data(score, model, at_once, options, params, key, data):
    def one(item):
        index, example = item
        example_key, context = jax.random.fold_in(key, index), example.get("context")
        return score(model, params, example_key, example["x"], context, **dict(options))

    return jax.lax.map(one, (jnp.arange(len(data["x"])), data), batch_size=at_once)


def surprise(model, params, key, x, context=None, *, num_samples):
    """Return -log p(x), exactly if the model has a density, otherwise from a lower bound of log p(x).

    The bound of a latent-variable model is the importance-weighted one with K = `num_samples`, arXiv:1509.00519
    eq. (8). It makes the surprise too large on average. Simple images may have a smaller surprise than the training
    data, arXiv:1810.09136.

    Args:
      model: a `core.Model`.
      params: its parameters.
      key: a JAX key.
      x: one example.
      context: its context, if the model is conditional.
      num_samples: the number of draws of a bound.
    """
    if model.log_prob is not None:
        return -model.log_prob(params, x, context)
    if model.bound is not None and (model.latent is None or model.latent.prior is None):
        keys = jax.random.split(key, num_samples)
        return -jnp.mean(jax.vmap(lambda key: model.bound(params, key, x, context))(keys))
    if model.latent is None or model.latent.prior is None:
        raise ValueError(
            "`surprise` requires a model with log p(x) or a bound, and this one has neither; use `distortion`, or give "
            "it a density of its codes (`tasks.generate.with_code_density`)"
        )
    return -bounds.plain_iwae(_generative(model), params, key, x, context, num_samples=num_samples)[0]


def negative_elbo(model, params, key, x, context=None, *, num_samples):
    """Return -ELBO from `num_samples` draws, with the KL in closed form if there is one. Arguments as in `surprise`."""
    return -bounds.plain_elbo(_generative(model), params, key, x, context, num_samples=num_samples)[0]


def distortion(model, params, key, x, context=None):
    """Return -log p(x | z = E_q[z]), the error of the reconstruction. Arguments as in `surprise`."""
    if model.latent is None:
        raise ValueError("the distortion requires codes, but this model has no `latent`; use `surprise`")
    z = model.latent.posterior(params, x, context).mean()
    return -model.latent.likelihood(params, z, context).log_prob(x)


def likelihood_regret(model, params, key, x, context=None, *, optimizer, num_steps, num_samples, bound_samples):
    """Return ELBO(q*) - ELBO(q_φ), how much a posterior that is fitted to this x improves on the encoder's.

    arXiv:2003.02977 fits the whole encoder or, as here, the parameters of q(z|x), a diagonal Gaussian. Except for the
    noise of the two estimates, the result is not negative. Arguments are those of `inference.local.improvement`.
    """
    options = {
        "optimizer": optimizer,
        "num_steps": num_steps,
        "num_samples": num_samples,
        "bound_samples": bound_samples,
    }
    encoder, best = local.improvement(_generative(model), params, key, x, context, **options)
    return best - encoder


def typicality(surprises, reference):
    """Return |-log p(x) - H| [N], where H is the mean of -log p(x) over the `reference` (training) data.

    An example that is too probable is as atypical as one that is too improbable, arXiv:1906.02994 for a batch of one.
    """
    return np.abs(np.asarray(surprises, np.float64) - np.mean(reference, dtype=np.float64))


def complexity_corrected(surprises, lengths):
    """Return -log p(x) - L(x) [N], where L is the length of x under a universal coder (`code_lengths`).

    This is the log-ratio of the coder's probability to the model's, so simple images have no advantage,
    arXiv:1909.11480 (there in bits). -log p must be that of a probability of the same levels as L, not of a density.
    """
    return np.asarray(surprises, np.float64) - np.asarray(lengths, np.float64)


def code_lengths(images, *, coder, levels):
    """Return the lengths of images under a lossless coder of the standard library, nats [N].

    `images` [N, ...] are integers below `levels` ≤ 256; two levels are packed eight to a byte. `coder` is "zlib",
    "lzma" or "bz2". Lengths are whole bytes and include the overhead of the coder, which dominates for tiny images.
    Raises `ValueError` for another coder, and for values that are not such integers.
    """
    if coder not in CODERS:
        raise ValueError(f"coder: unknown value {coder!r} (allowed: {', '.join(sorted(CODERS))})")
    images = np.asarray(images)
    if not 2 <= levels <= 256 or images.min() < 0 or images.max() >= levels or np.any(images != np.round(images)):
        raise ValueError(
            f"images must be integers below levels, with levels between 2 and 256; got levels {levels} and values in "
            f"[{images.min():g}, {images.max():g}]"
        )
    symbols = images.reshape(len(images), -1).astype(np.uint8)
    symbols = np.packbits(symbols, axis=1) if levels == 2 else symbols
    num_bytes = np.array([len(CODERS[coder](row.tobytes())) for row in symbols], np.float64)
    return num_bytes * 8 * math.log(2)


def _generative(model):
    """Return the `latent` of a model. Raises `ValueError` if there is none, or no prior."""
    if model.latent is None or model.latent.prior is None:
        raise ValueError("this score requires `latent` with a prior, and this model has none; use `surprise`")
    return model.latent
