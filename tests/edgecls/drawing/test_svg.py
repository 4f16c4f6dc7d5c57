from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from edgecls.drawing.figure import DARK, LIGHT, Box, Dot, Figure, Label, Line, Polygon, Shape, Strokes
from edgecls.drawing.svg import STYLE, escape, to_svg

SPACE = "{http://www.w3.org/2000/svg}"
SHAPES: tuple[Shape, ...] = (
    Box(1, 2, 30, 4.04, "s0", "a note"),
    Line(((1, 2), (3.25, 4)), "s1", 2.0, dashed=True),
    Strokes((((1, 2), (1, 9)), ((5, 5), (5, 5))), "s2", 3.0),
    Polygon(((0, 0), (9, 0), (9, 9)), "band"),
    Dot(5, 6, 7, "s3"),
    Label(8, 9, "text", "muted", 11, "end"),
)


def figure(shapes: tuple[Shape, ...] = SHAPES, title: str = "a title") -> Figure:
    return Figure(name="it", title=title, caption="how", description="what is seen", height=100, shapes=shapes)


def test_every_shape_is_an_element() -> None:
    root = ElementTree.fromstring(to_svg(figure()))
    assert root.get("viewBox") == "0 0 380 100"
    tags = [child.tag.removeprefix(SPACE) for child in root]
    assert tags == ["title", "desc", "rect", "path", "path", "path", "circle", "text"]
    box, line, strokes, polygon, dot, label = root[2:]
    assert (box.get("x"), box.get("width"), box.get("height"), box.get("class")) == ("1", "30", "4", "s0")
    assert box[0].text == "a note"
    assert (line.get("d"), line.get("class")) == ("M1 2L3.2 4", "l s1")
    assert line.get("stroke-dasharray")
    assert strokes.get("d") == "M1 2L1 9M5 5L5 5"
    assert polygon.get("d") == "M0 0L9 0L9 9Z"
    assert dot.get("r") == "7"
    assert (label.text, label.get("text-anchor"), label.get("font-size")) == ("text", "end", "11")


def test_screen_readers_find_title_and_description() -> None:
    root = ElementTree.fromstring(to_svg(figure()))
    assert root.get("role") == "img"
    ids = {child.get("id"): child.text for child in root if child.get("id")}
    assert [ids[name] for name in root.get("aria-labelledby", "").split()] == ["a title", "what is seen"]


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", "\"'&<>", "a\x00b\x1b[31m", "\ud800 \u202eabc", "汉字 ä ≤"]
)
def test_texts_cannot_leave_their_place(text: str) -> None:
    drawn = to_svg(figure((Label(1, 2, text), Box(0, 0, 1, 1, "s0", text)), title=text))
    root = ElementTree.fromstring(drawn)
    assert {element.tag.removeprefix(SPACE) for element in root.iter()} == {"svg", "title", "desc", "text", "rect"}
    drawn.encode("utf-8")
    assert "<script" not in drawn
    assert not re.search("[\x00-\x08\x1b\u202e]", drawn)


def test_visible_texts_stay_as_they_are() -> None:
    text = 'a<b> & "汉字" ≤'
    assert ElementTree.fromstring(f"<p>{escape(text)}</p>").text == text


def test_the_style_knows_every_role_in_both_themes() -> None:
    light, dark = STYLE.split("@media (prefers-color-scheme: dark)")
    for role in LIGHT:
        assert f"--{role}:{LIGHT[role]};" in light
        assert f"--{role}:{DARK[role]};" in dark
        assert f".{role} {{ color: var(--{role}); }}" in STYLE
