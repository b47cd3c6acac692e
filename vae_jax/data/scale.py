"""Between the scale on which data are stored, which is the user's, and the scale of the model, without random draws.

`transforms` draws: bits from grey levels, noise below a level. A trained model that is used needs one value for one
input. `expected` is the mean of the draws; `mean_to_stored` and `draw_to_stored` lead back.
"""

import jax.numpy as jnp
import numpy as np

from vae_jax.data import transforms


def expected(transform, stored, max_value):
    """Return E[transform(key, stored, max_value)] over its keys; for a transform that draws nothing, its value.

    Bits have the probability pixel / max_value, and a dequantised level lies in the middle of its bin.
    """
    if transform is transforms.binarize:
        return stored.astype(jnp.float32) / max_value
    if transform is transforms.dequantize:
        return (stored.astype(jnp.float32) + 0.5) / (max_value + 1)
    return transform(None, stored, max_value)


def is_random(transform, dtype, max_value) -> bool:
    """Return True if the transform of stored values of this type depends on its key. Stored bits stay what they are."""
    bits = max_value == 1 and not np.issubdtype(dtype, np.floating)
    return transform is transforms.dequantize or (transform is transforms.binarize and not bits)


def mean_to_stored(transform, mean, max_value):
    """Return a mean over values of the model on the stored scale, float32. It is not rounded.

    The mean of levels lies in [0, max_value]; so does that of `unit` and `binarize` if the likelihood has that range.
    """
    if transform in (transforms.binarize, transforms.unit):
        return mean * max_value
    if transform is transforms.dequantize:
        return jnp.clip(mean * (max_value + 1) - 0.5, 0, max_value)
    return mean


def draw_to_stored(transform, x, max_value, dtype):
    """Return a draw of the model as a stored value of type `dtype`. Integers are rounded and lie in 0..max_value."""
    if transform is transforms.dequantize:
        x = jnp.floor(x * (max_value + 1))  # the level in whose bin x lies
    else:
        x = mean_to_stored(transform, x, max_value)
    if jnp.issubdtype(dtype, jnp.integer) and jnp.issubdtype(x.dtype, jnp.floating):
        x = jnp.clip(jnp.round(x), 0, max_value)
    return x.astype(dtype)
