"""A figure is a list of plain shapes, in units of which a phone shows about 360 across.

Shapes name a colour by its role, never by its value, so that one figure serves a light page, a dark one and a file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = [
    "DARK",
    "LIGHT",
    "RAMP",
    "SERIES",
    "WIDTH",
    "Box",
    "Dot",
    "Figure",
    "Label",
    "Line",
    "Point",
    "Polygon",
    "Shape",
    "Strokes",
    "cut",
    "text_width",
]

WIDTH = 380.0
SERIES = ("s0", "s1", "s2", "s3", "s4", "s5")
RAMP = ("r0", "r1", "r2", "r3", "r4", "r5", "r6")

# The six series differ in lightness as well as in hue, so that people with any of the three colour blindnesses can tell
# every pair apart (a test measures it), and they reach the contrast of 3:1 that WCAG 2.2, 1.4.11, asks of graphics.
_ALIKE = {
    "r0": "#eaf2fb",
    "r1": "#cfe1f3",
    "r2": "#a9cbe8",
    "r3": "#74aad6",
    "r4": "#3a77ae",
    "r5": "#215a93",
    "r6": "#123f70",
    "on_pale": "#10202f",
    "on_deep": "#ffffff",
}
LIGHT = _ALIKE | {
    "paper": "#ffffff",
    "ink": "#1b2430",
    "muted": "#596575",
    "grid": "#e3e7ec",
    "band": "#cdd9f0",
    "s0": "#22449a",
    "s1": "#d07d12",
    "s2": "#1d7a5e",
    "s3": "#a43fd2",
    "s4": "#10132b",
    "s5": "#2c9fc3",
    "good": "#1a7f37",
    "bad": "#c62828",
    "unsure": "#8a6100",
}
DARK = _ALIKE | {
    "paper": "#161b22",
    "ink": "#e8edf3",
    "muted": "#a3afbd",
    "grid": "#2b333d",
    "band": "#2c3f63",
    "s0": "#74a7f5",
    "s1": "#eb9f50",
    "s2": "#1f8a52",
    "s3": "#ad48d4",
    "s4": "#f7e668",
    "s5": "#9af3ee",
    "good": "#56d364",
    "bad": "#ff7b72",
    "unsure": "#e3b341",
}

Point: TypeAlias = tuple[float, float]


@dataclass(frozen=True)
class Box:
    """A filled rectangle; ``note`` is what a page says of it when it is pointed at, as for all shapes."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    note: str = ""


@dataclass(frozen=True)
class Line:
    """A line through points."""

    points: tuple[Point, ...]
    colour: str
    width: float = 1.5
    dashed: bool = False
    note: str = ""


@dataclass(frozen=True)
class Strokes:
    """Many straight lines of one colour, which a file holds in a tenth of the room; one without a length is a dot."""

    pairs: tuple[tuple[Point, Point], ...]
    colour: str
    width: float


@dataclass(frozen=True)
class Polygon:
    """A filled area."""

    points: tuple[Point, ...]
    colour: str
    note: str = ""


@dataclass(frozen=True)
class Dot:
    """A filled circle with a rim of the paper's colour, which parts it from what it lies on."""

    x: float
    y: float
    radius: float
    colour: str
    note: str = ""


@dataclass(frozen=True)
class Label:
    """A line of text; ``y`` is its baseline."""

    x: float
    y: float
    text: str
    colour: str = "ink"
    size: float = 12.0
    anchor: Literal["start", "middle", "end"] = "start"


Shape: TypeAlias = Box | Line | Strokes | Polygon | Dot | Label


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A chart.

    Attributes:
        name: of its file, and of its element in a page: letters, digits, ``-``.
        title: what it shows.
        caption: how to read it; a line that stands beside the title.
        description: what is seen, in words and numbers, for who cannot see it.
        height: in the units of the shapes; the width is `WIDTH`.
        shapes: from the lowest to the topmost.
    """

    name: str
    title: str
    caption: str
    description: str
    height: float
    shapes: tuple[Shape, ...]


def text_width(text: str, size: float) -> float:
    """Estimate the width of a text in a sans-serif font, rather too much than too little."""
    narrow = sum(letter in " .,:;'|!()[]ijltfI-" for letter in text)
    wide = sum(letter in "mwMW%@+" or ord(letter) > 0x2E80 for letter in text)
    return size * (0.6 * len(text) - 0.22 * narrow + 0.35 * wide)


def cut(text: str, width: float, size: float) -> str:
    """Cut a text so that it fits, in its middle: names tend to differ at their ends."""
    if text_width(text, size) <= width:
        return text
    kept = len(text) - 1
    while kept > 2 and text_width(_halves(text, kept), size) > width:
        kept -= 1
    return _halves(text, kept)


def _halves(text: str, kept: int) -> str:
    return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
