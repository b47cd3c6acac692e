"""Figures of arrays in one style, and `save`, which writes them.

Every plotting function returns a `matplotlib.figure.Figure` that has no window and no global state.
"""

import functools
import hashlib
import io
import os
import pathlib
import textwrap

import matplotlib.style
import numpy as np
from matplotlib.transforms import Bbox

DPI = 200
INK, QUIET_INK, QUIET = "#222222", "#555555", "#8c8c8c"
FORMATS = {  # what a figure is written as, and the metadata that would make equal figures differ
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "svg": {"Date": None, "Creator": None},
}
LETTER, CAPTION_GAP, PAD = 0.05, 0.08, 0.04  # inches: a letter of a caption, the space above it, around a figure

# Ten colours that readers with common colour-vision deficiencies can distinguish, arXiv:2107.02270.
PALETTE = (
    *("#3f90da", "#ffa90e", "#bd1f01", "#94a4a2", "#832db6"),
    *("#a96b59", "#e76300", "#b9ac70", "#717581", "#92dadd"),
)
# Eight colours, easier to distinguish than ten (Okabe and Ito 2008).
OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#f0e442")
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
    "pdf.fonttype": 42,  # text that can be edited
    "svg.hashsalt": "vae_jax",
}


def class_style(k, num_classes) -> tuple[str, str]:
    """Return the colour and the marker of class k of `num_classes`.

    Up to eight classes differ in colour. Beyond, five classes share a marker, so that no two of fifty look alike.
    """
    if num_classes <= len(OKABE_ITO):
        return OKABE_ITO[k], MARKERS[0]
    return PALETTE[k % len(PALETTE)], MARKERS[k // 5 % len(MARKERS)]


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
            if figure.get_layout_engine():
                figure.draw_without_rendering()  # the layout is computed late: do it within the style
                figure.set_layout_engine("none")
            for axes in figure.axes:  # ticks, too
                axes.get_xticklabels()
                axes.get_yticklabels()
        return figure

    return figure_in_style


def row_of_panels(number, width, height, *, gap=0.6):
    """Return a figure and its `number` axes side by side, of `width` x `height` inches with `gap` inches between them.

    Labels stand outside the figure; `save` makes room for them. This is much faster than a layout that is computed.
    """
    from matplotlib.figure import Figure

    whole = number * (width + gap) - gap
    figure = Figure(figsize=(whole, height))
    axes = [figure.add_axes((n * (width + gap) / whole, 0, width / whole, 1)) for n in range(number)]
    return figure, axes


def add_caption(figure, text):
    """Write `text` below everything else in `figure`, in lines of its width, and return the figure."""
    with in_style():
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        lines = textwrap.wrap(plain(text), max(40, int((box.x1 - box.x0) / LETTER)))
        place = {"x": box.x0 / width, "y": (box.y0 - CAPTION_GAP) / height, "ha": "left", "va": "top"}
        figure.text(s="\n".join(lines), fontsize=8, color=QUIET_INK, linespacing=1.3, **place)
    return figure


def save(figure, path):
    """Write `figure` to `path`, trimmed to its content, as its suffix says: PNG at 200 dpi, PDF or SVG.

    The file appears complete or not at all. Equal figures give equal bytes.
    """
    path, buffer = pathlib.Path(path), io.BytesIO()
    kind = path.suffix[1:] or "png"
    if kind not in FORMATS:
        raise ValueError(f"{path.name}: a figure is written as one of {', '.join(FORMATS)}")
    write(figure, buffer, kind)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        partial.write_bytes(buffer.getvalue())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def write(figure, stream, kind):
    """Write `figure` to a stream of bytes as one of `FORMATS`, trimmed to its content."""
    with in_style():
        if figure.get_layout_engine():
            figure.draw_without_rendering()  # the layout moves labels, which the box must contain
        box = figure.get_tightbbox().padded(PAD).get_points() * DPI
        box = Bbox(np.stack([np.floor(box[0]), np.ceil(box[1])]) / DPI)  # whole device pixels keep images crisp
        figure.savefig(stream, format=kind, dpi=DPI, bbox_inches=box, metadata=FORMATS[kind])


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
