"""Paths of SVG files as strokes of a pen.

Read are the elements `path`, with the commands M, L, H, V, C, S, Q, T and Z, absolute or relative. Curves become
straight lines. Refused are arcs (A) and the attribute `transform` of a path or of a group around it. Everything else is
left out: other shapes, texts, styles, and paths inside `defs`, `clipPath`, `mask`, `symbol`, `pattern` and `marker`.
"""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

from vae_jax.data import files

_TOKEN = re.compile(r"[A-Za-z]|[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")
_NUMBERS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "Z": 0}
_NOT_DRAWN = {"defs", "clipPath", "mask", "symbol", "pattern", "marker"}


def folder(path, *, size, segments) -> dict:
    """Return {"train": (points [P, 3], lengths [N], labels [N] or None)} of all .svg files below a folder.

    If every file lies in a subfolder, the name of the first subfolder is its label. The errors are those of `strokes`.
    """
    names = sorted(path.rglob("*.svg"))
    if not names:
        raise FileNotFoundError(f"{path}: no .svg file in this folder")
    drawings = [points_of(strokes(name, segments=segments), size) for name in names]
    if single := [name for name, points in zip(names, drawings, strict=True) if len(points) < 2]:
        raise ValueError(f"{single[0]}: a drawing needs at least 2 points, this one has one; leave it out")
    inside = [name.relative_to(path).parts for name in names]
    label = np.array([parts[0] for parts in inside]) if all(len(parts) > 1 for parts in inside) else None
    return {"train": (np.concatenate(drawings), np.array([len(points) for points in drawings]), label)}


def points_of(lines, size):
    """Return the points (Δx, Δy, lifted), int [P, 3], of strokes [n, 2] scaled so that the longer side is `size`.

    The drawing begins at its upper left corner. Positions are rounded before they are subtracted, so that errors do not
    add up. A point that does not move the pen is left out, except the only one of a stroke.
    """
    low = np.min([line.min(axis=0) for line in lines], axis=0)
    high = np.max([line.max(axis=0) for line in lines], axis=0)
    scale, place, points = size / max(float((high - low).max()), 1e-9), np.zeros(2, int), []
    for line in lines:
        grid = np.round((line - low) * scale).astype(int)
        moved = np.any(np.diff(grid, axis=0) != 0, axis=1)
        grid = grid[np.concatenate([[True], moved])]
        lifted = np.arange(1, len(grid) + 1) == len(grid)
        points.append(np.column_stack([np.diff(grid, axis=0, prepend=place[None]), lifted]))
        place = grid[-1]
    return np.concatenate(points)


def strokes(path, *, segments=8) -> list:
    """Return the strokes of an SVG file in its own units, arrays [n, 2]; y points down.

    Raises `ValueError` for a file that is no SVG, that has no path, or that has what is not read.
    """
    path = files.regular(Path(path))
    try:
        root = ET.fromstring(path.read_bytes())
    except (ET.ParseError, ValueError) as error:
        raise ValueError(f"{path}: not an SVG file ({files.one_line(error)})") from error
    lines = []

    def visit(element, transformed):
        kind = element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""
        if kind in _NOT_DRAWN:
            return
        transformed = transformed or "transform" in element.attrib
        if kind == "path":
            if transformed:
                raise ValueError(f"{path}: 'transform' of a path is not read; save the file with plain coordinates")
            lines.extend(flattened(element.get("d", ""), segments, path))
        for child in element:
            visit(child, transformed)

    visit(root, False)
    if not lines:
        raise ValueError(f"{path}: there is no path in this file; only paths are read")
    return lines


def flattened(d, segments, where="a path") -> list:
    """Return the subpaths of the attribute `d` as arrays [n, 2]; each curve is `segments` straight lines."""
    rest = re.sub(r"[\s,]+", "", _TOKEN.sub("", d))
    tokens = _TOKEN.findall(d)
    if rest or (tokens and tokens[0] not in "Mm"):
        raise ValueError(f"{where}: a path begins with M and holds commands and numbers, got {d[:40]!r}")
    lines, place, before, closed, command, i = [], np.zeros(2), None, False, None, 0
    while i < len(tokens):
        if tokens[i].isalpha():
            command, i = tokens[i], i + 1
            if command.upper() not in _NUMBERS:
                raise ValueError(f"{where}: the path command {command!r} is not read, only {', '.join(_NUMBERS)}")
        elif command in "Zz":
            raise ValueError(f"{where}: a number after Z in {d[:40]!r}")
        kind, count = command.upper(), _NUMBERS[command.upper()]
        numbers = tokens[i : i + count]
        if len(numbers) < count or any(token.isalpha() for token in numbers):
            raise ValueError(f"{where}: the path command {command!r} takes {count} numbers, got {numbers}")
        i += count
        origin = place if command.islower() else np.zeros(2)
        values = np.array(numbers, float)
        if kind == "M":
            place, before, closed = origin + values, None, False
            lines.append([place])
            command = "l" if command == "m" else "L"  # more numbers are lines
            continue
        if kind == "Z":
            ends = lines[-1][0][None]
        elif kind in "HV":
            ends = place.copy()[None]
            ends[0, "HV".index(kind)] = origin["HV".index(kind)] + values[0]
        else:
            ends = origin + values.reshape(-1, 2)
        if kind in "ST":  # the first control point mirrors the last one of a curve of the same kind
            mirrored = 2 * place - before[1] if before and before[0] in {"S": "CS", "T": "QT"}[kind] else place
            ends = np.concatenate([mirrored[None], ends])
        if closed:
            lines.append([place])  # a subpath that begins where Z ended
        closed = kind == "Z"
        before = (kind, ends[-2]) if kind in "CSQT" else None
        lines[-1].extend(_curve(np.concatenate([place[None], ends]), segments))
        place = ends[-1]
    return [np.array(line) for line in lines]


def _curve(controls, segments):
    """Return the points of a Bézier curve after its first, by de Casteljau's rule; a line has one."""
    if len(controls) == 2:
        return list(controls[1:])
    t = (np.arange(1, segments + 1) / segments)[:, None, None]
    points = np.broadcast_to(controls, (segments, *controls.shape))
    while points.shape[1] > 1:
        points = (1 - t) * points[:, :-1] + t * points[:, 1:]
    return list(points[:, 0])
