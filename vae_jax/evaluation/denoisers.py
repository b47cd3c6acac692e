"""Denoisers of single images, as baselines of restoration: those of scikit-image, tuned on training images.

total variation      x̂ = argmin ½ |x - y|² + w TV(x)          doi:10.1023/B:JMIV.0000011325.36760.1e
non-local means      x̂_d = a mean of y over places whose patches look alike     doi:10.1109/CVPR.2005.38
"""

import functools

import numpy as np

STRENGTHS = {  # on the scale [0, 1]: the weight w of the total variation, the width h of the weights of patches
    "total variation": (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
    "non-local means": (0.02, 0.05, 0.1, 0.15, 0.2, 0.3),
}
TUNED_ON = 50  # images


def tuned(y, x, *, peak) -> dict:
    """Return {name: a function of images [N, H, W, C]} with the strength of the least squared error on a few images.

    Args:
      y: degraded images [N, H, W, C].
      x: the true images.
      peak: the largest value of x; denoised images are clipped to [0, peak].

    Raises `ImportError` without the extra `restoring`.
    """
    y, x = y[:TUNED_ON], x[:TUNED_ON]

    def error(name, strength):
        return np.mean(np.square(denoised(y, name=name, strength=strength, peak=peak) - x))

    best = {name: min(strengths, key=functools.partial(error, name)) for name, strengths in STRENGTHS.items()}
    return {name: functools.partial(denoised, name=name, strength=best[name], peak=peak) for name in best}


def denoised(images, *, name, strength, peak):
    """Return images [N, H, W, C] after one of `STRENGTHS`, clipped to [0, peak]."""
    try:
        from skimage import restoration
    except ImportError as error:
        raise ImportError("denoisers need scikit-image: pip install 'vae_jax[restoring]'") from error
    if name == "total variation":
        of_image = functools.partial(restoration.denoise_tv_chambolle, weight=strength, channel_axis=-1)
    else:
        options = {"patch_size": 5, "patch_distance": 6, "channel_axis": -1}
        of_image = functools.partial(restoration.denoise_nl_means, h=strength, **options)
    result = np.stack([of_image(np.asarray(image, np.float64) / peak) for image in images])
    return peak * np.clip(result, 0.0, 1.0).reshape(images.shape)
