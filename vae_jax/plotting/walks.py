"""Figures of walks through latent space: along one dimension, and from one image to another of another class."""

import numpy as np

from vae_jax.plotting import PALETTE, shaped, styled
from vae_jax.plotting.tiles import LINE, SPACE, enlarged, middles, page, pixels, right_of, scale_of, ticks

MINUS = "\N{MINUS SIGN}"


@styled
def traversals(x, images, values, names, *, unit="standard deviations"):
    """Show rows of decoded images in which one dimension of the code changes, and the image whose code is changed.

    Args:
      x: the image [H, W, C].
      images: the decoded images [R, T, H, W, C], a row for each dimension.
      values: the values along a row [T].
      names: the name of each row.
      unit: the unit of the values.
    """
    x, images, values = shaped(x=(x, "H W C"), images=(images, "R T H W C"), values=(values, "T"))
    x, images = pixels(x), pixels(images)
    scale = scale_of(images, images.shape[1] + 2)
    sheets = [(enlarged(x[None], 1, 2 * scale), 0, 0)]
    sheets.append((enlarged(images, None, scale), right_of(sheets) + SPACE + LINE, 0))
    figure, (original, rows) = page(sheets, top=LINE, bottom=2 * LINE)
    original.set_title("$x$")
    ticks(rows.yaxis, middles(len(images)), names)
    ticks(rows.xaxis, middles(len(values)), [f"{v:g}".replace("-", MINUS) for v in values])
    rows.set_xlabel(unit)
    return figure


@styled
def class_paths(x_a, x_b, as_a, as_b, names_a, names_b):
    """Show codes on the line between two images of different classes, decoded as the one class and as the other.

    Each of P pairs has a block: x_a, two rows of decoded images, x_b. The upper row is decoded as the class of x_a, the
    lower one as that of x_b. The way from x_a to x_b begins in the upper row and ends in the lower one.

    Args:
      x_a: the first images [P, H, W, C].
      x_b: the last images [P, H, W, C].
      as_a: the decoded codes of a path, as the class of x_a [P, T, H, W, C].
      as_b: the same codes as the class of x_b.
      names_a: the class of each x_a.
      names_b: the class of each x_b.
    """
    axes = {"x_a": "P H W C", "x_b": "P H W C", "as_a": "P T H W C", "as_b": "P T H W C"}
    arrays = {"x_a": x_a, "x_b": x_b, "as_a": as_a, "as_b": as_b}
    pictures = map(pixels, shaped(**{name: (array, axes[name]) for name, array in arrays.items()}))
    figure, blocks = page(framed(*pictures), left=LINE, top=LINE, bottom=LINE)
    for n, (first, last) in enumerate(zip(names_a, names_b, strict=True)):
        blocks[3 * n].set_ylabel(first)
        blocks[3 * n + 2].yaxis.set_label_position("right")
        blocks[3 * n + 2].set_ylabel(last)
    blocks[0].set_title("$x_a$")
    blocks[1].set_title("from $z_a$ to $z_b$, decoded as the class of $x_a$", color=PALETTE[0])
    blocks[2].set_title("$x_b$")
    blocks[-2].set_xlabel("the same codes, decoded as the class of $x_b$", color=PALETTE[6])
    return figure


def framed(x_a, x_b, upper, lower):
    """Return the sheets of each pair: the two paths between the two originals, which have twice the size."""
    scale, sheets, y = scale_of(upper, upper.shape[1] + 4), [], 0
    for a, b, *paths in zip(x_a, x_b, upper, lower, strict=True):
        x = 0
        for sheet in (
            enlarged(a[None], 1, 2 * scale),
            enlarged(np.stack(paths), None, scale),
            enlarged(b[None], 1, 2 * scale),
        ):
            sheets.append((sheet, x, y))
            x += sheet.shape[1] + SPACE
        y += len(sheets[-2][0]) + SPACE
    return sheets
