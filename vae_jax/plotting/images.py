"""Figures of images: samples, reconstructions, the manifold, interpolations.

Images are `[..., H, W, C]`, uint8 in 0..255, or floats (probabilities, means), which are clipped to [0, 1]. C = 1 is
grey and C = 3 is RGB. For any other C, the channels are shown in grey, side by side.
"""

import math

import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.patches import Circle
from matplotlib.ticker import MaxNLocator

from vae_jax.plotting import DPI, INK, PALETTE, QUIET, shaped, styled
from vae_jax.plotting.tiles import (
    LINE,
    SPACE,
    columns,
    enlarged,
    middles,
    page,
    pixels,
    right_of,
    scale_of,
    ticks,
    tile,
)
from vae_jax.plotting.walks import framed

__all__ = [
    "grid",
    "interpolation",
    "manifold",
    "named_rows",
    "pixels",
    "reconstruction_samples",
    "reconstructions",
    "restorations",
    "tile",
]

LINEAR, SPHERICAL = PALETTE[0], PALETTE[6]


@styled
def grid(images, *, ncols=None, title=None, row_names=(), column_names=()):
    """Show images [N, H, W, C], such as samples, row by row.

    Args:
      images: the images.
      ncols: the number of images in a row; by default about √N.
      title: the title of the figure.
      row_names: names on the left, one for each row.
      column_names: names above, one for each column.
    """
    images = pixels(*shaped(images=(images, "N H W C")))
    ncols = columns(len(images), ncols)
    sheet = enlarged(images, ncols, scale_of(images, ncols))
    figure, (axes,) = page([(sheet, 0, 0)], left=3 * LINE if row_names else 0, top=LINE if title or column_names else 0)
    axes.set_title(title)
    if row_names:
        ticks(axes.yaxis, middles(len(row_names)), row_names)
    if column_names:
        axes.xaxis.tick_top()
        ticks(axes.xaxis, middles(len(column_names)), column_names)
    return figure


@styled
def named_rows(rows):
    """Show the images of several models, {name: images [N, H, W, C]}: a row for each, with the name on the left.

    Shorter rows end in white. Raises `ValueError` if the images differ in shape.
    """
    names, longest = list(rows), max(map(len, rows.values()))
    arrays = shaped(**{name: (images, f"N{n} H W C") for n, (name, images) in enumerate(rows.items())})
    arrays = [np.pad(a, [(0, longest - len(a)), *[(0, 0)] * 3], constant_values=255) for a in map(pixels, arrays)]
    sheet = enlarged(np.stack(arrays), None, scale_of(arrays[0], longest))
    figure, (axes,) = page([(sheet, 0, 0)], left=6 * LINE)
    ticks(axes.yaxis, middles(len(names)), names)
    return figure


@styled
def reconstructions(x, mean):
    """Show data x [N, H, W, C] above their reconstructions from the posterior mean, `mean` [N, H, W, C].

    More than twelve images take several pairs of rows.
    """
    x, mean = map(pixels, shaped(x=(x, "N H W C"), mean=(mean, "N H W C")))
    ncols = math.ceil(len(x) / math.ceil(len(x) / 12))
    scale, sheets, y = scale_of(x, ncols), [], 0
    for first in range(0, len(x), ncols):
        pair = x[first : first + ncols], mean[first : first + ncols]
        sheets.append((enlarged(np.stack(pair), None, scale), 0, y))
        y += len(sheets[-1][0]) + SPACE
    figure, blocks = page(sheets, left=3 * LINE)
    low = scale * x.shape[1] < LINE  # too low for a line of text
    for axes in blocks:
        ticks(axes.yaxis, [0.5] if low else [0.25, 0.75], ["$x$, $\\hat{x}$"] if low else ["$x$", "$\\hat{x}$"])
    if not low:
        ticks(blocks[0].yaxis, [0.25, 0.75], ["$x$", "$\\hat{x}$ from the\nposterior mean"])
    return figure


@styled
def reconstruction_samples(x, samples, *, std=True):
    """Show what the posterior leaves open: each row has x [N, H, W, C] and S decoded draws, `samples` [N, S, H, W, C].

    `std` adds the standard deviation of every pixel over the S draws, averaged over colours.
    """
    x, samples = map(pixels, shaped(x=(x, "N H W C"), samples=(samples, "N S H W C")))
    scale = scale_of(x, samples.shape[1] + 2)
    sheets = [(enlarged(x, 1, scale), 0, 0)]
    sheets.append((enlarged(samples, None, scale), right_of(sheets) + SPACE, 0))
    if std:
        deviation = (samples / 255.0).std(axis=1).mean(axis=-1)  # [N, H, W]
        colours = ScalarMappable(Normalize(0, max(deviation.max(), 1e-3)), "magma")
        heat = colours.cmap(colours.norm(deviation), bytes=True)[..., :3]
        sheets.append((enlarged(heat, 1, scale), right_of(sheets) + SPACE, 0))
    figure, blocks = page(sheets, top=LINE, right=2 * LINE if std else 0)
    titles = "$x$", r"$\hat{x}$ from draws $z \sim q(z \mid x)$", "std"
    for axes, title in zip(blocks, titles, strict=False):
        axes.set_title(title)
    if std:
        box = blocks[-1].get_position()
        inch = 1 / figure.get_figwidth()
        bar = figure.add_axes((box.x1 + 0.06 * inch, box.y0, 0.06 * inch, box.height))
        figure.colorbar(colours, cax=bar).outline.set_visible(False)
    return figure


@styled
def restorations(given, x, baseline, samples, *, num=4, names=("given", "truth", "baseline")):
    """Show restored images: each row has y, x, a plain restoration, some draws of p(x|y), their mean and deviation.

    Args:
      given: y as images [N, H, W, C], in the size of x.
      x: the true images.
      baseline: plain restorations.
      samples: S draws of each, [N, S, H, W, C].
      num: how many draws are shown; the mean and the standard deviation are those of all.
      names: the titles of the first three columns.
    """
    arrays = shaped(given=(given, "N H W C"), x=(x, "N H W C"), baseline=(baseline, "N H W C"))
    (samples,) = shaped(samples=(samples, "N S H W C"))
    columns_of = [*map(pixels, arrays)]
    scale = scale_of(columns_of[0], num + 5)
    sheets = []

    def beside(sheet):
        sheets.append((sheet, right_of(sheets) + SPACE if sheets else 0, 0))

    for column in columns_of:
        beside(enlarged(column, 1, scale))
    beside(enlarged(pixels(samples[:, :num]), None, scale))
    beside(enlarged(pixels(samples.mean(axis=1)), 1, scale))
    deviation = samples.std(axis=1).mean(axis=-1)  # [N, H, W]
    colours = ScalarMappable(Normalize(0, max(float(deviation.max()), 1e-3)), "magma")
    beside(enlarged(colours.cmap(colours.norm(deviation), bytes=True)[..., :3], 1, scale))
    figure, blocks = page(sheets, top=LINE, right=2 * LINE)
    for axes, title in zip(blocks, (*names, "draws", "mean", "std"), strict=True):
        axes.set_title(title)
    box, inch = blocks[-1].get_position(), 1 / figure.get_figwidth()
    bar = figure.add_axes((box.x1 + 0.06 * inch, box.y0, 0.06 * inch, box.height))
    figure.colorbar(colours, cax=bar).outline.set_visible(False)
    return figure


@styled
def manifold(images, values, *, title=None, axes=("$z_1$", "$z_2$")):
    """Show a decoded plane of codes: `images[i, j]` [n, n, H, W, C] is the image of z_1 = values[j], z_2 = values[i].

    z_1 increases to the right and z_2 upwards, so `images[0]` is the lowest row. Ticks are at round values of z.

    Args:
      images: the decoded images.
      values: the increasing values of both axes [n].
      title: the title of the figure.
      axes: the names of the two axes.

    Raises `ValueError` for values that do not increase.
    """
    images, values = shaped(images=(images, "n n H W C"), values=(values, "n"))
    if np.any(np.diff(values) <= 0):
        raise ValueError(f"values must increase; found {values.tolist()}")
    n, images = len(values), pixels(images)
    sheet = enlarged(images[::-1], None, scale_of(images, n))
    figure, (picture,) = page([(sheet, 0, 0)], left=2 * LINE, bottom=2 * LINE, top=LINE if title else 0)
    shown = [
        v
        for v in MaxNLocator(6, steps=[1, 2, 5, 10]).tick_values(values[0], values[-1])
        if values[0] <= v <= values[-1]
    ]
    places = (np.interp(shown, values, np.arange(n)) + 0.5) / n
    names = [f"{v:g}".replace("-", "\N{MINUS SIGN}") for v in shown]
    ticks(picture.xaxis, places, names, length=2.5)
    ticks(picture.yaxis, 1 - places, names, length=2.5)
    picture.set(xlabel=axes[0], title=title)
    picture.set_ylabel(axes[1], rotation=0 if len(axes[1]) < 8 else 90, va="center")  # words need a line of their own
    return figure


@styled
def interpolation(x_a, x_b, linear, spherical, z_linear, z_spherical, *, names=None, prior=True):
    """Show two paths from one image to another, straight (upper row) and along the sphere (lower row).

    Below the images, one panel shows the codes in the plane through 0, z_a and z_b, another |z| against t. With `prior`
    they include the middle 90 % of |z| under N(0, I): the chord leaves the shell that contains the mass of the prior,
    the arc does not. If every array has a leading axis P, each of the P pairs has a block of images, and the panels
    show the first pair.

    Args:
      x_a: the first image [H, W, C].
      x_b: the last image [H, W, C].
      linear: the decoded straight path [T, H, W, C], at T even steps of t in [0, 1].
      spherical: the decoded path along the sphere [T, H, W, C].
      z_linear: the codes of the straight path [T, D].
      z_spherical: the codes of the path along the sphere [T, D].
      names: a name for each pair, at the left of its block.
      prior: False if p(z) is not N(0, I), or there is none.
    """
    pairs = "P " if np.ndim(x_a) == 4 else ""
    arrays = shaped(
        x_a=(x_a, pairs + "H W C"),
        x_b=(x_b, pairs + "H W C"),
        linear=(linear, pairs + "T H W C"),
        spherical=(spherical, pairs + "T H W C"),
        z_linear=(z_linear, pairs + "T D"),
        z_spherical=(z_spherical, pairs + "T D"),
    )
    *pictures, chord, arc = arrays if pairs else [array[None] for array in arrays]
    panels, left = 2 * DPI, LINE if names else 0
    figure, blocks = page(framed(*map(pixels, pictures)), left=left, top=LINE, bottom=panels + 3 * LINE)
    for block, name in zip(blocks[::3], names or (), strict=bool(names)):
        block.set_ylabel(name)
    blocks[0].set_title("$x_a$")
    blocks[1].set_title("linear: along the chord from $z_a$ to $z_b$", color=LINEAR)
    blocks[2].set_title("$x_b$")
    blocks[-2].set_xlabel("spherical: along the arc from $z_a$ to $z_b$", color=SPHERICAL)
    height = figure.get_figheight() * DPI
    low, tall = LINE / height, panels / height
    _plane(figure.add_axes((0, low, 0.42, tall)), chord[0], arc[0], prior)
    _norms(figure.add_axes((0.52, low, 0.48, tall)), chord[0], arc[0], prior)
    return figure


def _plane(axes, chord, arc, prior):
    """Plot codes [T, D] in the plane through 0 and the two ends, which are at one height if their norms are equal."""
    z_a, z_b = map(_unit, chord[[0, -1]])
    basis = np.stack([_unit(z_b - z_a), _unit(z_b + z_a)], axis=-1)  # [D, 2], orthogonal
    for codes, colour in (chord, LINEAR), (arc, SPHERICAL):
        axes.plot(*(codes @ basis).T, "o-", color=colour, markersize=3)
    for end, name in zip(chord[[0, -1]] @ basis, ("$z_a$", "$z_b$"), strict=True):
        axes.plot(*np.stack([0 * end, end]).T, color=QUIET, linewidth=0.6, zorder=1)
        axes.plot(*end, "o", color=INK, markersize=4, zorder=4)
        axes.annotate(name, end, 10 * _unit(end), textcoords="offset points", ha="center", va="center")
    if prior:
        radius = math.sqrt(chord.shape[-1])
        axes.add_patch(Circle((0, 0), radius, fill=False, edgecolor=QUIET, linewidth=0.6, linestyle=(0, (4, 3))))
        axes.annotate(r"radius $\sqrt{D}$", (0, -radius), (0, 8), textcoords="offset points", ha="center", color=QUIET)
    axes.plot(0, 0, "+", color=INK, markersize=5, markeredgewidth=0.6)
    axes.annotate("$0$", (0, 0), (0, -8), textcoords="offset points", ha="center", va="center")
    axes.set_aspect("equal")
    axes.set_axis_off()


def _norms(axes, chord, arc, prior):
    """Plot |z| of codes [T, D] against t, with quantiles of |z| under N(0, I) (chi distribution, Wilson-Hilferty)."""
    dim, t = chord.shape[-1], np.linspace(0, 1, len(chord))
    if prior:
        spread = 2 / (9 * dim)
        low, high = (math.sqrt(dim * max(0, 1 - spread + q * math.sqrt(spread)) ** 3) for q in (-1.645, 1.645))
        axes.axhspan(low, high, color="#efefef", linewidth=0, label="prior, middle 90 %")
        axes.axhline(math.sqrt(dim), color=QUIET, linewidth=0.6, linestyle=(0, (4, 3)), label=r"$\sqrt{D}$")
    for codes, colour, name in (chord, LINEAR, "linear"), (arc, SPHERICAL, "spherical"):
        axes.plot(t, np.linalg.norm(codes, axis=-1), "o-", color=colour, markersize=3, label=name)
    axes.set(xlim=(-0.02, 1.02), xlabel="$t$", ylabel="length of $z_t$")
    axes.set_ylim(bottom=0)
    axes.legend(loc="best", ncols=2)


def _unit(z):
    return z / max(np.linalg.norm(z), 1e-12)
