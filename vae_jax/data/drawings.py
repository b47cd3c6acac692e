"""Pen drawings: points (Δx, Δy, pen) from an .npz, or from a folder of SVG files.

A drawing of N points is a row of T points, int16 [T, 3]. Δx and Δy are the offsets from the point before, integers. The
pen after a point draws the next offset (0), is lifted (1), or the drawing ends (2). Rows of zeros follow the end.
"""

from pathlib import Path

import numpy as np
from absl import logging

from vae_jax.data import files, labels, splits, svg, synthetic
from vae_jax.data.values import SPLITS, Dataset, Split
from vae_jax.spec import BadOption, integers
from vae_jax.support import END, LIFT

LARGEST = 2**15 - 1  # of int16
LEAST_POINTS = 2


def load(path=None, *, max_points=None, size=256, segments=8, max_value=None) -> Dataset:
    """Return the data set of an .npz of drawings, or of a folder of SVG files.

    The .npz has `{split}_points`, integers [P, 3], for the splits train, valid and test: the points of all drawings,
    one after the other. The columns are Δx, Δy, and 1 if the pen is lifted after the point, otherwise 0.
    `{split}_lengths` has the number of points of each drawing, and `{split}_label`, if it is there, its class. Without
    the name of a split, `points` are training drawings. Missing splits are held out (`splits.completed`). The pen of
    the last point is read as the end.

    In a folder, the paths of every .svg are one drawing (`svg.strokes`). If all files lie in subfolders, these are the
    classes.

    Args:
      path: the file or the folder; None for drawings of polygons (`synthetic.polygons`).
      max_points: T; longer drawings are left out, and the log gives their number. None for the longest drawing.
      size: the longer side of an SVG drawing in lattice units. It scales every drawing by itself.
      segments: straight lines in place of each curve of an SVG.
      max_value: the largest offset R of the lattice {-R, ..., R}; None or 0 for the largest one in the data.

    Raises FileNotFoundError if nothing is there, `ValueError` for damaged files, for points without a pen column and
    for a drawing of one point, and `BadOption` for offsets beyond `max_value`.
    """
    integers(size=size, segments=segments, at_most=LARGEST)
    integers(max_value=max_value or 0, at_least=0, at_most=LARGEST)
    if max_points is not None:
        integers(max_points=max_points, at_least=LEAST_POINTS)
    if path is None:
        path, parts = Path("polygons"), {split: synthetic.polygons(split) for split in SPLITS}
    else:
        path = Path(path).expanduser()
        parts = svg.folder(path, size=size, segments=segments) if path.is_dir() else _npz(path)
    parts = {split: (_checked(f"{path}, {split}", *part[:2]), part[1], part[2]) for split, part in parts.items()}
    largest = max(int(np.abs(points[:, :2]).max()) for points, _, _ in parts.values())
    if max_value and largest > max_value:
        raise BadOption(
            f"max_value must be at least {largest}, the largest offset between two points in {path}, got {max_value}; "
            "or set it to 0 to find it out"
        )
    longest = max(int(lengths.max()) for _, lengths, _ in parts.values())
    length = max_points or longest
    encoded, class_names = labels.encode(str(path), {split: label for split, (_, _, label) in parts.items()})
    stored = {}
    for split, (points, lengths, _) in parts.items():
        x, fits = rows(points, lengths, length)
        if not fits.any():
            raise BadOption(f"max_points must be larger: no {split} drawing of {path} has at most {length} points")
        if not fits.all():
            words = "%s, %s: %d of %d drawings of more than %d points left out"
            logging.info(words, path, split, np.sum(~fits), len(fits), length)
        stored[split] = Split(x, None if encoded is None else encoded[split][fits])
    num_classes = None
    if encoded is not None:
        num_classes = len(class_names) if class_names else 1 + max(int(label.max()) for label in encoded.values())
    if len(stored) < len(SPLITS):
        stored = splits.completed(str(path), stored)
    limit = max_value or max(largest, 1)
    logging.info("%s: drawings of at most %d points, offsets from %d to %d", path, length, -limit, limit)
    return Dataset(
        path.resolve().stem,
        **{split: stored[split] for split in SPLITS},
        max_value=limit,
        num_classes=num_classes,
        class_names=class_names,
        strokes=True,
    )


def rows(points, lengths, length):
    """Return drawings as rows int16 [N, `length`, 3], and which drawings fit [all].

    Args:
      points: the points of all drawings, integers [P, 3].
      lengths: their numbers of points [all].
      length: T.
    """
    fits = lengths <= length
    ends = np.cumsum(lengths)
    place = np.arange(len(points)) - np.repeat(ends - lengths, lengths)
    chosen = np.repeat(fits, lengths)
    row = np.repeat(np.cumsum(fits) - 1, lengths)
    x = np.zeros((int(fits.sum()), length, 3), np.int16)
    x[row[chosen], place[chosen]] = points[chosen]
    x[np.arange(len(x)), lengths[fits] - 1, 2] = END
    return x, fits


def lengths_of(x):
    """Return the number of points of rows [N, T, 3]: T for a row without an end."""
    ends = np.asarray(x)[:, :, 2] == END
    return np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, ends.shape[1])


def _npz(path) -> dict:
    """Return {split: (points, lengths, labels or None)}."""
    names = files.npz_names(path)
    found = {}
    for split, aliases in splits.NAMES.items():
        for alias in aliases:
            if f"{alias}_points" in names:
                found.setdefault(split, f"{alias}_")
    if "points" in names and "train" not in found:
        found["train"] = ""
    if "train" not in found:
        raise ValueError(f"{path}: it has {', '.join(names) or 'no array'}, and train_points is required")
    parts = {}
    for split, word in found.items():
        arrays = files.load_npz(path, (f"{word}points", f"{word}lengths", f"{word}label"))
        if f"{word}lengths" not in arrays:
            raise ValueError(f"{path}: {word}lengths is missing, the number of points of each drawing")
        parts[split] = arrays[f"{word}points"], arrays[f"{word}lengths"], arrays.get(f"{word}label")
    return parts


def _checked(where, points, lengths):
    """Return the points. Raise `ValueError` unless they are drawings of at least two points each."""
    if points.ndim != 2 or points.shape[1] != 3:
        missing = "there is no pen column" if points.shape[1:] == (2,) else "these are no points"
        raise ValueError(
            f"{where}: points must be [P, 3], with columns Δx, Δy and pen, got {list(points.shape)}: {missing}"
        )
    if points.dtype.kind not in "iu" or lengths.dtype.kind not in "iu":
        raise ValueError(f"{where}: points and lengths must be integers, got {points.dtype} and {lengths.dtype}")
    if lengths.ndim != 1 or not len(lengths) or lengths.sum() != len(points):
        raise ValueError(f"{where}: the lengths [N] must sum to the {len(points)} points, got {lengths.sum()}")
    if lengths.min() < LEAST_POINTS:
        place = int(lengths.argmin())
        raise ValueError(
            f"{where}: drawing {place} has {lengths[place]} point; a drawing needs at least {LEAST_POINTS}: leave it "
            "out"
        )
    if not np.isin(points[:, 2], (0, LIFT)).all():
        raise ValueError(f"{where}: the pen column must hold 0 (draw) and 1 (lift), got {np.unique(points[:, 2])[:5]}")
    if np.abs(points[:, :2].astype(np.int64)).max() > LARGEST:
        raise ValueError(f"{where}: offsets must be at most {LARGEST}; scale the drawings")
    return points
