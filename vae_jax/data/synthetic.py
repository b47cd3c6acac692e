"""Data whose generative process is known, so that log p(x) is known too.

`four_by_four`: the 4x4 images of the lecture. One number z moves a bright bar, alike in all four rows, over the image;
every pixel has its own noise. The images lie on a curve in sixteen dimensions, plus noise.

    z ~ N(0, 1)       x = four_by_four_mean(z) + NOISE_SCALE ε,  ε ~ N(0, I)
"""

import math

import numpy as np

SEED = 0
SIZES = {"train": 1000, "valid": 500, "test": 500}
# Five deviations of the noise separate the grey levels from 0 and from 1: no draw leaves [0, 1], and none is clipped,
# which would make the true density another one.
DARK, BRIGHT, NOISE_SCALE = 0.35, 0.65, 0.07
COLUMNS = np.arange(1, 5, dtype=np.float32)


def four_by_four_position(z):
    """Where the bar stands, in columns counted from 1: 2.5 + 1.2 z, beyond the edges of the image for one z in ten."""
    return 2.5 + 1.2 * z


def four_by_four_mean(z):
    """g(z) of one code, a NumPy or JAX number -> the noiseless image [4, 4, 1], a bell of width 0.8 in every row."""
    distance = (COLUMNS - four_by_four_position(z)) / 0.8
    row = DARK + (BRIGHT - DARK) * math.e ** (-0.5 * distance * distance)
    return (0.0 * COLUMNS[:, None] + row[None, :])[..., None]


def four_by_four(split):
    """z [N], x [N, 4, 4, 1] in [0, 1] and label [N] of a split, float32: the same draw at every call.

    The label is the column, 0..3, that is nearest to the bar: the z ∈ {1, 2, 3, 4} of the lecture.
    """
    rng = np.random.default_rng([SEED, list(SIZES).index(split)])
    z = rng.standard_normal(SIZES[split]).astype(np.float32)
    noise = rng.standard_normal((len(z), 4, 4, 1)).astype(np.float32)
    x = np.stack([four_by_four_mean(one) for one in z]) + np.float32(NOISE_SCALE) * noise
    label = np.clip(np.round(four_by_four_position(z)), 1, 4).astype(np.int32) - 1
    return z, x.astype(np.float32), label
