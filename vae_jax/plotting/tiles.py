"""Sheets of images: many images in one array with gutters, and figures of such arrays.

Each image pixel has a whole number of device pixels, so images are not blurred and all gutters have the same width.
"""

import math

import numpy as np

from vae_jax.plotting import DPI, shaped

CELL, WIDTH = 0.7, 6.75  # inches: the largest side of one image, the widest row of them
GUTTER, SPACE, LINE = 2, 16, 50  # device pixels: between images, between groups of them, for one line of text
NEUTRAL = 150  # the grey of the gutters: it is seen beside white images and beside black ones


def tile(images, *, ncols=None, gap=1):
    """Arrange images [N, H, W, C], or rows of images [R, N, H, W, C], in one array [H', W', C].

    Neutral gutters surround every image; places without an image are white. `ncols` is the number of images in a row,
    by default about √N; `gap` is the width of the gutters in pixels.
    """
    images = np.asarray(images)
    if images.ndim == 5:
        ncols, images = images.shape[1], images.reshape(-1, *images.shape[2:])
    (images,) = shaped(images=(images, "N H W C"))
    n, height, width, channels = images.shape
    ncols = columns(n, ncols)
    nrows = math.ceil(n / ncols)
    white, neutral = (255, NEUTRAL) if images.dtype == np.uint8 else (1, NEUTRAL / 255)
    shape = (nrows * (height + gap) + gap, ncols * (width + gap) + gap, channels)
    sheet = np.full(shape, white, images.dtype)
    for k in range(n):
        y, x = k // ncols * (height + gap), k % ncols * (width + gap)
        sheet[y : y + height + 2 * gap, x : x + width + 2 * gap] = neutral
    for k, image in enumerate(images):
        y, x = k // ncols * (height + gap) + gap, k % ncols * (width + gap) + gap
        sheet[y : y + height, x : x + width] = image
    return sheet


def pixels(images):
    """Return images [..., H, W, C] as uint8 with 1 or 3 channels.

    For any other C, the result is grey, `[..., H, C (W + 1) - 1, 1]`: the channels side by side with grey lines between
    them. NaN becomes black. Raises `ValueError` for floats that are not in [0, 1], beyond what rounding explains.
    """
    if images.shape[-1] not in (1, 3):
        beside = np.moveaxis(images, -1, -2)  # [..., H, C, W]
        line = [(0, 0)] * (beside.ndim - 1) + [(0, 1)]
        beside = np.pad(beside, line, constant_values=128 if images.dtype == np.uint8 else 0.5)
        images = beside.reshape(*beside.shape[:-2], -1, 1)[..., :-1, :]
    if images.dtype == np.uint8:
        return images
    if images.max() > 2:
        raise ValueError(f"images must be uint8 or floats in [0, 1]; found {images.dtype} up to {images.max():.3g}")
    return np.uint8(255 * np.clip(np.nan_to_num(images.astype(np.float32)), 0, 1) + 0.5)


def columns(n, ncols):
    """Return the number of columns of `n` images: `ncols`, or about √n. Raises `ValueError` for less than 1."""
    if ncols is not None and ncols < 1:
        raise ValueError(f"ncols must be at least 1; found {ncols}")
    return min(n, ncols or math.ceil(math.sqrt(n)))


def scale_of(images, ncols):
    """Return the number of device pixels for each image pixel if `ncols` such images share a row."""
    height, width = images.shape[-3:-1]
    return max(1, int(DPI * min(CELL / max(height, width), WIDTH / (ncols * width))))


def enlarged(images, ncols, scale):
    """Return images of whole device pixels as one array, `scale` of them for each image pixel (`tile`)."""
    return tile(images.repeat(scale, -3).repeat(scale, -2), ncols=ncols, gap=GUTTER)


def right_of(sheets):
    """Return the right end of sheets (array, x, y), in device pixels."""
    return max(x + array.shape[1] for array, x, _ in sheets)


def page(sheets, *, left=0, top=0, right=0, bottom=0):
    """Return a figure with every (array, x, y) at device pixel (x, y) from the top left, and its axes.

    Args:
      sheets: the arrays and their places.
      left: the margin for labels on the left, in device pixels.
      top: the margin above.
      right: the margin on the right.
      bottom: the margin below.
    """
    from matplotlib.figure import Figure

    width = left + right_of(sheets) + right
    height = top + max(y + len(array) for array, _, y in sheets) + bottom
    figure, blocks = Figure(figsize=(width / DPI, height / DPI), dpi=DPI), []
    for array, x, y in sheets:
        tall, wide = array.shape[:2]
        axes = figure.add_axes(((left + x) / width, 1 - (top + y + tall) / height, wide / width, tall / height))
        colours = np.broadcast_to(array, (tall, wide, 3))  # also if grey, because a colour map may be off by one
        axes.imshow(colours, interpolation="nearest", aspect="auto", extent=(0, 1, 1, 0))
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        blocks.append(axes)
    return figure, blocks


def ticks(axis, places, names, *, length=0, **style):
    """Put names at fractions of the width, or of the height from the top."""
    axis.set_ticks(places, labels=names)
    axis.set_tick_params(length=length, **style)


def middles(n):
    """Return the middles of `n` equal parts of [0, 1]."""
    return (np.arange(n) + 0.5) / n
