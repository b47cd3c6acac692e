"""Pen drawings as figures and as SVG files."""

import re
import xml.etree.ElementTree as ET

import numpy as np

from vae_jax.data import svg
from vae_jax.plotting import drawings, save

CROSS = np.array([[5, 5, 0], [20, 10, 1], [-20, 0, 0], [20, -10, 2], [99, 99, 1]], np.int16)


def test_strokes_are_positions_up_to_the_end():
    first, second = drawings.strokes(CROSS)
    np.testing.assert_array_equal(first, [[5, 5], [25, 15]])
    np.testing.assert_array_equal(second, [[5, 15], [25, 5]])
    assert [len(line) for line in drawings.strokes(CROSS[:2])] == [2]


def test_an_svg_is_read_back(tmp_path):
    path = tmp_path / "cross.svg"
    path.write_text(drawings.to_svg(CROSS))
    lines = svg.strokes(path)
    for own, other in zip(lines, drawings.strokes(CROSS), strict=True):
        np.testing.assert_array_equal(own, other)
    points = svg.points_of(lines, 20)
    np.testing.assert_array_equal(points, [[0, 0, 0], [20, 10, 1], [-20, 0, 0], [20, -10, 1]])


def test_a_sheet_is_written(tmp_path):
    figure = drawings.sheet(np.stack([CROSS] * 5), ncols=3)
    assert len(figure.axes[0].collections[0].get_segments()) == 10
    rows = drawings.sheet(np.stack([[CROSS] * 4] * 2), names=("a", "b"))
    for k, one in enumerate((figure, rows)):
        for kind in ("png", "svg"):
            save(one, tmp_path / f"{k}.{kind}")
            assert (tmp_path / f"{k}.{kind}").stat().st_size > 500


def test_a_dot_is_drawn():
    dot = np.array([[0, 0, 1], [3, 3, 2]])
    assert len(drawings.sheet(dot[None]).axes[0].collections[0].get_segments()) == 2
    assert "M0 0M3 3" in drawings.to_svg(dot)


def test_strokes_are_drawn_one_after_the_other_without_a_script():
    text = drawings.in_time(np.stack([CROSS, CROSS[::-1]]), ncols=1)
    root = ET.fromstring(text)
    paths = [element for element in root.iter() if element.tag.endswith("}path")]
    assert len(paths) == 4 and {path.get("pathLength") for path in paths} == {"1"}  # CROSS[::-1] has two dots
    (style,) = (element.text for element in root.iter() if element.tag.endswith("}style"))
    # Without motion there is no rule at all, and the drawings are whole.
    assert style.startswith("@media (prefers-reduced-motion:no-preference){") and style.endswith("}}")
    assert "dash" not in text.replace(style, "") and "script" not in text
    number = r"([\d.]+)%"
    rules = re.findall(rf"@keyframes (s\d+){{0%,{number}{{stroke-dashoffset:1.01}}{number},to", style)
    assert [name for name, *_ in rules] == [path.get("id") for path in paths]
    times = np.array([[float(a), float(b)] for _, a, b in rules])
    assert (times[:, 0] < times[:, 1]).all() and times[0, 1] < times[1, 0] and times.max() < 100
    assert style.count("{") == style.count("}")
    assert all(f"#{name}{{animation-name:{name}}}" in style for name, *_ in rules)
