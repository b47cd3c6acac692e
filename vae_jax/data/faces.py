"""Cartoon faces of 28x20 pixels, 256 grey levels, drawn by rule: every factor is known.

The format is that of Frey's film, for which `evaluation.judges` has rules. Four factors take finitely many values, in
3,025 combinations. All of them are drawn once:

    smile  0 .. 10   corners down, straight at 5, up, with folds, and teeth at the end
    turn   0 .. 10   of the head, to the left and to the right; 5 looks ahead
    eyes   0 .. 4    closed to wide open
    light  0 .. 4    from the left to the right; 2 comes from the front

Nose and mouth are nearer to the camera than the eyes, and move further when the head turns. If turn becomes 10 - turn
and light 4 - light, the image is mirrored. A part of the face is a signed distance d, in pixels. It covers the share
½ - d of a pixel, cut at 0 and 1.
"""

import math

import numpy as np

SEED = 5
SIZES = {"train": 2_225, "valid": 300, "test": 500}
FACTORS = {"smile": 11, "turn": 11, "eyes": 5, "light": 5}  # names, and how many values
HEIGHT, WIDTH = 28, 20
EYES, NOSE, MOUTH, CHIN = 0.4, 2.2, 1.9, 1.7  # columns by which a full turn moves them
SKIN, HAIR, WALL, INK, LIPS, WHITE = 0.75, 0.20, 0.48, 0.10, 0.15, 0.98  # grey levels
SHADING = 0.08  # of the pixels at the edge, in the light that comes from a side


def factors_of(index):
    """Return the factors [N, 4] of the images at `index` [N], 0 .. 3,024, in the order of `FACTORS`.

    The last factor changes fastest.
    """
    return np.stack(np.unravel_index(index, tuple(FACTORS.values())), axis=-1)


def draw(factors):
    """Return the images [N, 28, 20, 1], uint8, of factors [N, 4]."""
    last = np.array(list(FACTORS.values())) - 1
    smile, turn, eyes, light = ((2 * np.asarray(factors) - last) / last).T[:, :, None, None]  # each in [-1, 1]
    y, x = np.arange(HEIGHT)[None, :, None], np.arange(WIDTH) - (WIDTH - 1) / 2
    image = np.full((len(smile), HEIGHT, WIDTH), WALL)

    def paint(level, distance, strength=1.0):
        image[:] += strength * np.clip(0.5 - distance, 0.0, 1.0) * (level - image)

    def pair(distance):
        """Return the distance from the nearer of two parts: `distance` of the side, -1 or 1."""
        return np.minimum(distance(-1.0), distance(1.0))

    # The head: ears, of which a turn hides one, and hair behind the face.
    paint(0.9 * SKIN, pair(lambda side: _ellipse(x - 8.2 * side + 0.9 * turn, y - 12.5, 1.5, 2.8)))
    paint(HAIR, _ellipse(x, y - 8.5, 9.3, 9.8))
    paint(SKIN, np.maximum(_ellipse(x - 0.3 * turn, y - 13.0, 8.2, 14.2), 2.6 + 0.03 * (x - 0.5 * turn) ** 2 - y))
    image *= 1.0 + SHADING * light * x / 9.5

    # Eyes: the one that turns away is narrower. They open by the lids, and the brows rise a little.
    def eye(side):
        place = side * (4.1 - 0.25 * turn**2) + EYES * turn
        return x - place, 2.3 - 0.25 * side * turn

    opening = 0.6 + 0.6 * eyes
    white = pair(lambda side: _ellipse(eye(side)[0], y - 8.5, eye(side)[1], opening + 0.1))
    paint(WHITE, white, np.minimum(opening, 1.0))
    pupil = pair(lambda side: _ellipse(eye(side)[0], y - 8.4, 1.0, 1.2))
    paint(INK, np.maximum(pupil, white), np.minimum(opening, 1.0))
    paint(INK, pair(lambda side: _arc(*eye(side), y - 9.1 + opening, opening - 0.5, 0.3)), 0.8)
    paint(HAIR, pair(lambda side: _arc(*eye(side), y - 5.4 + 0.2 * eyes, 0.7, 0.45)))

    # Nose: its tip, and a shadow on the side that turns away.
    paint(INK, _arc(x - NOSE * turn, 2.0, y - 16.0, -1.0, 0.4), 0.75)
    ridge = _line(x, y, (0.8 * turn, 9.5), (1.7 * turn, 14.0))
    paint(0.55 * SKIN, ridge - 0.4, 0.7 * np.abs(turn))

    # Mouth: a curve whose ends rise by the smile, open if the smile is broad. Folds run from the nose to its corners.
    broad, sad = np.maximum(smile, 0.0), np.maximum(-smile, 0.0)
    half = 3.9 + 0.8 * smile
    u = x - MOUTH * turn
    open_by = 3.4 * np.maximum(smile - 0.2, 0.0)
    curve = 20.0 + 0.6 * smile - 2.8 * smile * (u / half) ** 2
    lower = curve + open_by * (1.0 - (u / half) ** 2)
    inside = np.maximum(np.maximum(curve - y, y - lower), np.abs(u) - half)
    paint(WHITE, inside, np.minimum(open_by, 1.0))
    lips = np.maximum(np.minimum(np.abs(y - curve), np.abs(y - lower)) - 0.5, np.abs(u) - half)
    paint(LIPS, lips)
    fold = lambda side: _line(x, y, (side * 3.0 + NOSE * turn, 14.4), (side * 5.8 + MOUTH * turn, 17.2))  # noqa: E731
    paint(0.4 * SKIN, pair(fold) - 0.4, broad)
    crease = lambda side: _line(x, y, (side * 4.0 + MOUTH * turn, 22.6), (side * 4.8 + CHIN * turn, 24.6))  # noqa: E731
    paint(0.5 * SKIN, pair(crease) - 0.4, 0.7 * sad)
    paint(0.8 * SKIN, _arc(x - CHIN * turn, 1.8, y - 24.2 - 0.6 * broad, -0.3, 0.4), 0.8)
    return np.round(255.0 * np.clip(image, 0.0, 1.0)).astype(np.uint8)[..., None]


def _ellipse(x, y, a, b):
    """Return about the distance from an ellipse with the half-axes a and b, negative inside."""
    radius = np.sqrt((x / a) ** 2 + (y / b) ** 2 + 1e-12)
    return (radius - 1.0) * radius / np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + 1e-12)


def _arc(x, half, y, rise, thickness):
    """Return about the distance from an arc y = rise (x / half)², |x| <= half, of a half-thickness."""
    slope = 2.0 * rise * x / half**2
    return np.maximum(np.abs(y - rise * (x / half) ** 2) / np.sqrt(1.0 + slope**2) - thickness, np.abs(x) - half)


def _line(x, y, start, end):
    """Return the distance from a segment between two points (x, y)."""
    along, down = end[0] - start[0], end[1] - start[1]
    share = np.clip(((x - start[0]) * along + (y - start[1]) * down) / (along**2 + down**2), 0.0, 1.0)
    return np.hypot(x - start[0] - share * along, y - start[1] - share * down)


def load(split):
    """Return x [N, 28, 20, 1] and the factors [N, 4] of a split: different images, the same at every call."""
    order = np.random.default_rng(SEED).permutation(math.prod(FACTORS.values()))
    names, ends = list(SIZES), np.cumsum(list(SIZES.values()))
    place = names.index(split)
    factors = factors_of(order[ends[place] - SIZES[split] : ends[place]])
    return draw(factors), factors
