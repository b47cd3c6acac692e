"""How little an example is like the data: scores that are larger for outliers, in nats.

Those of one example are `(model, params, key, x, context) -> score` and ask for the fields of a model that they need;
`of_data` takes any of them over a data set. Those of arrays correct such scores.
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

AT_ONCE = 50  # examples side by side, each with all its samples
CODERS = {
    "bz2": lambda data: bz2.compress(data, 9),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2, "preset": 9}]),
    "zlib": lambda data: zlib.compress(data, 9, wbits=-15),  # without a header
}


def of_data(score, model, params, key, data, *, at_once=AT_ONCE, **options):
    """`score(model, params, key, x, context, **options)` of every example of `data`, [N] float64, with keys
    fold_in(key, n): example n has the same score in any data set that begins alike. Memory grows with `at_once`.
    """
    given = _of_data(score, model, at_once, tuple(sorted(options.items())), params, key, data)
    return np.asarray(given, np.float64)


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _of_data(score, model, at_once, options, params, key, data):
    def one(item):
        index, example = item
        own = (jax.random.fold_in(key, index), example["x"], example.get("context"))
        return score(model, params, *own, **dict(options))

    return jax.lax.map(one, (jnp.arange(len(data["x"])), data), batch_size=at_once)


def surprise(model, params, key, x, context=None, *, num_samples):
    """-log p(x): exact where the model has it, else by the importance-weighted bound of K = `num_samples`,
    arXiv:1509.00519 eq. (8), too large on average. Simple images may surprise less than the data: arXiv:1810.09136.
    """
    if model.log_prob is not None:
        return -model.log_prob(params, x, context)
    if model.latent is None and model.bound is not None:
        keys = jax.random.split(key, num_samples)
        return -jnp.mean(jax.vmap(lambda key: model.bound(params, key, x, context))(keys))
    return -bounds.plain_iwae(_generative(model), params, key, x, context, num_samples=num_samples)[0]


def negative_elbo(model, params, key, x, context=None, *, num_samples):
    """-ELBO of `num_samples` draws, the KL in closed form where there is one."""
    return -bounds.plain_elbo(_generative(model), params, key, x, context, num_samples=num_samples)[0]


def distortion(model, params, key, x, context=None):
    """-log p(x | z = E_q[z]): the error of the reconstruction, for an auto-encoder too."""
    if model.latent is None:
        raise ValueError("the distortion wants codes; this model has no `latent`")
    z = model.latent.posterior(params, x, context).mean()
    return -model.latent.likelihood(params, z, context).log_prob(x)


def likelihood_regret(model, params, key, x, context=None, *, optimizer, num_steps, num_samples, bound_samples):
    """ELBO(q*) - ELBO(q_φ): how much better the posterior of this x alone is than the encoder's, arXiv:2003.02977.

    The paper moves the whole encoder or, as here, the parameters of q(z|x). Never below 0 but for the noise of
    `inference.local.improvement`, whose options these are. Diagonal Gaussian posteriors only.
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
    """|-log p(x) - H| [N], H the mean of -log p over the `reference` (training) data: what is too likely is no more
    typical than what is too unlikely.  arXiv:1906.02994, for a batch of one.
    """
    return np.abs(np.asarray(surprises, np.float64) - np.mean(reference, dtype=np.float64))


def complexity_corrected(surprises, lengths):
    """-log p(x) - L(x) [N], L the length of x under a universal coder (`code_lengths`): the log-ratio of that coder's p
    to the model's, by which a simple image has no advantage.  arXiv:1909.11480, there in bits.

    -log p must be that of a mass on the same levels as L, not of a density.
    """
    return np.asarray(surprises, np.float64) - np.asarray(lengths, np.float64)


def code_lengths(images, *, coder, levels):
    """What each of `images` [N, ...], integers below `levels` ≤ 256, takes a lossless coder of the standard library,
    "zlib", "lzma" or "bz2": nats [N]. Two levels are packed eight to a byte.

    A whole number of bytes, some of them the coder's own: for tiny images a constant drowns the differences.
    Raises `ValueError` for another coder, or values that are not such integers.
    """
    if coder not in CODERS:
        raise ValueError(f"coder: unknown value {coder!r} (allowed: {', '.join(sorted(CODERS))})")
    images = np.asarray(images)
    if not 2 <= levels <= 256 or images.min() < 0 or images.max() >= levels or np.any(images != np.round(images)):
        raise ValueError(
            f"code lengths are of integers below levels ≤ 256, got levels {levels} and values in "
            f"[{images.min():g}, {images.max():g}]"
        )
    symbols = images.reshape(len(images), -1).astype(np.uint8)
    symbols = np.packbits(symbols, axis=1) if levels == 2 else symbols
    num_bytes = np.array([len(CODERS[coder](row.tobytes())) for row in symbols], np.float64)
    return num_bytes * 8 * math.log(2)


def _generative(model):
    """The latent-variable model. Raises `ValueError` where there is none, or no p(z)."""
    if model.latent is None or model.latent.prior is None:
        raise ValueError("this score wants a density of x by way of codes; this model has no `latent` with a prior")
    return model.latent
