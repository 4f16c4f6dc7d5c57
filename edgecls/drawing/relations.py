"""Charts of pairs of values: how one grows with another, and what one costs of another."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecls.drawing.axes import PLOT_HEIGHT, PLOT_TOP, Scale, frame, left_of, legend, number, scale_for
from edgecls.drawing.figure import SERIES, WIDTH, Dot, Figure, Label, Line, Shape, cut, text_width

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Spot", "growth", "scatter"]

_LABEL = 11.0


@dataclass(frozen=True)
class Spot:
    """A point of a scatter: x and y, its label, and what more there is to say of it."""

    label: str
    x: float
    y: float
    note: str = ""


def growth(
    name: str, title: str, lines: Sequence[tuple[str, Sequence[tuple[int, float]]]], *, of: str, unit: str, caption: str
) -> Figure:
    """Draw how something grows with a number that was doubled again and again.

    Args:
        name: of the figure, as ``title``.
        title: what is shown.
        lines: label of each, and its pairs of number and value; six at most.
        of: what is numbered, in the plural.
        unit: of the values.
        caption: how to read it.
    """
    counts = sorted({count for _, pairs in lines for count, _ in pairs})
    y = scale_for((value for _, pairs in lines for _, value in pairs), PLOT_TOP + PLOT_HEIGHT, PLOT_TOP, from_zero=True)
    left = left_of(y)
    # As far apart as their ratio, a little within the frame.
    edge = (counts[-1] / counts[0]) ** 0.06 if len(counts) > 1 else 2.0
    x = Scale(counts[0] / edge, counts[-1] * edge, left, WIDTH - 6, is_log=True)
    shapes = frame(x, y, of, unit, [(float(count), str(count)) for count in counts])
    for colour, (label, pairs) in zip(SERIES, lines, strict=False):
        points = [(x(count), y(value)) for count, value in sorted(pairs)]
        if len(points) > 1:
            shapes.append(Line(tuple(points), colour, 2.0))
        for (place, level), (count, value) in zip(points, sorted(pairs), strict=True):
            shapes.append(Dot(place, level, 4.5, colour, f"{label}: {number(value)} {unit} with {count} {of}"))
    height = y.start + 42
    if len(lines) > 1:
        entries, height = legend([(colour, label) for colour, (label, _) in zip(SERIES, lines, strict=False)], height)
        shapes += entries
    said = [
        f"{label}: {', '.join(f'{number(value)} {unit} with {count} {of}' for count, value in sorted(pairs))}."
        for label, pairs in lines
    ]
    return Figure(
        name=name, title=title, caption=caption, description=" ".join(said), height=height, shapes=tuple(shapes)
    )


def scatter(name: str, title: str, spots: Sequence[Spot], *, x_unit: str, y_unit: str, caption: str) -> Figure:
    """Draw what each costs (to the left is better) and what it brings (upwards is better).

    Those that no other one beats in both are of the first colour, joined by a dashed line; the others are smaller.

    Args:
        name: of the figure, as ``title``.
        title: what is shown.
        spots: at least one.
        x_unit: of the cost.
        y_unit: of the gain.
        caption: how to read it.
    """
    y = scale_for((spot.y for spot in spots), PLOT_TOP + PLOT_HEIGHT, PLOT_TOP, room=0.15)
    left = left_of(y)
    x = scale_for((spot.x for spot in spots), left, WIDTH - 6, may_be_log=True, room=0.12)
    shapes = frame(x, y, f"{x_unit}{', log scale' if x.is_log else ''}", y_unit)
    best = _front(spots)
    for before, after in itertools.pairwise(best):
        corner = (x(after.x), y(before.y))
        shapes.append(Line(((x(before.x), y(before.y)), corner, (x(after.x), y(after.y))), "muted", 1.2, dashed=True))
    # Labels go where they cover nothing: they know all dots and the labels before them.
    taken = [(x(spot.x) - 6, y(spot.y) - 6, x(spot.x) + 6, y(spot.y) + 6) for spot in spots]
    for spot in spots:
        place, level = x(spot.x), y(spot.y)
        note = f"{spot.label}: {number(spot.x)} {x_unit}, {number(spot.y)} {y_unit}{spot.note and f', {spot.note}'}"
        shapes.append(Dot(place, level, *((6.5, "s0") if spot in best else (4.5, "s1")), note))
        text = cut(spot.label, 170.0, _LABEL)
        shapes.append(_free_label(text, place, level, left, y.start, taken))
    said = [f"{spot.label}: {number(spot.x)} {x_unit}, {number(spot.y)} {y_unit}." for spot in spots]
    return Figure(
        name=name,
        title=title,
        caption=caption,
        description=" ".join(said),
        height=y.start + 42,
        shapes=tuple(shapes),
    )


def _front(spots: Sequence[Spot]) -> list[Spot]:
    """Return the spots that no other one beats, the cheapest first."""
    front: list[Spot] = []
    for spot in sorted(spots, key=lambda spot: (spot.x, -spot.y)):
        if not front or spot.y > front[-1].y:
            front.append(spot)
    return front


def _free_label(
    text: str, x: float, y: float, left: float, bottom: float, taken: list[tuple[float, float, float, float]]
) -> Shape:
    width, height = text_width(text, _LABEL), _LABEL
    places = [(x + 9, y + 4), (x - 9 - width, y + 4)]
    for away in (15.0, 28.0, 41.0):
        places += [(start, y + way) for way in (-away + 5, away + 4) for start in (x - width / 2, x + 5, x - width - 5)]
    for start, base in places:
        box = (start, base - height, start + width, base + 3)
        within = start >= left and start + width <= WIDTH and box[1] >= PLOT_TOP - 4 and base <= bottom - 2
        if within and not any(_overlap(box, other) for other in taken):
            break
    else:
        start, base = min(max(left, x + 9), WIDTH - width), y + 4
        box = (start, base - height, start + width, base + 3)
    taken.append(box)
    if start + width <= x:
        return Label(start + width, base, text, "ink", _LABEL, "end")
    return Label(start, base, text, "ink", _LABEL)


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
