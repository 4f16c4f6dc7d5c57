"""From values to places: scales with round ticks, linear, logarithmic, or by the nines of a percentile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecls.drawing.figure import WIDTH, Box, Label, Line, Shape, cut, text_width

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = [
    "PLOT_HEIGHT",
    "PLOT_TOP",
    "Nines",
    "Scale",
    "frame",
    "left_of",
    "legend",
    "number",
    "scale_for",
    "ticks_below",
]

PLOT_TOP, PLOT_HEIGHT = 26.0, 186.0
"""Where a plot begins below the upright axis's name, and how high it is."""

_LONG_TAIL = 4.0
"""Where the largest value is so many times the median, a linear axis would squeeze most of it into a corner."""

_SIZE = 12.0


@dataclass(frozen=True)
class Scale:
    """An axis.

    Attributes:
        low: the value at ``start``.
        high: the value at ``end``.
        start: place of the lowest value.
        end: place of the highest.
        is_log: whether equal ways are equal ratios.
    """

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        """Return the place of a value; of one outside, that of the end it lies beyond."""
        value = min(max(value, self.low), self.high)
        if self.is_log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def edges(self, count: int) -> list[float]:
        """Return ``count + 1`` values that part the axis into equal ways."""
        shares = [index / count for index in range(count + 1)]
        if self.is_log:
            return [self.low * (self.high / self.low) ** share for share in shares]
        return [self.low + (self.high - self.low) * share for share in shares]

    def ticks(self, wanted: int = 5) -> list[tuple[float, str]]:
        """Return round values with their texts, about as many as wanted."""
        if self.is_log:
            for digits in ((1.0,), (1.0, 3.0), (1.0, 2.0, 5.0)):
                tens = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
                values = [digit * 10.0**ten for ten in tens for digit in digits]
                values = [value for value in values if self.low <= value <= self.high]
                if len(values) >= min(3, wanted):
                    return [(value, f"{value:,.12g}") for value in values[:: 1 + len(values) // 10]]
        step = _round_step((self.high - self.low) / wanted)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        decimals = max(0, -math.floor(math.log10(step) + 1e-9))
        return [(index * step, f"{index * step:,.{decimals}f}") for index in range(first, last + 1)]


@dataclass(frozen=True)
class Nines:
    """An axis of shares on which 0 to 90 %, 90 to 99 %, 99 to 99.9 % are equally long, as HdrHistogram plots them.

    Attributes:
        most: the largest share shown, below 1.
        start: place of 0.
        end: place of ``most``.
    """

    most: float
    start: float
    end: float

    def __call__(self, share: float) -> float:
        """Return the place of a share."""
        far = math.log10(1 - min(max(share, 0.0), self.most)) / math.log10(1 - self.most)
        return self.start + far * (self.end - self.start)

    def ticks(self) -> list[tuple[float, str]]:
        """Return 0, 50, 90, 99, ... % as far as they are shown."""
        nines = [1 - 10.0**-count for count in range(1, 9)]
        return [(share, f"{100 * share:.7g} %") for share in (0.0, 0.5, *nines) if share <= self.most]


def scale_for(
    values: Iterable[float],
    start: float,
    end: float,
    *,
    from_zero: bool = False,
    may_be_log: bool = False,
    room: float = 0.05,
) -> Scale:
    """Return a scale that holds the values, with some room beyond.

    Args:
        values: at least one.
        start: place of the lowest value.
        end: place of the highest.
        from_zero: let it begin at 0, as bars must.
        may_be_log: logarithmic if the values have a long tail.
        room: share of their range to leave free on both sides.
    """
    ordered = sorted(values)
    low, high, median = ordered[0], ordered[-1], ordered[len(ordered) // 2]
    if may_be_log and low > 0 and high > _LONG_TAIL * median:
        factor = (high / low) ** room
        return Scale(low / factor, high * factor, start, end, is_log=True)
    if from_zero:
        return Scale(0.0, 1.04 * high or 1.0, start, end)
    free = room * (high - low) or 0.1 * abs(high) or 1.0
    return Scale(max(0.0, low - free) if low >= 0 else low - free, high + free, start, end)


def number(value: float, digits: int = 3) -> str:
    """Write a value with so many digits that count, or more before the point, without an exponent."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = digits - 1 - math.floor(math.log10(abs(float(f"{value:.{digits}g}"))))
    return f"{value:,.{max(0, decimals)}f}"


def frame(
    x: Scale, y: Scale | Nines, x_label: str, y_label: str, x_ticks: Sequence[tuple[float, str]] | None = None
) -> list[Shape]:
    """Draw grid, ticks and the axes' names: that of the upright one above it, so that nobody turns their head.

    Args:
        x: the lower axis.
        y: the upright one; its ``start`` is below.
        x_label: what is shown along it.
        y_label: likewise.
        x_ticks: other ones than the scale's own.
    """
    shapes: list[Shape] = []
    for value, text in y.ticks():
        place = y(value)
        shapes.append(Line(((x.start, place), (x.end, place)), "grid", 1.0))
        shapes.append(Label(x.start - 6, place + 4, text, "muted", _SIZE, "end"))
    shapes.append(Line(((x.start, y.start), (x.end, y.start)), "muted", 1.0))
    shapes += ticks_below(x, y.start, x.ticks() if x_ticks is None else x_ticks)
    shapes.append(Label(x.end, y.start + 35, x_label, "muted", _SIZE, "end"))
    shapes.append(Label(4, 14, y_label, "muted", _SIZE))
    return shapes


def left_of(y: Scale | Nines) -> float:
    """Return where a plot begins: right of the upright axis's texts."""
    return 12 + max((text_width(text, _SIZE) for _, text in y.ticks()), default=0.0)


def ticks_below(x: Scale, level: float, ticks: Sequence[tuple[float, str]]) -> list[Shape]:
    """Draw ticks with their texts below an axis, without those that would cover their left neighbour."""
    shapes: list[Shape] = []
    free = -math.inf
    for value, text in ticks:
        place, half = x(value), text_width(text, _SIZE) / 2
        shapes.append(Line(((place, level), (place, level + 4)), "muted", 1.0))
        if place - half > free:
            shapes.append(Label(max(half, min(place, WIDTH - half)), level + 18, text, "muted", _SIZE, "middle"))
            free = place + half + 4
    return shapes


def legend(entries: Sequence[tuple[str, str]], top: float) -> tuple[list[Shape], float]:
    """Draw what each colour means, in as many lines as that takes.

    Args:
        entries: colour and text of each.
        top: where it begins.

    Returns:
        The shapes, and where they end.
    """
    shapes: list[Shape] = []
    x, y, height = 4.0, top, 19.0
    for colour, text in entries:
        shown = cut(text, WIDTH - 26, _SIZE)
        width = 18 + text_width(shown, _SIZE) + 14
        if x > 4 and x + width - 14 > WIDTH:
            x, y = 4.0, y + height
        shapes += [Box(x, y + 3, 11, 11, colour), Label(x + 17, y + 13, shown, "ink", _SIZE)]
        x += width
    return shapes, y + height


def _round_step(least: float) -> float:
    """Return the smallest of 1, 2, 5, 10, ... that is not much smaller."""
    ten = 10.0 ** math.floor(math.log10(least))
    return next((digit * ten for digit in (1, 2, 5) if digit * ten >= 0.9 * least), 10 * ten)
