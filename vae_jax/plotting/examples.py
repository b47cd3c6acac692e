"""Figures of single examples: samples beside what the model was trained on, and what it finds likely or unlikely."""

import numpy as np

from vae_jax.plotting import shaped, styled
from vae_jax.plotting.tiles import LINE, SPACE, enlarged, middles, page, pixels, scale_of, ticks


@styled
def beside_nearest(samples, nearest, distances):
    """Show samples above the training images that are nearest to them, nearest first.

    Args:
      samples: the samples [N, H, W, C].
      nearest: the training images [N, K, H, W, C].
      distances: the distance of each sample to its nearest training image [N], written below.
    """
    samples, nearest, distances = shaped(
        samples=(samples, "N H W C"), nearest=(nearest, "N K H W C"), distances=(distances, "N")
    )
    samples, nearest = pixels(samples), pixels(np.swapaxes(nearest, 0, 1))
    scale = scale_of(samples, len(samples))
    sheets = [(enlarged(samples, len(samples), scale), 0, 0)]
    sheets.append((enlarged(nearest, None, scale), 0, len(sheets[0][0]) + SPACE))
    figure, (above, below) = page(sheets, left=3 * LINE, bottom=LINE)
    ticks(above.yaxis, [0.5], ["samples"])
    ticks(below.yaxis, [0.5], ["nearest\ntraining\nimages"])
    ticks(below.xaxis, middles(len(samples)), [f"{d:.2f}" for d in distances])
    return figure


@styled
def ranked(rows):
    """Show rows of images with a number below each, {name of the row: (images [N, H, W, C], numbers [N])}."""
    sheets, labels, y = [], [], 0
    longest = max(len(images) for images, _ in rows.values())
    for images, numbers in rows.values():
        images, numbers = shaped(images=(images, "N H W C"), numbers=(numbers, "N"))
        images = pixels(images)
        sheets.append((enlarged(images, len(images), scale_of(images, longest)), 0, y))
        labels.append([f"{v:.1f}".replace("-", "\N{MINUS SIGN}") for v in numbers])
        y += len(sheets[-1][0]) + LINE
    figure, blocks = page(sheets, left=3 * LINE, bottom=LINE)
    for axes, name, numbers in zip(blocks, rows, labels, strict=True):
        ticks(axes.yaxis, [0.5], [name])
        ticks(axes.xaxis, middles(len(numbers)), numbers, labelsize=7)
    return figure
