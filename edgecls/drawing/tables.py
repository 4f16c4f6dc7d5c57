"""Charts of rows: stacked bars, a heat map, ratios with their intervals."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecls.drawing.axes import Scale, legend, number, scale_for, ticks_below
from edgecls.drawing.figure import RAMP, SERIES, WIDTH, Box, Dot, Figure, Label, Line, Polygon, Shape, cut, text_width

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Cell", "Interval", "heat_map", "intervals", "stacked_bars"]

_SIZE = 12.0
_ROW = 46.0
_PARTS = (*SERIES[4:5], *SERIES[1:4], *SERIES[:1], *SERIES[5:], "muted")
_LEAST_RANGE = math.log(2)
"""Of a heat map's colours: what is nearly the same must not look like day and night."""

_VERDICTS = {"pass": "good", "regression": "bad", "inconclusive": "unsure"}


@dataclass(frozen=True)
class Cell:
    """What a heat map says at one place: a positive value that chooses the colour, and two lines of text."""

    value: float
    text: str
    remark: str = ""


@dataclass(frozen=True)
class Interval:
    """A ratio.

    Attributes:
        label: of what.
        ratio: contender over baseline.
        low: lower end of its interval.
        high: upper end.
        verdict: ``pass``, ``regression``, ``inconclusive``.
    """

    label: str
    ratio: float
    low: float
    high: float
    verdict: str


def stacked_bars(
    name: str, title: str, rows: Sequence[tuple[str, Mapping[str, float]]], *, unit: str, caption: str
) -> Figure:
    """Draw what a whole is made of, one bar a row.

    Args:
        name: of the figure, as ``title``.
        title: what is shown.
        rows: label of each, and its parts, by names of which all rows together have seven at most.
        unit: of the parts.
        caption: what the parts are.
    """
    names = list(dict.fromkeys(part for _, parts in rows for part in parts))
    colours = dict(zip(names, _PARTS, strict=False))
    totals = [sum(parts.values()) for _, parts in rows]
    numbers = max(text_width(f"{number(total)} {unit}", _SIZE) for total in totals)
    x = Scale(0.0, max(totals) or 1.0, 4.0, WIDTH - numbers - 10)
    shapes: list[Shape] = []
    said = []
    for row, ((label, parts), total) in enumerate(zip(rows, totals, strict=True)):
        top = row * _ROW + 4
        shapes.append(Label(4, top + 13, cut(label, WIDTH - 8, _SIZE), "ink", _SIZE))
        begun = 0.0
        for part, value in parts.items():
            start, end = x(begun), x(begun + value)
            begun += value
            share = value / total if total else 0.0
            note = f"{label}: {part} {number(value)} {unit}, {share:.0%}"
            if end - start > 0.3:
                shapes.append(Box(start, top + 19, max(0.8, end - start - 1), 18, colours[part], note))
        shapes.append(Label(x(total) + 5, top + 32, f"{number(total)} {unit}", "ink", _SIZE))
        listed = ", ".join(f"{part} {number(value)}" for part, value in parts.items())
        said.append(f"{label}: {number(total)} {unit} ({listed}).")
    entries, height = legend([(colour, part) for part, colour in colours.items()], len(rows) * _ROW + 8)
    return Figure(
        name=name,
        title=title,
        caption=caption,
        description=" ".join(said),
        height=height,
        shapes=(*shapes, *entries),
    )


def heat_map(
    name: str,
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[int, int], Cell],
    *,
    caption: str,
) -> Figure:
    """Draw a table whose small values are pale and whose large ones are deep; equal steps of colour are equal ratios.

    Args:
        name: of the figure, as ``title``.
        title: what is shown.
        rows: their labels.
        columns: likewise.
        cells: by row and column; what is missing stays empty.
        caption: what the texts are.
    """
    left = min(150.0, 12 + max(text_width(label, _SIZE) for label in rows))
    width = (WIDTH - left) / len(columns)
    low, high = (math.log(pick(cell.value for cell in cells.values())) for pick in (min, max))
    shapes: list[Shape] = []
    said = []
    # What is too wide for its column is parted at its comma.
    heads = [[label] if text_width(label, _SIZE) <= width - 4 else label.split(", ", 1) for label in columns]
    header = 7 + 15.0 * max(map(len, heads))
    for column, head in enumerate(heads):
        for line, part in enumerate(reversed(head)):
            place = (left + (column + 0.5) * width, header - 9 - 15 * line)
            shapes.append(Label(*place, cut(part, width - 2, _SIZE), "muted", _SIZE, "middle"))
    for row, label in enumerate(rows):
        top = header + row * 44.0
        shapes.append(Label(left - 8, top + 26, cut(label, left - 10, _SIZE), "ink", _SIZE, "end"))
        for column, of in enumerate(columns):
            start, middle = left + column * width, left + (column + 0.5) * width
            cell = cells.get((row, column))
            if cell is None:
                shapes.append(Box(start + 1, top + 1, width - 2, 42, "grid", f"{label}, {of}: not measured"))
                shapes.append(Label(middle, top + 26, "-", "muted", _SIZE, "middle"))
                continue
            depth = (math.log(cell.value) - low) / max(high - low, _LEAST_RANGE)
            colour = RAMP[min(len(RAMP) - 1, int(depth * len(RAMP)))]
            ink = "on_deep" if RAMP.index(colour) > 3 else "on_pale"
            note = f"{label}, {of}: {cell.text}{cell.remark and f', {cell.remark}'}"
            shapes.append(Box(start + 1, top + 1, width - 2, 42, colour, note))
            said.append(f"{note}.")
            lines = ((20, 13.0, cell.text), (36, 11.0, cell.remark)) if cell.remark else ((26, 13.0, cell.text),)
            for below, largest, text in lines:
                size = min(largest, largest * (width - 6) / text_width(text, largest))
                shapes.append(Label(middle, top + below, text, ink, size, "middle"))
    return Figure(
        name=name,
        title=title,
        caption=caption,
        description=" ".join(said),
        height=header + 2 + len(rows) * 44.0,
        shapes=tuple(shapes),
    )


def intervals(name: str, title: str, rows: Sequence[Interval], *, allowed: float, caption: str) -> Figure:
    """Draw by how much something got slower, with the interval in which the truth lies and the line it may not cross.

    Args:
        name: of the figure, as ``title``.
        title: what is shown.
        rows: at least one.
        allowed: largest ratio that passes, say 1.05.
        caption: what the intervals are.
    """
    changes = [100 * (value - 1) for row in rows for value in (row.low, row.ratio, row.high)]
    limit = 100 * (allowed - 1)
    x = scale_for([*changes, 0.0, 1.3 * limit, -limit], 8.0, WIDTH - 8)
    # Each row: its label, if it has one, what was found, and the interval.
    height = 46.0 + 16.0 * any(row.label for row in rows)
    top, bottom = 22.0, 22.0 + len(rows) * height
    shapes: list[Shape] = [
        Box(x(limit), top, x.end - x(limit), bottom - top, "band", f"slower than the allowed {limit:+.3g} %"),
        Line(((x.start, bottom), (x.end, bottom)), "muted", 1.0),
    ]
    half = text_width(f"allowed {limit:+.3g} %", 11.0) / 2
    middle = min(max(x(limit), half), WIDTH - half)
    shapes.append(Label(middle, 14, f"allowed {limit:+.3g} %", "ink", 11.0, "middle"))
    shapes += ticks_below(x, bottom, [(value, f"{'+' if value > 0 else ''}{text} %") for value, text in x.ticks()])
    said = []
    for number_of, row in enumerate(rows):
        level, colour = top + (number_of + 1) * height - 14, _VERDICTS.get(row.verdict, "muted")
        change, least, most = (100 * (value - 1) for value in (row.ratio, row.low, row.high))
        text = f"{row.verdict}: {change:+.1f} % ({least:+.1f} to {most:+.1f})"
        note = f"{row.label}{row.label and ': '}{text}"
        ends = [x(least), x(most)]
        if row.label:
            shapes.append(Label(8, level - 33, cut(row.label, WIDTH - 16, _SIZE), "ink", _SIZE))
        shapes.append(Label(8, level - 16, text, colour, _SIZE))
        # Beside the interval alone: a line through the texts would make them hard to read.
        shapes.append(Line(((x(0), level - 12), (x(0), level + 14)), "muted", 1.2))
        shapes.append(Line(((x(limit), level - 12), (x(limit), level + 14)), "ink", 1.2, dashed=True))
        shapes.append(Line(((ends[0], level), (ends[1], level)), colour, 2.5, note=note))
        shapes += [Line(((end, level - 5), (end, level + 5)), colour, 2.0) for end in ends]
        shapes.append(_sign(x(change), level, row.verdict, colour, note))
        said.append(f"{note}.")
    shapes.append(Label(x.end, bottom + 35, "slower by", "muted", _SIZE, "end"))
    return Figure(
        name=name,
        title=title,
        caption=caption,
        description=" ".join(said),
        height=bottom + 42,
        shapes=tuple(shapes),
    )


def _sign(x: float, y: float, verdict: str, colour: str, note: str) -> Shape:
    """Draw a verdict by its form, too: a disc passes, a square is a regression, a diamond is undecided."""
    if verdict == "regression":
        return Box(x - 5, y - 5, 10, 10, colour, note)
    if verdict == "inconclusive":
        return Polygon(((x - 7, y), (x, y - 7), (x + 7, y), (x, y + 7)), colour, note)
    return Dot(x, y, 6, colour, note)
