"""A figure as an SVG element for a page, whose style sheet gives the roles their colours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgecls.drawing.figure import DARK, LIGHT, WIDTH, Box, Dot, Label, Line, Polygon, Strokes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgecls.drawing.figure import Figure, Point, Shape

__all__ = ["STYLE", "escape", "to_svg"]

_ESCAPES = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})


def _variables(theme: dict[str, str]) -> str:
    return "".join(f"--{role}:{value};" for role, value in theme.items())


STYLE = f"""\
:root {{ color-scheme: light dark; {_variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}
@media print {{ :root {{ color-scheme: light; {_variables(LIGHT)} }} }}
svg.chart {{ display: block; width: 100%; height: auto; font-family: inherit; }}
svg.chart * {{ fill: currentColor; }}
svg.chart .l {{ fill: none; stroke: currentColor; stroke-linejoin: round; stroke-linecap: round; }}
svg.chart circle {{ stroke: var(--paper); stroke-width: 1.2; }}
{" ".join(f".{role} {{ color: var(--{role}); }}" for role in LIGHT)}
"""
"""What a page must hold once for all its figures."""


def escape(text: str) -> str:
    """Return a text as XML and HTML may hold it; what cannot be seen, XML forbids or UTF-8 lacks becomes U+FFFD.

    Characters that turn the direction of writing are among them: a file's name must not rearrange the page.
    """
    seen = "".join(letter if letter.isprintable() else " " if letter.isspace() else "\ufffd" for letter in text)
    return seen.translate(_ESCAPES)


def to_svg(figure: Figure) -> str:
    """Return the figure as an SVG element, as wide as its place, with title and description for screen readers."""
    name = escape(figure.name)
    shapes = "".join(map(_element, figure.shapes))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="chart" role="img" '
        f'viewBox="0 0 {_short(WIDTH)} {_short(figure.height)}" aria-labelledby="{name}-title {name}-desc">'
        f'<title id="{name}-title">{escape(figure.title)}</title>'
        f'<desc id="{name}-desc">{escape(figure.description)}</desc>{shapes}</svg>'
    )


def _element(shape: Shape) -> str:
    match shape:
        case Box():
            width, height = _short(shape.width), _short(shape.height)
            place = f'x="{_short(shape.x)}" y="{_short(shape.y)}" width="{width}" height="{height}"'
            return _with_note("rect", f'class="{shape.colour}" {place}', shape.note)
        case Line():
            dashes = ' stroke-dasharray="4 4"' if shape.dashed else ""
            path = f'class="l {shape.colour}" stroke-width="{_short(shape.width)}"{dashes} d="M{_path(shape.points)}"'
            return _with_note("path", path, shape.note)
        case Strokes():
            places = "".join(f"M{_path(pair)}" for pair in shape.pairs)
            return f'<path class="l {shape.colour}" stroke-width="{_short(shape.width)}" d="{places}"/>'
        case Polygon():
            return _with_note("path", f'class="{shape.colour}" d="M{_path(shape.points)}Z"', shape.note)
        case Dot():
            place = f'cx="{_short(shape.x)}" cy="{_short(shape.y)}" r="{_short(shape.radius)}"'
            return _with_note("circle", f'class="{shape.colour}" {place}', shape.note)
        case Label():
            anchor = "" if shape.anchor == "start" else f' text-anchor="{shape.anchor}"'
            place = f'x="{_short(shape.x)}" y="{_short(shape.y)}" font-size="{_short(shape.size)}"{anchor}'
            return f'<text class="{shape.colour}" {place}>{escape(shape.text)}</text>'


def _with_note(tag: str, attributes: str, note: str) -> str:
    return f"<{tag} {attributes}><title>{escape(note)}</title></{tag}>" if note else f"<{tag} {attributes}/>"


def _path(points: Iterable[Point]) -> str:
    return "L".join(f"{_short(x)} {_short(y)}" for x, y in points)


def _short(value: float) -> str:
    """Write a place to a tenth of a unit, which no screen shows, in as few letters as may be."""
    return f"{value:.1f}".removesuffix(".0")
