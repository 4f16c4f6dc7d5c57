"""Several views of one picture, whose scores are averaged: test-time augmentation.

The views, in this order, of which the first N are taken:

=== =====================================================================================
1   the centre, exactly as `edgecls_runtime.preprocess.load` cuts it
2   the centre, mirrored
3-6 the corners: upper left, upper right, lower left, lower right
7+  the same corners, mirrored
=== =====================================================================================

All ten are the views of Krizhevsky, Sutskever, Hinton: ImageNet Classification with Deep Convolutional Neural Networks,
2012, section 4.1. As there, corners are not those of the picture but of its central square: the picture is resized
with ``resize_size`` R (the shorter side, or height and width), the central R x R is kept, and windows of
``crop_size`` stand in its four corners; they differ from the centre by the margin (R - crop_size) / 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgecls_runtime.errors import DataError
from edgecls_runtime.preprocess import decode, normalize, resize_and_crop

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["MAX_VIEWS", "check_views", "load_views"]

MAX_VIEWS = 10


def check_views(preprocess: Preprocess, views: int) -> None:
    """Refuse more views than this preprocess leaves room for.

    Raises:
        ValueError: ``views`` is not between 1 and 10.
        DataError: corners are asked for, and the crop is as large as what it is cut from.
    """
    if not 1 <= views <= MAX_VIEWS:
        raise ValueError(f"{views} views: there are 1 to {MAX_VIEWS}")
    field, crop = _field(preprocess), preprocess.crop_size
    if views > 2 and (field[0] <= crop[0] or field[1] <= crop[1]):
        raise DataError(
            f"{views} views: the preprocess crops {crop[1]}x{crop[0]} out of {field[1]}x{field[0]}, "
            "so there is no margin for corners",
            "Take the centre and its mirror image: --tta 2",
        )


def load_views(source: ImageSource, preprocess: Preprocess, views: int) -> NDArray[Any]:
    """Turn a picture into several inputs of the model.

    Returns:
        float32 [views, 3, H, W], or as ``preprocess.input_layout`` says, in the order that the module states.

    Raises:
        ImageError: the picture cannot be read, or is refused.
        DataError: see `check_views`.
    """
    check_views(preprocess, views)
    image = decode(source, preprocess)
    centre = resize_and_crop(image, preprocess)
    pixels = [centre, centre[:, ::-1]]
    if views > 2:
        field = resize_and_crop(image, preprocess.replace(crop_size=_field(preprocess)))
        height, width = preprocess.crop_size
        corners = [
            field[rows, columns]
            for rows in (slice(height), slice(-height, None))
            for columns in (slice(width), slice(-width, None))
        ]
        pixels += [*corners, *(corner[:, ::-1] for corner in corners)]
    batch = preprocess.new_batch(views)
    for view, out in zip(pixels, batch, strict=False):  # the first of them
        normalize(view, preprocess, out=out)
    return batch


def _field(preprocess: Preprocess) -> tuple[int, int]:
    """Return what the corners are cut from, (height, width)."""
    size = preprocess.resize_size
    return (size, size) if isinstance(size, int) else size
