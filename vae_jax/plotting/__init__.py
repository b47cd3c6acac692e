"""Figures of arrays in one style, and `save`, which writes them.

Every plotting function returns a `matplotlib.figure.Figure` that has no window and no global state.
"""

import functools
import hashlib
import io
import os
import pathlib

import matplotlib.style
import numpy as np
from matplotlib.transforms import Bbox

DPI = 200
INK, QUIET = "#222222", "#8c8c8c"

# Ten colours that readers with common colour-vision deficiencies can distinguish, arXiv:2107.02270.
PALETTE = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
MARKERS = "os^Dv"

STYLE = {
    "figure.dpi": DPI,
    "savefig.facecolor": "white",
    "font.family": "STIXGeneral",
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "lines.linewidth": 1.2,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.5,
}


def in_style():
    """Return the context of the common style on matplotlib's defaults. It ignores a user's settings, such as TeX."""
    return matplotlib.style.context(["default", STYLE])


def plain(text) -> str:
    """Escape the dollar signs of a text from data or from a user, so that none begins a formula."""
    return str(text).replace("$", r"\$")


def file_name(name) -> str:
    """Return a valid file name for a name from data or from a user.

    Characters other than letters, digits and a few signs become underscores. A name that is changed or shortened ends
    in a digest, so that different names stay different.
    """
    safe = "".join(c if c.isalnum() or c in " ,.=+-_()" else "_" for c in str(name)).lstrip(".")
    short = safe.encode()[:150].decode(errors="ignore")
    if short == str(name) and short:
        return short
    return f"{short}-{hashlib.sha256(str(name).encode(errors='replace')).hexdigest()[:8]}"


def styled(draw):
    """Decorate `draw(...) -> Figure` to draw in the common style, and to leave matplotlib's settings unchanged."""

    @functools.wraps(draw)
    def figure_in_style(*args, **kwargs):
        with in_style():
            figure = draw(*args, **kwargs)
            figure.draw_without_rendering()  # ticks and layout are computed late: do it within the style
            figure.set_layout_engine("none")
        return figure

    return figure_in_style


def save(figure, path):
    """Write `figure` to `path` as a PNG at 200 dpi, trimmed to its content. The file appears complete or not at all."""
    path, buffer, pad = pathlib.Path(path), io.BytesIO(), 0.04
    with in_style():
        figure.draw_without_rendering()  # the layout moves labels, which the box must contain
        box = figure.get_tightbbox().padded(pad).get_points() * DPI
        box = Bbox(np.stack([np.floor(box[0]), np.ceil(box[1])]) / DPI)  # whole device pixels keep images crisp
        figure.savefig(buffer, format="png", dpi=DPI, bbox_inches=box, metadata={"Software": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def shaped(**arrays):
    """Return the arrays of `shaped(x=(x, "N H W C"), z=(z, "N 2"))` after a check of their shapes.

    Axes of one name must have one size. Raises `ValueError` for another shape and for an empty array.
    """
    sizes, checked = {}, []
    for name, (array, axes) in arrays.items():
        array, axes = np.asarray(array), axes.split()
        actual = dict(zip(axes, array.shape, strict=False))  # for a repeated name, as in "n n", the last size
        known = actual | sizes | {axis: int(axis) for axis in axes if axis.isdigit()}
        if array.size == 0 or array.shape != tuple(known.get(axis) for axis in axes):
            wanted = ", ".join(f"{axis}={sizes[axis]}" if axis in sizes else axis for axis in axes)
            raise ValueError(f"{name} must have shape [{wanted}] and not be empty; found {list(array.shape)}")
        sizes |= actual
        checked.append(array)
    return checked
