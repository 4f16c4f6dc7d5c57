"""The only decode, resize, crop and normalize of the whole project.

Training's evaluation, calibration, parity, ``verify`` and the device all come through here, so there is no
second implementation to drift away. The result equals torchvision's ``Resize``, ``CenterCrop``, ``ToTensor``,
``Normalize`` bit for bit; the tests hold it against them.

The policies, all of them carried by `Preprocess` and so by the manifest:

========== ==================== ===============================================================================
policy     value                meaning
========== ==================== ===============================================================================
exif       ``apply``            turn the picture upright by its EXIF orientation 2-8; 0, 1 and unknown values
                                change nothing. A phone's photo lies on its side without this.
           ``ignore``           take the pixels as Pillow loads them, as ``torchvision.datasets.ImageFolder`` does:
                                as they are stored, but for a TIFF file's, which it turns itself.
alpha      ``drop``             forget transparency and keep the colour beneath it, as Pillow's
                                ``convert("RGB")`` and so every torchvision data set does.
           ``white``, ``black`` lay the picture on that background.
high_depth ``high-byte``        16-bit gray keeps its high byte, which is what Pillow itself does to 16-bit
                                colour. (Its ``convert`` saturates instead: nearly every pixel turns white.)
color      ``RGB``, ``BGR``     the order of channels that the model wants.
frames     first                animated and multi-page files: the first frame counts.
refused    error                32-bit float pixels (mode F), LAB and HSV: no agreed range or conversion exists.
========== ==================== ===============================================================================

Colour profiles (ICC) and gamma chunks are not applied, as in torchvision. CMYK and YCbCr convert by Pillow's rules.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from PIL import Image, UnidentifiedImageError

from edgecls_runtime.errors import ImageError
from edgecls_runtime.resizing import crop_start, part_to_resize, resized_size

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["IMAGE_SUFFIXES", "ImageSource", "Preprocess", "decode", "load", "normalize", "resize_and_crop"]

ImageSource: TypeAlias = "str | os.PathLike[str] | bytes | bytearray | IO[bytes] | Image.Image | NDArray[np.uint8]"
"""What a picture may come as. Arrays are uint8: [H, W, 3], [H, W, 4] with alpha, or gray as [H, W] or [H, W, 1]."""

MAX_PIXELS = 89_478_485
"""Largest picture that is decoded unless the caller says otherwise.

The same number as Pillow's ``Image.MAX_IMAGE_PIXELS``, where Pillow only warns. Pillow takes 4 bytes a pixel, and holds
a picture with transparency twice, or more often, while it converts it: 340 and 680 MiB and more for the largest.
"""

MAX_SIDE = 8192
"""Largest side of a resize or a crop, in pixels: far over any classifier's, and its floats fit into memory."""

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "MPO", "AVIF", "JPEG2000")
"""Pillow's names of what is read. It knows more, but a stranger's file shall not start Ghostscript (EPS), or say one
size and hold another (ICO, ICNS)."""

IMAGE_SUFFIXES = frozenset(
    [
        *(".apng", ".avif", ".bmp", ".gif", ".jfif", ".jp2", ".jpe", ".jpeg", ".jpg", ".mpo"),
        *(".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff", ".webp"),
    ]
)
"""What a file's name ends in, in lower case, that counts as a picture where a folder is searched.

A folder holds other things too. A file that is named itself is tried whatever it is called.
"""

_FAST_FACTOR = 2.0
"""How many times larger than the resize's result what is decoded for it stays, at least."""

_EXIF_ORIENTATION = 0x0112
_ARRAY_MODES = {1: "L", 3: "RGB", 4: "RGBA"}  # by number of channels
# Pillow's names of what turns a picture upright, by EXIF orientation (CIPA DC-008, table 6).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True)
class Preprocess:
    """Say how a picture becomes the model's input; the defaults are torchvision's ImageNet preset.

    Attributes:
        resize_size: pixels; an int is the length that the shorter side gets, a pair (height, width) is the size
            that the picture is squashed to.
        crop_size: pixels, (height, width), from the centre; what lies outside the picture is black.
        interpolation: Pillow's filter of that name, with antialiasing (Pillow knows no other way).
        mean: of each channel in the order of ``color``, on the scale 0 to 1.
        std: likewise.
        color: order of the channels.
        input_layout: what the model takes: normalized float [3, H, W]; or the pixels of the crop, uint8 [H, W, 3],
            because its graph normalizes them itself (`edgecls export --embed-preprocess`).
        exif: see the table of this module, as for ``alpha`` and ``high_depth``.
    """

    resize_size: int | tuple[int, int] = 256
    crop_size: tuple[int, int] = (224, 224)
    interpolation: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    color: Literal["RGB", "BGR"] = "RGB"
    input_layout: Literal["NCHW-float", "NHWC-uint8"] = "NCHW-float"
    exif: Literal["apply", "ignore"] = "apply"
    alpha: Literal["drop", "white", "black"] = "drop"
    high_depth: Literal["high-byte"] = "high-byte"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):  # whatever numbers were given: the manifest's digest is of floats
            object.__setattr__(self, name, tuple(map(float, getattr(self, name))))
        sides = (self.resize_size,) if isinstance(self.resize_size, int) else self.resize_size
        if not all(1 <= side <= MAX_SIDE for side in (*sides, *self.crop_size)):
            raise ValueError(
                f"resize_size {self.resize_size} and crop_size {self.crop_size} must be of 1 to {MAX_SIDE} pixels"
            )
        if not all(0 < value < float("inf") for value in self.std):
            raise ValueError(f"std {self.std} must be positive and finite")
        if not all(abs(value) < float("inf") for value in self.mean):
            raise ValueError(f"mean {self.mean} must be finite")

    def __str__(self) -> str:
        resize = (
            f"shorter side to {self.resize_size}"
            if isinstance(self.resize_size, int)
            else f"squash to {self.resize_size[1]}x{self.resize_size[0]}"
        )
        in_graph = " (both in the graph)" if self.input_layout == "NHWC-uint8" else ""
        return (
            f"resize {resize} ({self.interpolation}), crop {self.crop_size[1]}x{self.crop_size[0]}, "
            f"mean {_numbers(self.mean)}, std {_numbers(self.std)}{in_graph}, {self.color}, "
            f"exif {self.exif}, alpha {self.alpha}, 16-bit {self.high_depth}"
        )

    def replace(self, **changes: Any) -> Preprocess:
        """Return a copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def new_batch(self, count: int) -> NDArray[Any]:
        """Return memory for the inputs of ``count`` pictures, in this ``input_layout``."""
        if self.input_layout == "NHWC-uint8":
            return np.empty((count, *self.crop_size, 3), np.uint8)
        return np.empty((count, 3, *self.crop_size), np.float32)


def load(
    source: ImageSource,
    preprocess: Preprocess,
    *,
    out: NDArray[Any] | None = None,
    max_pixels: int = MAX_PIXELS,
    color: Literal["RGB", "BGR"] = "RGB",
    fast: bool = False,
) -> NDArray[Any]:
    """Turn a picture into the model's input.

    Args:
        source: the picture.
        preprocess: what to do to it.
        out: a row of `Preprocess.new_batch` to write into; a new array otherwise.
        max_pixels: a larger picture, before or after the resize, is refused.
        color: order of the channels of an array; ``preprocess.color`` is the one that the model wants.
        fast: see `Classifier.load`; the numbers are then no longer torchvision's.

    Returns:
        float32 [3, H, W], or as ``preprocess.input_layout`` says.

    Raises:
        ImageError: the picture cannot be read, or is refused.
    """
    image = decode(source, preprocess, max_pixels=max_pixels, color=color, fast=fast)
    pixels = resize_and_crop(image, preprocess, max_pixels=max_pixels, fast=fast)
    return normalize(pixels, preprocess, out=out)


def decode(
    source: ImageSource,
    preprocess: Preprocess,
    *,
    max_pixels: int = MAX_PIXELS,
    color: Literal["RGB", "BGR"] = "RGB",
    fast: bool = False,
) -> Image.Image:
    """Read a picture and apply the policies for orientation, transparency and depth; ``color`` is that of an array.

    With ``fast`` a large JPEG file is decoded at an 8th, 4th or half of its size, and comes resized.

    Returns:
        A Pillow image of mode RGB.

    Raises:
        ImageError: the picture cannot be read, or is refused.
    """
    if color not in ("RGB", "BGR"):
        raise ValueError(f'color is {color!r}, must be "RGB" or "BGR"')
    where = describe_source(source)
    stream: Any = source
    try:
        if hasattr(stream, "seekable") and not stream.seekable():
            source = stream.read()  # standard input, a socket
        opened = _open(source, where, color)
        # The caller's own image stays open; leaving an image's `with` closes its file and keeps its pixels.
        with contextlib.nullcontext(opened) if opened is source else opened as image:
            if opened is not source and image.format not in (None, *_FORMATS):  # nothing but its header is read yet
                raise UnidentifiedImageError
            _check_size(where, image.size, max_pixels)
            shrunk = _shrunk(image, preprocess) if fast and opened is not source else image
            shrunk.load()
            upright = _upright(shrunk) if preprocess.exif == "apply" else shrunk
            return _to_rgb(upright, preprocess, where)
    except ImageError:
        raise
    except Exception as error:
        raise _unreadable(source, where, error) from error


def resize_and_crop(
    image: Image.Image, preprocess: Preprocess, *, max_pixels: int = MAX_PIXELS, fast: bool = False
) -> NDArray[np.uint8]:
    """Resize an RGB image and cut out the centre, as torchvision's ``Resize`` and ``CenterCrop`` do.

    With ``fast`` a large image is halved first, by averages, as often as leaves enough.

    Returns:
        uint8 [H, W, 3], RGB; in memory channel by channel, unless the model takes it as it is.

    Raises:
        ImageError: the resized picture would exceed ``max_pixels`` (a 1x100000 strip, say).
    """
    image = _resize_and_crop(image, preprocess, max_pixels, fast=fast)
    if preprocess.input_layout == "NHWC-uint8":
        return np.asarray(image)
    # Channel by channel, as `normalize` wants them, Pillow copies its pixels quicker than numpy could pick them apart.
    planes = b"".join([image.tobytes("raw", band) for band in "RGB"])
    return np.frombuffer(planes, np.uint8).reshape(3, image.height, image.width).transpose(1, 2, 0)


def normalize(pixels: NDArray[np.uint8], preprocess: Preprocess, *, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """Scale uint8 [H, W, 3] RGB pixels to ``(pixel / 255 - mean) / std`` in float32 [3, H, W].

    Bit-identical to ``ToTensor`` + ``Normalize``: the same three float32 operations in the same order. (Multiplying by
    the reciprocals would be quicker, and round otherwise; a table of the 256 values is slower.)

    Where ``preprocess.input_layout`` leaves that to the graph, the pixels stay uint8 [H, W, 3], in the order of
    ``preprocess.color``.
    """
    if preprocess.input_layout == "NHWC-uint8":
        ordered = pixels if preprocess.color == "RGB" else pixels[:, :, ::-1]
        if out is None:
            return np.ascontiguousarray(ordered)
        out[:] = ordered
        return out
    if out is None:
        out = np.empty((3, *pixels.shape[:2]), np.float32)
    for channel in range(3):
        plane = out[channel]
        plane[...] = pixels[:, :, channel if preprocess.color == "RGB" else 2 - channel]
        plane /= np.float32(255)
        plane -= np.float32(preprocess.mean[channel])
        plane /= np.float32(preprocess.std[channel])
    return out


def describe_source(source: ImageSource) -> str:
    """Name a picture in an error, on one line: its path if it has one."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return path if path.isprintable() else repr(path)
    if isinstance(source, (bytes, bytearray)):
        return f"<{len(source)} bytes>"
    if isinstance(source, np.ndarray):
        return f"<{source.dtype} array {list(source.shape)}>"
    if isinstance(source, Image.Image):
        return str(getattr(source, "filename", "") or f"<{source.mode} image {source.width}x{source.height}>")
    return str(getattr(source, "name", "<stream>" if hasattr(source, "read") else f"<{type(source).__name__}>"))


def _open(source: ImageSource, where: str, color: str) -> Image.Image:
    if isinstance(source, Image.Image):
        return source
    if isinstance(source, np.ndarray):
        return _from_array(source, where, color)
    if isinstance(source, (bytes, bytearray)):
        return Image.open(io.BytesIO(source))
    if not isinstance(source, (str, os.PathLike)) and not hasattr(source, "read"):
        raise ImageError(
            f"{where}: not a picture",
            "Give a path, bytes, a binary stream, a Pillow image or a uint8 array. (OpenCV's imread returns None for a "
            "file that it cannot read.)",
        )
    return Image.open(source)


def _from_array(array: NDArray[np.uint8], where: str, color: str) -> Image.Image:
    gray_or_color = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in _ARRAY_MODES)
    if array.dtype != np.uint8 or not gray_or_color or array.size == 0:
        raise ImageError(
            f"{where}: not a picture",
            "Give uint8 pixels of shape [H, W, 3], [H, W, 4] (with alpha) or [H, W] (gray).",
        )
    mode = _ARRAY_MODES[array.shape[2] if array.ndim == 3 else 1]
    raw = mode.replace("RGB", color)  # Pillow's decoder puts the channels in order while it copies
    size = (array.shape[1], array.shape[0])
    return Image.frombuffer(mode, size, np.ascontiguousarray(array), "raw", raw, 0, 1)


def _check_size(where: str, size: tuple[int, int], max_pixels: int) -> None:
    if size[0] < 1 or size[1] < 1:
        raise ImageError(f"{where}: has no pixels ({size[0]}x{size[1]})", "Give a picture of at least 1x1 pixel.")
    if size[0] * size[1] > max_pixels:
        raise ImageError(
            f"{where}: {size[0]}x{size[1]} is {size[0] * size[1]:,} pixels, over the limit of {max_pixels:,}",
            "Scale it down first, or raise the limit (--max-pixels, max_pixels=) if you trust its source.",
        )


def _unreadable(source: ImageSource, where: str, error: Exception) -> ImageError:
    """Translate what Pillow and the file system raise; Pillow's plugins raise a zoo, hence the width."""
    if isinstance(error, FileNotFoundError):
        return ImageError(f"{where}: no such file", "Check the path.")
    if isinstance(error, IsADirectoryError):
        return ImageError(f"{where}: is a folder, not a picture", "Give the pictures in it.")
    if isinstance(error, PermissionError):
        return ImageError(f"{where}: may not be read (permission denied)", "Change its permissions.")
    if isinstance(error, Image.DecompressionBombError):
        return ImageError(
            f"{where}: {error}",
            "Scale it down first, or raise the limit (--max-pixels; in Python PIL.Image.MAX_IMAGE_PIXELS too).",
        )
    if isinstance(error, UnidentifiedImageError):
        start = _first_bytes(source)
        begins = f" (starts with {start!r})" if start else ""
        found = "is empty (0 bytes)" if start == b"" else f"is not a picture of a kind that is read{begins}"
        return ImageError(f"{where}: {found}", f"Give one of: {', '.join(_FORMATS)}.")
    reason = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, MemoryError) or getattr(error, "strerror", None):  # which what Pillow raises has not
        cause = f"{where}: cannot be read: {getattr(error, 'strerror', 'there is not enough memory')}"
        return ImageError(cause, "The file may be good: look at this machine.")
    return ImageError(f"{where}: cannot be decoded: {reason}", "The file is damaged or cut short: get it anew.")


def _first_bytes(source: Any) -> bytes | None:
    """Return how a source begins that was read in vain; None if it cannot be looked at twice, as a pipe."""
    if isinstance(source, (bytes, bytearray)):
        return bytes(source[:12])
    with contextlib.suppress(OSError, ValueError):
        if hasattr(source, "seek"):
            source.seek(0)
            return bytes(source.read(12))
        if os.path.isfile(source):
            with open(source, "rb") as file:
                return file.read(12)
    return None


def _shrunk(image: Image.Image, preprocess: Preprocess) -> Image.Image:
    """Decode a JPEG file at a part of its size, where that leaves enough, and resize it; all else is as it was."""
    size, side = image.size, preprocess.resize_size
    least = int(_FAST_FACTOR * side) if isinstance(side, int) else max(size)  # who squashes gains nothing
    draft = image.draft(None, (least, least))
    if draft is None or draft[1][2:] == size:
        return image
    # Here it is known how much of the last row and column the file fills, and what the whole's sides were.
    return image.resize(resized_size(size, preprocess.resize_size), _resampling(preprocess), draft[1])


def _upright(image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION)
    except Exception:  # noqa: BLE001 - damaged metadata raises anything; the pixels are whole, so it says nothing
        return image
    # A damaged tag can hold any type, an unhashable one included.
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    return image if method is None else image.transpose(method)


def _to_rgb(image: Image.Image, preprocess: Preprocess, where: str) -> Image.Image:
    keyed = "transparency" in image.info  # a colour key or a palette's alpha (PNG tRNS, GIF)
    if image.mode == "RGB" and (preprocess.alpha == "drop" or not keyed):
        return image
    if image.mode.startswith("I"):
        image = _high_byte(image, where)
    if image.mode in ("F", "LAB", "HSV"):
        raise ImageError(
            f"{where}: pixels of mode {image.mode} have no agreed conversion to RGB",
            "Convert the picture to 8-bit RGB first, with a range or profile that you choose.",
        )
    if image.mode in ("La", "RGBa"):
        image = image.convert(image.mode.upper())
    if not keyed and image.mode not in ("LA", "PA", "RGBA"):
        return image.convert("RGB")
    image = image if image.mode == "RGBA" else image.convert("RGBA")  # which would copy it
    if preprocess.alpha == "drop":
        return image.convert("RGB")
    background = Image.new("RGBA", image.size, preprocess.alpha)
    return Image.alpha_composite(background, image).convert("RGB")


def _high_byte(image: Image.Image, where: str) -> Image.Image:
    """Turn 16-bit gray (Pillow's modes I;16*, and I where a 16-bit file is opened as 32-bit) into 8-bit gray."""
    values = np.asarray(image)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > 0xFFFF:
        raise ImageError(
            f"{where}: 32-bit pixels from {low} to {high} have no agreed range",
            "Convert the picture to 8-bit or 16-bit gray first, with a range that you choose.",
        )
    return Image.fromarray((values >> 8).astype(np.uint8))


def _resize_and_crop(image: Image.Image, preprocess: Preprocess, max_pixels: int, *, fast: bool) -> Image.Image:
    full_width, full_height = image.size
    width, height = resized_size(image.size, preprocess.resize_size)
    crop_height, crop_width = preprocess.crop_size
    left, top = crop_start(width, crop_width), crop_start(height, crop_height)
    if (width, height) != image.size:
        _check_size(f"{full_width}x{full_height} picture, resized", (width, height), max_pixels)
        crop = (left, top, left + crop_width, top + crop_height)
        x0, y0, x1, y1 = part_to_resize(image.size, (width, height), crop, preprocess.interpolation)
        box = (x0 * full_width / width, y0 * full_height / height, x1 * full_width / width, y1 * full_height / height)
        gap = _FAST_FACTOR if fast else None
        image = image.resize((x1 - x0, y1 - y0), _resampling(preprocess), box, gap)
        left, top = left - x0, top - y0
    if image.size != (crop_width, crop_height):
        image = image.crop((left, top, left + crop_width, top + crop_height))
    return image


def _resampling(preprocess: Preprocess) -> Image.Resampling:
    return Image.Resampling[preprocess.interpolation.upper()]


def _numbers(values: tuple[float, ...]) -> str:
    return "/".join(f"{value:g}" for value in values)
