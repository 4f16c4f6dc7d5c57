"""Policies and bad input; tests/end_to_end/test_preprocess_parity.py holds the numbers against torchvision."""

from __future__ import annotations

import io
import math
import os
import threading
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from edgecls_runtime import preprocess
from edgecls_runtime.errors import ImageError
from edgecls_runtime.golden import draw_picture
from edgecls_runtime.preprocess import Preprocess, load
from edgecls_runtime.resizing import crop_start, resized_size

SPEC = Preprocess(resize_size=8, crop_size=(8, 8))


def encoded(image: Image.Image, file_format: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def photo(width: int = 40, height: int = 30) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], axis=2)
    return Image.fromarray(pixels.astype(np.uint8))


def pixels(source: preprocess.ImageSource, spec: Preprocess = SPEC) -> np.ndarray:
    return np.asarray(preprocess.decode(source, spec))


def test_every_kind_of_source_gives_the_same_input(tmp_path: Path) -> None:
    image = photo()
    (tmp_path / "a.png").write_bytes(encoded(image))
    expected = preprocess.load(image, SPEC)
    assert expected.shape == (3, 8, 8)
    assert expected.dtype == np.float32
    sources: list[preprocess.ImageSource] = [
        tmp_path / "a.png",
        str(tmp_path / "a.png"),
        encoded(image),
        io.BytesIO(encoded(image)),
        np.asarray(image),
    ]
    for source in sources:
        np.testing.assert_array_equal(preprocess.load(source, SPEC), expected)


def test_files_are_closed_and_the_callers_image_is_not(tmp_path: Path) -> None:
    path = tmp_path / "two.gif"
    photo().save(path, save_all=True, append_images=[photo(41)])
    with warnings.catch_warnings():
        warnings.simplefilter("error", ResourceWarning)
        preprocess.load(path, SPEC)
    with Image.open(path) as image:
        preprocess.load(image, SPEC)
        image.seek(1)  # still open


def test_the_result_is_written_into_the_given_array() -> None:
    out = np.zeros((3, 8, 8), np.float32)
    assert preprocess.load(photo(), SPEC, out=out) is out
    np.testing.assert_array_equal(out, preprocess.load(photo(), SPEC))


def test_bgr_is_rgb_with_the_channels_turned() -> None:
    same = {"mean": (0.1, 0.1, 0.1), "std": (0.2, 0.2, 0.2)}
    rgb = preprocess.load(photo(), SPEC.replace(**same))
    bgr = preprocess.load(photo(), SPEC.replace(color="BGR", **same))
    np.testing.assert_array_equal(bgr, rgb[::-1])
    assert not np.array_equal(bgr, rgb)


def test_alpha_policies() -> None:
    half = Image.new("RGBA", (4, 4), (200, 100, 0, 0))
    half.putpixel((0, 0), (200, 100, 0, 255))
    for mode in ("RGBA", "PNG with palette"):
        source = half if mode == "RGBA" else encoded(half.quantize(4))
        expected = {"drop": (200, 100, 0), "white": (255, 255, 255), "black": (0, 0, 0)}
        for policy, background in expected.items():
            got = pixels(source, SPEC.replace(alpha=policy))
            assert tuple(got[0, 0]) == (200, 100, 0)
            if not (policy == "drop" and mode != "RGBA"):  # quantizing forgets the colour beneath
                assert tuple(got[3, 3]) == background


def test_a_colour_key_is_transparency_too() -> None:
    source = encoded(Image.new("RGB", (2, 2), (10, 20, 30)), transparency=(10, 20, 30))
    assert tuple(pixels(source)[0, 0]) == (10, 20, 30)
    assert tuple(pixels(source, SPEC.replace(alpha="white"))[0, 0]) == (255, 255, 255)


def test_16_bit_gray_keeps_its_high_byte() -> None:
    ramp = (np.arange(256, dtype=np.uint16) * 256 + 255 * (np.arange(256, dtype=np.uint16) % 2)).reshape(16, 16)
    got = pixels(encoded(Image.fromarray(ramp)))
    np.testing.assert_array_equal(got, np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2))


def test_pixels_without_an_agreed_range_are_refused() -> None:
    with pytest.raises(ImageError, match=r"32-bit pixels from -5 to 70000 have no agreed range"):
        pixels(Image.fromarray(np.array([[-5, 70000]], np.int32)))
    with pytest.raises(ImageError, match="pixels of mode F have no agreed conversion"):
        pixels(Image.new("F", (2, 2)))


def test_exif_orientation_turns_the_picture_upright() -> None:
    image = photo()
    stored = {  # what a camera stores so that the tag makes it upright: the inverse of the tag's turn
        1: image,
        2: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: image.transpose(Image.Transpose.ROTATE_180),
        4: image.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: image.transpose(Image.Transpose.TRANSPOSE),
        6: image.transpose(Image.Transpose.ROTATE_90),
        7: image.transpose(Image.Transpose.TRANSVERSE),
        8: image.transpose(Image.Transpose.ROTATE_270),
    }
    for orientation, turned in stored.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        source = encoded(turned, exif=exif)
        np.testing.assert_array_equal(pixels(source), np.asarray(image), err_msg=str(orientation))
        np.testing.assert_array_equal(pixels(source, SPEC.replace(exif="ignore")), np.asarray(turned))


@pytest.mark.parametrize("value", [0, 9, 255])
def test_unknown_orientations_change_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    np.testing.assert_array_equal(pixels(encoded(photo(), exif=exif)), np.asarray(photo()))


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", r"is empty \(0 bytes\)"),
        (b"This is a text.\n", r"is not a picture of a kind that is read \(starts with b'This is a te'\)"),
        (encoded(photo(200, 200), "JPEG")[:1500], "cannot be decoded: image file is truncated"),
        (encoded(photo(200, 200))[:300], "cannot be decoded: "),
    ],
)
def test_broken_files_are_named(tmp_path: Path, content: bytes, cause: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=f"photo.jpg: {cause}"):
        preprocess.load(path, SPEC)
    with pytest.raises(ImageError, match=cause):
        preprocess.load(content, SPEC)
    with pytest.raises(ImageError, match=cause):
        preprocess.load(io.BytesIO(content), SPEC)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="no.jpg: no such file"):
        preprocess.load(tmp_path / "no.jpg", SPEC)
    with pytest.raises(ImageError, match="is a folder, not a picture"):
        preprocess.load(tmp_path, SPEC)
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(encoded(photo()))
    secret.chmod(0)
    if os.getuid() != 0:  # root may read everything
        with pytest.raises(ImageError, match="may not be read"):
            preprocess.load(secret, SPEC)


@pytest.mark.parametrize("array", [np.zeros((8, 8, 3)), np.zeros((3, 8, 8), np.uint8), np.zeros((0, 8, 3), np.uint8)])
def test_arrays_of_another_kind_are_refused(array: Any) -> None:
    with pytest.raises(ImageError, match="not a picture\nGive uint8 pixels of shape"):
        preprocess.load(array, SPEC)


def test_strided_arrays_are_pictures() -> None:
    flipped = np.asarray(photo())[::-1, ::2, ::-1]
    np.testing.assert_array_equal(pixels(flipped), flipped)


def test_the_pixel_limit_holds_before_decoding_and_after_the_resize() -> None:
    with pytest.raises(ImageError, match="40x30 is 1,200 pixels, over the limit of 1,199"):
        preprocess.load(encoded(photo()), SPEC, max_pixels=1199)
    preprocess.load(encoded(photo()), SPEC, max_pixels=1200)
    strip = Image.new("RGB", (1, 100_000))
    with pytest.raises(ImageError, match="1x100000 picture, resized: 256x25600000 is 6,553,600,000 pixels"):
        preprocess.load(strip, Preprocess())


def test_a_picture_smaller_than_the_crop_is_centred_on_black() -> None:
    spec = Preprocess(resize_size=(2, 2), crop_size=(5, 4))
    cropped = preprocess.resize_and_crop(Image.new("RGB", (2, 2), "white"), spec)
    assert cropped.shape == (5, 4, 3)
    np.testing.assert_array_equal(np.argwhere(cropped[:, :, 0] == 255), [[1, 1], [1, 2], [2, 1], [2, 2]])


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("resize", [256, 232, (64, 300)])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "nearest"])
@pytest.mark.parametrize(
    ("width", "height"),
    [
        *[(500, 375), (375, 500), (500, 333), (333, 500), (640, 480), (600, 400), (521, 521), (256, 384)],
        *[(1023, 33), (33, 1023), (120, 400), (100, 260)],  # from here on Pillow 13 may turn its passes round
    ],
)
def test_only_the_crop_is_resized_and_it_is_the_crop_of_the_whole(
    width: int, height: int, interpolation: Any, resize: Any
) -> None:
    image = noise(width, height)
    spec = Preprocess(resize_size=resize, interpolation=interpolation, crop_size=(56, 224))
    size = resized_size(image.size, resize)
    left, top = crop_start(size[0], 224), crop_start(size[1], 56)
    whole = image.resize(size, Image.Resampling[interpolation.upper()])
    expected = np.asarray(whole.crop((left, top, left + 224, top + 56)))
    np.testing.assert_array_equal(preprocess.resize_and_crop(image, spec), expected)


def test_a_photo_is_resized_no_further_than_its_crop_needs() -> None:
    made: list[tuple[int, int]] = []

    class Watched(Image.Image):
        def resize(self, size: Any, *rest: Any) -> Image.Image:
            made.append(size)
            return super().resize(size, *rest)

    for width, height in ((500, 375), (375, 500), (500, 333), (333, 500), (640, 640)):
        image = noise(width, height)
        image.__class__ = Watched
        preprocess.resize_and_crop(image, Preprocess())
    assert made == [(341, 224), (224, 341), (228, 224), (224, 384), (224, 224)]


@pytest.mark.parametrize(
    "wrong", [{"resize_size": 0}, {"crop_size": (0, 5)}, {"std": (1, 0, 1)}, {"mean": (0, 0, float("inf"))}]
)
def test_impossible_preprocess_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Preprocess(**wrong)


def test_it_says_what_it_does() -> None:
    assert str(Preprocess(resize_size=(224, 200), crop_size=(224, 200))) == (
        "resize squash to 200x224 (bilinear), crop 200x224, mean 0.485/0.456/0.406, std 0.229/0.224/0.225, RGB, "
        "exif apply, alpha drop, 16-bit high-byte"
    )


def _same(frame: np.ndarray, rgb: np.ndarray, color: str) -> None:
    """An array gives the very input that the same picture gives as a contiguous RGB array, and stays as it is."""
    before = frame.copy()
    for wanted in ("RGB", "BGR"):
        preprocess = Preprocess(resize_size=40, crop_size=(32, 36), color=wanted)  # type: ignore[arg-type]
        expected = load(np.ascontiguousarray(rgb), preprocess)
        np.testing.assert_array_equal(load(frame, preprocess, color=color), expected)  # type: ignore[arg-type]
    np.testing.assert_array_equal(frame, before)


@pytest.mark.parametrize(
    "view",
    [
        lambda frame: frame,
        lambda frame: frame[::-1],
        lambda frame: frame[:, ::-1],
        lambda frame: frame[10:-20, 30:-7],
        lambda frame: frame[::2, ::3],
        lambda frame: frame.transpose(1, 0, 2),
        np.asfortranarray,
        lambda frame: np.broadcast_to(frame[:1], frame.shape),
    ],
    ids=["whole", "upside down", "mirrored", "cropped", "thinned", "turned", "by columns", "broadcast"],
)
def test_frames_of_either_order_and_any_strides(view: Callable[[np.ndarray], np.ndarray]) -> None:
    rgb = draw_picture(3)
    frame = np.ascontiguousarray(rgb[..., ::-1])  # as a camera gives it to OpenCV
    _same(view(frame), view(rgb), "BGR")
    _same(view(rgb), view(rgb), "RGB")
    _same(view(rgb)[..., ::-1], view(rgb), "BGR")  # channels that run backwards in memory


def test_frames_with_alpha_are_laid_on_the_background_in_their_own_order() -> None:
    rgba = np.dstack([draw_picture(3), draw_picture(4)[..., 0]])
    bgra = rgba[..., [2, 1, 0, 3]]
    for alpha in ("drop", "white"):
        preprocess = Preprocess(resize_size=40, crop_size=(32, 36), alpha=alpha)  # type: ignore[arg-type]
        np.testing.assert_array_equal(load(bgra, preprocess, color="BGR"), load(rgba, preprocess))


def test_gray_frames_have_no_order() -> None:
    gray = draw_picture(3)[..., 0]
    rgb = np.dstack([gray] * 3)
    for frame in (gray, gray[..., None], gray[::-1][::-1]):
        for color in ("RGB", "BGR"):
            _same(frame, rgb, color)


def test_a_frame_that_cannot_be_written_to_is_read_all_the_same() -> None:
    rgb = draw_picture(3)
    rgb.setflags(write=False)
    _same(rgb, rgb, "RGB")


def test_files_know_their_own_order(tmp_path: Path) -> None:
    Image.fromarray(draw_picture(3)).save(tmp_path / "photo.png")
    preprocess = Preprocess()
    np.testing.assert_array_equal(
        load(tmp_path / "photo.png", preprocess, color="BGR"), load(draw_picture(3), preprocess)
    )


def test_another_order_is_refused() -> None:
    with pytest.raises(ValueError, match="color is 'bgr'"):
        load(draw_picture(3), Preprocess(), color="bgr")  # type: ignore[arg-type]


LARGE = Image.fromarray(draw_picture(3)).resize((1200, 900), Image.Resampling.BICUBIC)
SMALL_SPEC = Preprocess(resize_size=36, crop_size=(32, 32))


@pytest.mark.parametrize(("resize", "divided"), [(36, 8), (100, 4), (200, 2), (300, 1), ((36, 60), 1)])
def test_fast_decoding_leaves_at_least_twice_what_the_resize_makes(
    resize: Any, divided: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[tuple[int, int]] = []
    load_pixels = JpegImageFile.load
    monkeypatch.setattr(JpegImageFile, "load", lambda image: (loaded.append(image.size), load_pixels(image))[1])
    spec = SMALL_SPEC.replace(resize_size=resize)
    load(encoded(LARGE, "JPEG"), spec, fast=True)
    assert set(loaded) == {(1200 // divided, math.ceil(900 / divided))}
    load(encoded(LARGE, "JPEG"), spec)
    assert loaded[-1] == LARGE.size


def test_fast_is_near_the_exact_way_and_turns_pictures_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    source = encoded(LARGE, "JPEG", quality=95, exif=exif)  # 112.5 rows at an 8th of its size, of which 113 are there
    exact, fast = load(source, SMALL_SPEC), load(source, SMALL_SPEC, fast=True)
    assert 0 < np.abs(exact - fast).mean() < 0.03  # of values that reach from -2.1 to 2.6
    assert np.abs(exact - np.rot90(exact, axes=(1, 2))).mean() > 0.5  # lying on its side it would not be near


def test_fast_changes_nothing_where_there_is_nothing_to_gain() -> None:
    small = Image.fromarray(draw_picture(3)).resize((100, 80))
    for source in (encoded(small, "JPEG"), encoded(small), small, np.asarray(small)):
        np.testing.assert_array_equal(load(source, SMALL_SPEC, fast=True), load(source, SMALL_SPEC))
    assert not np.array_equal(load(encoded(LARGE), SMALL_SPEC, fast=True), load(encoded(LARGE), SMALL_SPEC))


def test_fast_leaves_the_callers_image_as_it_is() -> None:
    with Image.open(io.BytesIO(encoded(LARGE, "JPEG"))) as image:
        load(image, SMALL_SPEC, fast=True)
        assert image.size == LARGE.size


def test_the_pixel_limit_is_that_of_the_file_however_it_is_decoded() -> None:
    with pytest.raises(ImageError, match="1200x900 is 1,080,000 pixels, over the limit of 1,000,000"):
        load(encoded(LARGE, "JPEG"), SMALL_SPEC, fast=True, max_pixels=1_000_000)


@pytest.mark.parametrize("source", [None, 3, [1, 2]])
def test_what_is_no_picture_at_all(source: Any) -> None:
    with pytest.raises(ImageError, match=rf"<{type(source).__name__}>: not a picture\nGive a path, bytes"):
        preprocess.load(source, SPEC)


def test_a_closed_stream_and_a_broken_one(tmp_path: Path) -> None:
    closed = io.BytesIO(encoded(photo()))
    closed.close()
    with pytest.raises(ImageError, match="I/O operation on closed file"):
        preprocess.load(closed, SPEC)

    class Reset(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def read(self, *_: object) -> bytes:
            raise ConnectionResetError(104, "Connection reset by peer")

    with pytest.raises(ImageError, match="cannot be read: Connection reset by peer\nThe file may be good"):
        preprocess.load(Reset(), SPEC)


def test_bytes_of_any_kind(tmp_path: Path) -> None:
    content = encoded(photo())
    np.testing.assert_array_equal(preprocess.load(bytearray(content), SPEC), preprocess.load(content, SPEC))


def test_the_machines_faults_are_not_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match="cannot be read: File name too long"):
        preprocess.load("a" * 5000, SPEC)

    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", fail)
    with pytest.raises(ImageError, match="cannot be read: there is not enough memory"):
        preprocess.load(Image.new("RGB", (8, 8)), SPEC)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # Pillow leaves it open
def test_a_pipe_is_not_opened_twice(tmp_path: Path) -> None:
    """Nobody writes into it a second time, and so the opening would wait for ever."""
    os.mkfifo(tmp_path / "p.jpg")
    writer = threading.Thread(target=(tmp_path / "p.jpg").write_bytes, args=(b"no picture at all",), daemon=True)
    writer.start()
    with pytest.raises(ImageError, match="p.jpg: "):
        preprocess.load(tmp_path / "p.jpg", SPEC)
    writer.join(10)


def test_a_name_of_several_lines_is_told_on_one() -> None:
    with pytest.raises(ImageError) as caught:
        preprocess.load("two\nlines.jpg", SPEC)
    assert caught.value.cause == r"'two\nlines.jpg': no such file"


@pytest.mark.parametrize("kind", ["ICO", "TGA", "EPS"])
def test_kinds_that_are_not_read(kind: str) -> None:
    """EPS would start Ghostscript, and an ICO may hold another size than it says; nothing of them is decoded."""
    with pytest.raises(ImageError, match="is not a picture of a kind that is read"):
        preprocess.load(encoded(photo(16, 16), kind), SPEC)


@pytest.mark.parametrize("kind", ["PPM", "JPEG2000", "MPO", "BMP", "TIFF", "GIF", "WEBP"])
def test_kinds_that_are_read(kind: str) -> None:
    assert preprocess.load(encoded(photo(), kind), SPEC).shape[0] == 3


def test_numbers_of_any_kind_have_one_digest() -> None:
    assert Preprocess(mean=(0, 0, 0), std=tuple(np.ones(3, np.float32))) == Preprocess(mean=(0.0,) * 3, std=(1.0,) * 3)  # type: ignore[arg-type]
    assert [type(value) for value in Preprocess(mean=(0, 0, 0)).mean] == [float] * 3


def test_sizes_have_a_limit() -> None:
    with pytest.raises(ValueError, match="must be of 1 to 8192 pixels"):
        Preprocess(resize_size=10**400)
    with pytest.raises(ValueError, match="must be of 1 to 8192 pixels"):
        Preprocess(crop_size=(224, 8193))
