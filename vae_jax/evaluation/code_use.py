"""The use of integer codes: how many of a codebook are in use over a whole data set."""

import jax
import numpy as np

from vae_jax.distributions.support import supports
from vae_jax.evaluation import latents
from vae_jax.objectives.quantization import perplexity
from vae_jax.support import Levels


def sizes_of_codebooks(model, params, data) -> tuple:
    """Return K of each level, the bottom first, for a model whose codes are integers; () for other models."""
    if model.latent is None:
        return ()
    x, context = jax.tree.map(lambda a: a[0], (data["x"], data.get("context")))
    q = jax.eval_shape(lambda params: model.latent.posterior(params, x, context), params)
    of_levels = supports(q)
    return tuple(s.num_levels for s in of_levels) if all(isinstance(s, Levels) for s in of_levels) else ()


def code_use(model, params, data) -> dict:
    """Return, for a model of integer codes, how the codes of all examples of `data` use the codebook.

    `code_perplexity` is exp of the entropy of the codes, between 1 and `num_codes`; `used_codes` occur at least once,
    `dead_codes` never. Names of two levels end with `_bottom` and `_top`. Counts are of the whole data set: the
    perplexity of a batch depends on its size.
    """
    sizes = sizes_of_codebooks(model, params, data)
    maps = jax.tree.leaves(latents.posterior_means(model, params, data))
    result = {}
    for place, (size, codes) in enumerate(zip(sizes, maps, strict=True)):
        suffix = "" if len(sizes) == 1 else ("_bottom", "_top")[place]
        counts = np.bincount(np.asarray(codes).ravel(), minlength=size).astype(np.float32)
        used = int(np.sum(counts > 0))
        numbers = {"code_perplexity": float(perplexity(counts)), "used_codes": used, "dead_codes": size - used}
        result |= {f"{name}{suffix}": value for name, value in {**numbers, "num_codes": size}.items()}
    return result
