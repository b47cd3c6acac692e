"""Pen drawings as figures, as plain SVG files, and as SVG files in which the strokes are drawn in time."""

import math

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from vae_jax.plotting import INK, plain, shaped, styled
from vae_jax.support import END, LIFT

CELL, GAP = 0.8, 0.08  # inches: the side of one drawing, and the space between two
WIDTH = 1.5  # of a line, as a percentage of the longer side
SECONDS, LEAST_SECONDS = 0.6, 0.15  # of a line as long as the longer side, and of any line
LIFTED, REST = 0.2, 2.0  # seconds between two strokes, and at the end


def strokes(points) -> list:
    """Return the strokes of a drawing [T, 3], arrays of positions [n, 2], from its start at (0, 0) up to its end.

    Points are rows (Δx, Δy, pen), as in `data.drawings`. The first offset is a move without ink.
    """
    points = np.asarray(points)
    ends = np.flatnonzero(points[:, 2] == END)
    points = points[: ends[0] + 1] if len(ends) else points
    places = np.cumsum(points[:, :2].astype(float), axis=0)
    lifted = np.flatnonzero(points[:-1, 2] == LIFT) + 1
    return np.split(places, lifted)


@styled
def sheet(drawings, *, ncols=None, names=None):
    """Show drawings [N, T, 3], or rows of drawings [R, N, T, 3]; each is scaled to its cell, and y points down.

    `ncols` is the number of drawings in a row, by default about √N. `names` are written beside the rows.
    """
    drawings = np.asarray(drawings)
    if drawings.ndim == 4:
        ncols, drawings = drawings.shape[1], drawings.reshape(-1, *drawings.shape[2:])
    (drawings,) = shaped(drawings=(drawings, "N T C"))
    ncols = min(ncols or math.ceil(math.sqrt(len(drawings))), len(drawings))
    nrows = math.ceil(len(drawings) / ncols)
    figure = Figure(figsize=(ncols * (CELL + GAP) - GAP, nrows * (CELL + GAP) - GAP))
    wide, tall = figure.get_size_inches()
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, wide), ylim=(tall, 0))
    axes.set_axis_off()
    lines = []
    for n, points in enumerate(drawings):
        row, column = divmod(n, ncols)
        lines += [line + np.array([column, row]) * (CELL + GAP) for line in _in_cell(strokes(points))]
    axes.add_collection(LineCollection(lines, colors=INK, linewidths=0.8, capstyle="round", joinstyle="round"))
    for row, name in enumerate(names or ()):
        place = row * (CELL + GAP) + 0.5 * CELL
        axes.text(-GAP, place, plain(name), ha="right", va="center", clip_on=False)
    return figure


def to_svg(points, *, width=WIDTH) -> str:
    """Return a drawing [T, 3] as an SVG file: one path with the commands M and L, in lattice units.

    `width` is that of the line, as a percentage of the longer side.
    """
    lines = strokes(points)
    low, high = (f([f(line, axis=0) for line in lines], axis=0) for f in (np.min, np.max))
    side = max(float((high - low).max()), 1.0)
    line_width = 0.01 * width * side
    x, y, w, h = (round(float(v), 3) for v in (*(low - line_width), *(high - low + 2 * line_width)))
    d = "".join(map(_path, lines))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{x:g} {y:g} {w:g} {h:g}">'
        f'<path d="{d}" fill="none" stroke="{INK}" stroke-width="{line_width:.3g}" stroke-linecap="round" '
        'stroke-linejoin="round"/></svg>\n'
    )


def in_time(drawings, *, ncols=None) -> str:
    """Return drawings [N, T, 3] as one SVG file in which their strokes are drawn in time, again and again.

    A stroke is a path of length 1 with a dash of length 1, whose offset goes to 0 (SVG 2, sec. 9.6 and 13.5). A line
    takes time in proportion to its length, and so does a drawing. The rules are CSS. There is no script, and the
    finished drawings stand still for readers who prefer less motion.

    `ncols` is the number of drawings in a row, by default about √N.
    """
    (drawings,) = shaped(drawings=(np.asarray(drawings), "N T C"))
    ncols = min(ncols or math.ceil(math.sqrt(len(drawings))), len(drawings))
    cells = [[100 / CELL * line for line in _in_cell(strokes(points))] for points in drawings]
    side = 100 * (CELL + GAP) / CELL
    timed = [_seconds(lines) for lines in cells]
    period = max(times[-1][1] for times in timed) + REST
    rules, paths = [], []
    for n, (lines, times) in enumerate(zip(cells, timed, strict=True)):
        row, column = divmod(n, ncols)
        paths.append(f'<g transform="translate({side * column:.4g} {side * row:.4g})">')
        for line, seconds in zip(lines, times, strict=True):
            name = f"s{len(rules)}"
            first, last = (f"{100 * second / period:.4g}%" for second in seconds)
            rules.append(
                f"@keyframes {name}{{0%,{first}{{stroke-dashoffset:1.01}}{last},to{{stroke-dashoffset:0}}}}"
                f"#{name}{{animation-name:{name}}}"
            )
            paths.append(f'<path id="{name}" pathLength="1" d="{_path(line.round(2))}"/>')
        paths.append("</g>")
    # A gap above 1 hides the round end of a dash of length 0.
    every = f"path{{stroke-dasharray:1 1.02;animation:{period:.4g}s linear infinite}}"
    wide, tall = (side * cells - 100 * GAP / CELL for cells in (ncols, math.ceil(len(drawings) / ncols)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-2 -2 {wide + 4:.4g} {tall + 4:.4g}">'
        f"<style>@media (prefers-reduced-motion:no-preference){{{every}{''.join(rules)}}}</style>"
        f'<g fill="none" stroke="{INK}" stroke-width="{WIDTH:g}" stroke-linecap="round" stroke-linejoin="round">'
        f"{''.join(paths)}</g></svg>\n"
    )


def _seconds(lines) -> list:
    """Return when each stroke of a drawing in a cell of 100 begins and ends, in seconds."""
    lengths = [np.hypot(*np.diff(line, axis=0).T).sum() / 100 for line in lines]
    times, now = [], 0.0
    for length in lengths:
        times.append((now, now + max(SECONDS * length, LEAST_SECONDS)))
        now = times[-1][1] + LIFTED
    return times


def _path(line) -> str:
    return "M" + "L".join(f"{a:g} {b:g}" for a, b in line)


def _in_cell(lines):
    """Return the strokes scaled and moved to the middle of a cell; a stroke of one point becomes a dot."""
    low, high = (f([f(line, axis=0) for line in lines], axis=0) for f in (np.min, np.max))
    scale = 0.94 * CELL / max(float((high - low).max()), 1.0)
    lines = [(line - 0.5 * (low + high)) * scale + 0.5 * CELL for line in lines]
    return [line if len(line) > 1 else np.concatenate([line, line + 1e-3]) for line in lines]
