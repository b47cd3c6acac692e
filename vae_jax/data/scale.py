"""Between the scale on which data are stored, which is the user's, and the scale of the model, without random draws.

`transforms` draws: bits from grey levels, noise below a level. A trained model that is used needs one value for one
input. `expected` is the mean of the draws; `mean_to_stored` and `draw_to_stored` lead back. All functions take arrays
of NumPy or JAX, and return the same.
"""

import numpy as np

from vae_jax.data import transforms


def expected(transform, stored, max_value):
    """Return E[transform(key, stored, max_value)] over its keys; for a transform that draws nothing, its value.

    Bits have the probability pixel / max_value, and a dequantised level lies in the middle of its bin.
    """
    if transform is transforms.binarize:
        return stored.astype(np.float32) / max_value
    if transform is transforms.dequantize:
        return (stored.astype(np.float32) + 0.5) / (max_value + 1)
    return transform(None, stored, max_value)


def is_random(transform, dtype, max_value) -> bool:
    """Return True if the transform of stored values of this type depends on its key. Stored bits stay what they are."""
    bits = max_value == 1 and not np.issubdtype(dtype, np.floating)
    return transform is transforms.dequantize or (transform is transforms.binarize and not bits)


def mean_to_stored(transform, mean, max_value):
    """Return a mean over values of the model on the stored scale. It is not rounded.

    E[level] = V E[x] - 1/2 for dequantised levels, V = max_value + 1.
    """
    if transform in (transforms.binarize, transforms.unit):
        return mean * max_value
    if transform is transforms.dequantize:
        return (mean * (max_value + 1) - 0.5).clip(0, max_value)
    return mean


def draw_to_stored(transform, x, max_value, dtype):
    """Return a draw of the model as a stored value of type `dtype`. Integers are rounded and stay in their range.

    That is 0..max_value for levels, and the range of the type for others, such as counts.
    """
    if transform is transforms.dequantize:
        x = x * (max_value + 1) // 1  # the level in whose bin x lies
    else:
        x = mean_to_stored(transform, x, max_value)
    if np.issubdtype(dtype, np.integer) and np.issubdtype(x.dtype, np.floating):
        has_levels = transform in (transforms.binarize, transforms.dequantize, transforms.levels, transforms.unit)
        x = x.round().clip(*((0, max_value) if has_levels else (np.iinfo(dtype).min, np.iinfo(dtype).max)))
    return x.astype(dtype)
