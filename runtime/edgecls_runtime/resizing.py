"""Where the crop of a resized picture lies, and how little of the picture must be resized for it.

The crop throws away what was resized around it: a quarter of a square photo, half of one of 3 : 2. Pillow can make a
part alone (``resize(box=...)``), and here stands which parts come out as they do within the whole, bit for bit.
"""

from __future__ import annotations

import functools
import itertools
import math

__all__ = ["crop_start", "part_to_resize", "resized_size"]


def resized_size(size: tuple[int, int], resize_size: int | tuple[int, int]) -> tuple[int, int]:
    """Return (width, height) after the resize; torchvision truncates the longer side, so this does too."""
    if not isinstance(resize_size, int):
        return resize_size[1], resize_size[0]
    width, height = size
    if width <= height:
        return resize_size, int(resize_size * height / width)
    return int(resize_size * width / height), resize_size


def crop_start(length: int, crop: int) -> int:
    """Return where the centre crop starts, in torchvision's rounding; negative where it must be padded."""
    return -((crop - length) // 2) if crop > length else round((length - crop) / 2.0)


@functools.lru_cache(maxsize=256)  # photos and cameras have few sizes
def part_to_resize(
    size: tuple[int, int], resized: tuple[int, int], crop: tuple[int, int, int, int], interpolation: str
) -> tuple[int, int, int, int]:
    """Return the least part of a resized picture that holds a crop and, made alone, equals that part of the whole.

    Pillow makes a picture in two passes, and from version 13 on the sizes decide which comes first. Each pass rounds to
    8 bits, so a part that would turn them round is not taken.

    Args:
        size: (width, height) of the picture.
        resized: likewise, after the resize.
        crop: (left, top, right, bottom) in the resized picture, as is the part.
        interpolation: as in `edgecls_runtime.preprocess.Preprocess`.
    """
    columns = _span(size[0], resized[0], crop[0], crop[2], interpolation), (0, resized[0])
    rows = _span(size[1], resized[1], crop[1], crop[3], interpolation), (0, resized[1])
    return next(
        (left, top, right, bottom)
        for (left, right), (top, bottom) in itertools.product(columns, rows)
        if _vertical_first(size, (right - left, bottom - top)) == _vertical_first(size, resized)
    )


def _span(length: int, resized: int, start: int, end: int, interpolation: str) -> tuple[int, int]:
    """Return the least span of a resized axis that holds [start, end) and can be made alone.

    Pillow takes the place in the original as float32. Where that is rounded, so are all weights of the filter, and some
    pixels turn out 1/255 off; so a span begins and ends where ``length / resized`` times its place needs no rounding,
    which is at multiples of the odd factor of that fraction's denominator. If this is 1, as always when the shorter
    side becomes 256, then every later step is exact, too (``precompute_coeffs`` in Pillow's Resample.c). If not, the
    weights differ by some roundings of a double before they are rounded to 22 bits. Those of ``bilinear`` are fractions
    with denominators so small that none lies as near to the middle between two results of that.
    """
    numerator, denominator = (side // math.gcd(length, resized) for side in (length, resized))
    power = denominator & -denominator  # the largest power of two in it
    step = denominator // power
    exact = step == 1 and interpolation != "nearest"  # which has no weights, and is quick
    near = interpolation == "bilinear" and length * max(numerator, denominator) < 2**24
    if length * power >= 2**24 or not (exact or near):
        return 0, resized
    return max(0, start - start % step), min(resized, end + -end % step)


def _vertical_first(size: tuple[int, int], resized: tuple[int, int]) -> bool:
    """Return whether Pillow 13 shortens columns before rows (``ImagingResampleInner``); older versions never do."""
    return size[1] - resized[1] > max(0, 2 * (size[0] - resized[0]))
