"""Charts of many values of one kind: how often, how many at most, in which order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgecls.drawing.axes import PLOT_HEIGHT, PLOT_TOP, Nines, Scale, frame, left_of, legend, number, scale_for
from edgecls.drawing.figure import SERIES, WIDTH, Box, Dot, Figure, Label, Line, Shape, Strokes, text_width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

__all__ = ["Curve", "Mark", "histogram", "percentile_curves", "trace"]

_MOST_BINS = 80
_MOST_DOTS = 300
_COLUMNS = 170
_CURVE_POINTS = 160
_MOST_ROUNDS = 60


@dataclass(frozen=True)
class Mark:
    """A percentile.

    Attributes:
        name: ``p99``.
        share: 0.99.
        value: of the sample.
        at_most: what it does not exceed, as far as the sample can tell.
    """

    name: str
    share: float
    value: float
    at_most: float


@dataclass(frozen=True)
class Curve:
    """A sample with its name and the percentiles that it supports."""

    label: str
    values: Sequence[float]
    marks: tuple[Mark, ...]


def histogram(name: str, title: str, values: ArrayLike, marks: Sequence[Mark], *, unit: str, what: str) -> Figure:
    """Draw how often which values occur; logarithmic where the tail is long, and the rarest are seen still.

    Args:
        name: of the figure, as ``title``.
        title: what is shown.
        values: at least one.
        marks: lines to draw, with their names.
        unit: of the values.
        what: is counted, in the plural.
    """
    sample = np.asarray(values, np.float64)
    top = PLOT_TOP + 14 * len(marks)
    bottom = top + PLOT_HEIGHT
    x = scale_for(sample.tolist(), 0, 1, may_be_log=True)
    places = np.log(sample / x.low) / np.log(x.high / x.low) if x.is_log else (sample - x.low) / (x.high - x.low)
    # Freedman and Diaconis' bins, on the axis as it is; https://doi.org/10.1007/BF01025868
    quarter, three_quarters = np.quantile(places, (0.25, 0.75))
    width = 2 * (three_quarters - quarter) / np.cbrt(len(places))
    edges = x.edges(int(np.clip(1 / width if width > 0 else _MOST_BINS, 6, _MOST_BINS)))
    counts, _ = np.histogram(sample, edges)
    y = scale_for(counts.tolist(), bottom, top, from_zero=True)
    x = Scale(x.low, x.high, left_of(y), WIDTH - 6, x.is_log)
    shapes = frame(x, y, f"{unit}{', log scale' if x.is_log else ''}", what)
    for number_of, low, high in zip(counts.tolist(), edges, edges[1:], strict=False):
        if number_of:
            start, width = x(low), x(high) - x(low)
            height = max(2.0, bottom - y(number_of))  # a single one among thousands is what one looks for
            note = f"{number(low)} to {number(high)} {unit}: {number_of:,} of {len(sample):,} {what}"
            shapes.append(Box(start, bottom - height, max(1.0, width - 1), height, "s0", note))
    shapes += _marked(marks, x, top, bottom, unit)
    said = ", ".join(f"{mark.name} {number(mark.value)}" for mark in marks)
    return Figure(
        name=name,
        title=title,
        caption=f"{len(sample):,} {what}",
        description=f"{len(sample):,} {what} from {number(sample.min())} to {number(sample.max())} {unit}"
        f"{f'; {said} {unit}' if said else ''}.",
        height=bottom + 42,
        shapes=tuple(shapes),
    )


def percentile_curves(name: str, title: str, curves: Sequence[Curve], *, unit: str) -> Figure:
    """Draw which share of the values is how small at most: the ECDF, its upper end drawn out by the nines.

    Each percentile that the sample supports is a dot, with a line to its upper bound.

    Args:
        name: of the figure, as ``title``.
        title: what is shown.
        curves: one to six, of at least one value each.
        unit: of the values.
    """
    longest = max(len(curve.values) for curve in curves)
    y = Nines(1 - 0.5 / max(2, longest), PLOT_TOP + PLOT_HEIGHT, PLOT_TOP)
    ordered = [np.sort(np.asarray(curve.values, np.float64)) for curve in curves]
    together = np.concatenate([sample[_spread(sample)] for sample in ordered]).tolist()
    bounds = [mark.at_most for curve in curves for mark in curve.marks]
    x = scale_for([*together, *bounds], left_of(y), WIDTH - 6, may_be_log=True)
    shapes = frame(x, y, f"{unit}{', log scale' if x.is_log else ''}", "share that is no slower")
    dots: list[Shape] = []
    for colour, curve, sample in zip(SERIES, curves, ordered, strict=False):
        indices = _spread(sample)
        points = [(x(sample[index]), y((index + 0.5) / len(sample))) for index in indices.tolist()]
        steps = [(after[0], before[1]) for before, after in itertools.pairwise(points)]
        path = [point for pair in zip(points, steps, strict=False) for point in pair] + points[-1:]
        shapes.append(Line(tuple(path), colour, 2.0))
        for mark in curve.marks:
            place = y(mark.share)
            note = f"{curve.label}: {mark.name} {number(mark.value)} {unit}, at most {number(mark.at_most)} {unit}"
            dots.append(Line(((x(mark.value), place), (x(mark.at_most), place)), colour, 1.5, note=note))
            dots.append(Dot(x(mark.value), place, 4.5, colour, note))
    shapes += dots
    height = y.start + 42
    if len(curves) > 1:
        entries, height = legend([(c, curve.label) for c, curve in zip(SERIES, curves, strict=False)], height)
        shapes += entries
    return Figure(
        name=name,
        title=title,
        caption="dots: percentiles that the sample supports, lines to their upper bounds"
        if dots
        else "too few for any percentile",
        description=" ".join(_in_words(curve, unit) for curve in curves),
        height=height,
        shapes=tuple(shapes),
    )


def trace(name: str, title: str, values: ArrayLike, rounds: Sequence[int], *, unit: str, what: str) -> Figure:
    """Draw the values in the order in which they came: a drift is seen, and so is what happens now and then.

    Many are drawn in columns, each from its smallest to its largest value; the line is the median of the neighbours.

    Args:
        name: of the figure, as ``title``.
        title: what is shown.
        values: at least one.
        rounds: how many values each part of the measurement gave; lines part them.
        unit: of the values.
        what: they are of, in the plural.
    """
    sample = np.asarray(values, np.float64)
    y = scale_for(sample.tolist(), PLOT_TOP + PLOT_HEIGHT, PLOT_TOP, may_be_log=True)
    x = Scale(0.5, len(sample) + 0.5, left_of(y), WIDTH - 6)
    ticks = [(float(int(value)), text) for value, text in x.ticks() if value >= 1 and value == int(value)]
    shapes = frame(x, y, f"{what}, in their order", f"{unit}{', log scale' if y.is_log else ''}", ticks)
    if 1 < len(rounds) <= _MOST_ROUNDS:
        for end in itertools.accumulate(rounds[:-1]):
            shapes.append(Line(((x(end + 0.5), y.start), (x(end + 0.5), y.end)), "grid", 1.0, dashed=True))
    columns = np.array_split(sample, min(_COLUMNS, len(sample)))
    if len(sample) <= _MOST_DOTS:
        places = [(x(order), y(value)) for order, value in enumerate(sample.tolist(), start=1)]
        shapes.append(Strokes(tuple((place, place) for place in places), "s5", 4.0))
        columns = np.array_split(sample, max(1, min(30, len(sample) // 8)))
    spans, middles, done = [], [], 0
    for column in columns:
        centre = x(done + (len(column) + 1) / 2)
        spans.append(((centre, y(float(column.min()))), (centre, y(float(column.max())))))
        middles.append((centre, y(float(np.median(column)))))
        done += len(column)
    if len(sample) > _MOST_DOTS:
        shapes.append(Strokes(tuple(spans), "s5", 1.8))
    if len(middles) > 1:
        shapes.append(Line(tuple(middles), "s0", 2.0))
    first, last = (float(np.median(part)) for part in (sample[: len(sample) // 2 or 1], sample[len(sample) // 2 :]))
    parts = f", {len(rounds)} rounds" if len(rounds) > 1 else ""
    return Figure(
        name=name,
        title=title,
        caption=f"{len(sample):,} {what}{parts}; the line is a running median",
        description=f"{len(sample):,} {what}{parts}; median of the first half {number(first)} {unit}, "
        f"of the second {number(last)} {unit}.",
        height=y.start + 42,
        shapes=tuple(shapes),
    )


def _spread(ordered: NDArray[np.float64]) -> NDArray[np.intp]:
    """Choose the indices of a sorted sample that lie a pixel or two apart on the axis; all of a small one."""
    count = len(ordered)
    if count <= _CURVE_POINTS:
        return np.arange(count)
    nines = np.linspace(0, -np.log10(0.5 / count), _CURVE_POINTS)
    return np.unique(np.clip(np.rint((1 - 10.0**-nines) * count - 0.5), 0, count - 1).astype(np.intp))


def _marked(marks: Sequence[Mark], x: Scale, top: float, bottom: float, unit: str) -> list[Shape]:
    """Draw a line for each percentile, its name above it where no other name stands."""
    shapes: list[Shape] = []
    ends: list[float] = []
    for mark in sorted(marks, key=lambda mark: mark.value):
        place, text = x(mark.value), f"{mark.name} {number(mark.value)}"
        half = text_width(text, 11.0) / 2
        middle = min(max(place, x.start + half), WIDTH - half)
        row = next((row for row, end in enumerate(ends) if middle - half > end + 6), len(ends))
        ends[row : row + 1] = [middle + half]
        level = top - 8 - 14 * row
        note = f"{mark.name}: {number(mark.value)} {unit}, at most {number(mark.at_most)} {unit}"
        shapes.append(Line(((place, bottom), (place, level + 3)), "s1", 1.6, note=note))
        shapes.append(Label(middle, level, text, "ink", 11.0, "middle"))
    return shapes


def _in_words(curve: Curve, unit: str) -> str:
    said = ", ".join(f"{mark.name} {number(mark.value)} (at most {number(mark.at_most)})" for mark in curve.marks)
    return f"{curve.label}: {len(curve.values):,} values, {f'{said} {unit}' if said else 'too few for a percentile'}."
