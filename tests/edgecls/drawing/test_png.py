from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecls.drawing.figure import LIGHT, WIDTH, Box, Dot, Figure, Label, Line, Polygon, Shape, Strokes
from edgecls.drawing.png import write_png
from edgecls_runtime.errors import OutputError


def figure(*shapes: Shape, caption: str = "") -> Figure:
    return Figure(name="it", title="", caption=caption, description="", height=60, shapes=shapes)


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).astype(int)


def holds(found: np.ndarray, role: str) -> int:
    colour = [int(LIGHT[role][start : start + 2], 16) for start in (1, 3, 5)]
    return int((abs(found - colour).max(-1) <= 8).sum())


@pytest.mark.parametrize(
    ("shape", "area"),
    [
        (Box(10, 10, 50, 20, "s0"), 1000),
        (Line(((10, 30), (110, 30)), "s0", 4), 400),
        (Line(((10, 30), (110, 30)), "s0", 4, dashed=True), 200),
        (Strokes((((10, 10), (10, 50)), ((20, 20), (20, 20))), "s0", 6), 240 + 28),
        (Polygon(((10, 10), (60, 10), (10, 50)), "s0"), 1000),
        (Dot(50, 30, 20, "s0"), 1200),
    ],
)
def test_shapes_are_as_large_as_they_should_be(tmp_path: Path, shape: Shape, area: float) -> None:
    write_png(figure(shape), tmp_path / "it.png")
    assert holds(pixels(tmp_path / "it.png"), "s0") / 4 == pytest.approx(area, rel=0.15)


def test_texts_are_drawn_where_they_belong(tmp_path: Path) -> None:
    write_png(figure(Label(WIDTH, 30, "right", "ink", 14, "end"), Label(0, 30, "left", "ink", 14)), tmp_path / "it.png")
    dark = pixels(tmp_path / "it.png").min(-1) < 100
    columns = np.flatnonzero(dark.any(0)) / 2 - 14
    assert 0 <= columns.min() < 3
    assert WIDTH - 3 < columns.max() <= WIDTH + 1
    assert not ((columns > 60) & (columns < WIDTH - 60)).any()


def test_the_same_figure_is_the_same_file(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        write_png(figure(Dot(50, 30, 9, "s2"), Label(9, 9, "hello"), caption="what it is"), tmp_path / name)
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_the_file_says_what_is_seen(tmp_path: Path) -> None:
    said = Figure(name="it", title="a title", caption="", description="≤ 7 ms \udce9", height=60, shapes=())
    write_png(said, tmp_path / "it.png")
    with Image.open(tmp_path / "it.png") as image:
        assert image.info["Title"] == "a title"
        assert image.info["Description"] == "≤ 7 ms ?"


def test_a_long_caption_is_wrapped_above_the_shapes(tmp_path: Path) -> None:
    write_png(figure(), tmp_path / "short.png")
    write_png(figure(caption="words " * 40), tmp_path / "long.png")
    short, long = pixels(tmp_path / "short.png"), pixels(tmp_path / "long.png")
    assert long.shape[1] == short.shape[1]
    assert long.shape[0] > short.shape[0] + 4 * 2 * 12
    assert (long[:, -20:] > 200).all()  # nothing is cut at the right edge


def test_letters_that_the_font_lacks_do_no_harm(tmp_path: Path) -> None:
    write_png(figure(Label(9, 9, "汉字 ≤ \ud800 \x00")), tmp_path / "it.png")


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    target = tmp_path / "it.png"
    target.write_bytes(b"mine")
    with pytest.raises(OutputError, match="exists already"):
        write_png(figure(), target)
    assert target.read_bytes() == b"mine"
    write_png(figure(), target, force=True)
    assert pixels(target).size
    assert [path.name for path in tmp_path.iterdir()] == ["it.png"]
