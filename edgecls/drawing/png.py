"""A figure as a PNG file, drawn by Pillow: a device that has no plotting package can make one."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from edgecls.drawing.figure import LIGHT, WIDTH, Box, Dot, Label, Line, Polygon, Strokes, text_width
from edgecls_runtime.output import whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from edgecls.drawing.figure import Figure, Point, Shape

__all__ = ["write_png"]

_PIXELS = 2
"""A unit of the figure in the file."""

_FINER = 3
"""Lines are drawn so much larger and then reduced, which smooths them; text is smooth by itself."""

_MARGIN = 14.0
_COLOURS = 64
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def write_png(figure: Figure, path: str | os.PathLike[str], *, force: bool = False) -> None:
    """Write the figure on white, its title and caption above it, 816 pixels wide, its description in the metadata.

    The font is the one that Pillow brings, so that the same figure is the same file on every machine with the same
    Pillow; letters that it lacks become boxes.

    Raises:
        OutputError: the file exists (without ``force``), or cannot be written.
    """
    header = [(line, 15.0, "ink") for line in _wrapped(figure.title, 15.0)]
    header += [(line, 12.0, "muted") for line in _wrapped(figure.caption, 12.0)]
    top = _MARGIN
    labels: list[Shape] = []
    for text, size, colour in header:
        top += size + 5
        labels.append(Label(0, top - 5 - _MARGIN, text, colour, size))
    top += 4 - _MARGIN

    width, height = (_PIXELS * round(way + 2 * _MARGIN) for way in (WIDTH, figure.height + top))
    image = Image.new("RGB", (width * _FINER, height * _FINER), LIGHT["paper"])
    pen = ImageDraw.Draw(image)
    for shape in figure.shapes:
        _draw(pen, shape, _MARGIN + top)
    image = image.reduce(_FINER)
    pen = ImageDraw.Draw(image)
    for moved, shapes in ((_MARGIN, labels), (_MARGIN + top, figure.shapes)):
        for shape in shapes:
            if isinstance(shape, Label):
                place = (_PIXELS * (shape.x + _MARGIN), _PIXELS * (shape.y + moved))
                font = ImageFont.load_default(_PIXELS * shape.size)
                pen.text(place, shape.text, LIGHT[shape.colour], font, _ANCHORS[shape.anchor])
    with whole_file(path, force=force) as temporary:
        # Few colours make a small file, and a chart has few.
        small = image.quantize(_COLOURS, dither=Image.Dither.NONE)
        small.save(temporary, "PNG", optimize=True, pnginfo=_said(figure))


def _draw(pen: ImageDraw.ImageDraw, shape: Shape, top: float) -> None:
    scale = _PIXELS * _FINER

    def place(x: float, y: float) -> Point:
        return scale * (x + _MARGIN), scale * (y + top)

    match shape:
        case Box():
            corner, other = place(shape.x, shape.y), place(shape.x + shape.width, shape.y + shape.height)
            pen.rectangle((*corner, max(corner[0], other[0] - 1), max(corner[1], other[1] - 1)), LIGHT[shape.colour])
        case Line():
            width = max(1, round(scale * shape.width))
            for part in _dashes(shape.points) if shape.dashed else [shape.points]:
                pen.line([place(*point) for point in part], LIGHT[shape.colour], width, "curve")
        case Strokes():
            radius = scale * shape.width / 2
            for pair in shape.pairs:
                pen.line([place(*point) for point in pair], LIGHT[shape.colour], max(1, round(2 * radius)))
                for x, y in (place(*point) for point in pair):
                    pen.ellipse((x - radius, y - radius, x + radius, y + radius), LIGHT[shape.colour])
        case Polygon():
            pen.polygon([place(*point) for point in shape.points], LIGHT[shape.colour])
        case Dot():
            for radius, colour in ((shape.radius + 0.6, "paper"), (shape.radius - 0.6, shape.colour)):
                x, y = place(shape.x, shape.y)
                pen.ellipse(
                    (x - scale * radius, y - scale * radius, x + scale * radius, y + scale * radius), LIGHT[colour]
                )
        case Label():
            pass  # later, on the reduced image


def _said(figure: Figure) -> PngImagePlugin.PngInfo:
    """Return title and description as the file's metadata, by PNG's own keywords."""
    info = PngImagePlugin.PngInfo()
    for keyword, text in (("Title", figure.title), ("Description", figure.description)):
        info.add_itxt(keyword, text.encode("utf-8", "replace").decode("utf-8"))
    return info


def _dashes(points: tuple[Point, ...]) -> Iterator[tuple[Point, Point]]:
    """Part a line into strokes of four units with gaps of four."""
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = ((x1 - x0) ** 2 + (y1 - y0) ** 2) ** 0.5 or 1.0
        for start in range(0, max(1, round(length)), 8):
            first, last = start / length, min(1.0, (start + 4) / length)
            yield (x0 + first * (x1 - x0), y0 + first * (y1 - y0)), (x0 + last * (x1 - x0), y0 + last * (y1 - y0))


def _wrapped(text: str, size: float) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(longer, size) > WIDTH:
            lines.append(word)
        else:
            lines[-1] = longer
    return [line for line in lines if line]
