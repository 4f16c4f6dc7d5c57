"""The runtime's preprocess against torchvision's, on every kind of picture: identical pixels, float32 to 1e-6."""

from __future__ import annotations

import io
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from torchvision.transforms import CenterCrop, Compose, InterpolationMode, Normalize, Resize, ToTensor

from edgecls_runtime import preprocess
from edgecls_runtime.errors import ImageError
from edgecls_runtime.preprocess import Preprocess

PRESETS = [
    Preprocess(resize_size=256),
    Preprocess(resize_size=232),
    Preprocess(resize_size=(224, 224)),
]
SPECS = [
    spec.replace(interpolation=interpolation)
    for spec, interpolation in itertools.product(PRESETS, ("bilinear", "bicubic"))
]
FILTERS = {"bilinear": InterpolationMode.BILINEAR, "bicubic": InterpolationMode.BICUBIC}


def torchvision_preprocess(image: Image.Image, spec: Preprocess) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels uint8 [H, W, 3] and input float32 [3, H, W], as torchvision makes them of an RGB image."""
    size = spec.resize_size if isinstance(spec.resize_size, int) else list(spec.resize_size)
    pixels = Compose([Resize(size, FILTERS[spec.interpolation]), CenterCrop(list(spec.crop_size))])(image)
    tensor = Compose([ToTensor(), Normalize(list(spec.mean), list(spec.std))])(pixels)
    return np.asarray(pixels), tensor.numpy()


def assert_same(source: preprocess.ImageSource, reference: Image.Image, spec: Preprocess) -> None:
    pixels, tensor = torchvision_preprocess(reference, spec)
    image = preprocess.decode(source, spec)
    np.testing.assert_array_equal(preprocess.resize_and_crop(image, spec), pixels)
    got = preprocess.load(source, spec)
    assert got.dtype == tensor.dtype == np.float32
    np.testing.assert_array_equal(got, tensor)  # stricter than the 1e-6 that is promised


def drawn(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 10_007 + height)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 7, 3), dtype=np.uint8)).resize((width, height))
    noise = rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(
    "size", [(1, 1), (2, 3), (223, 225), (256, 256), (500, 375), (375, 500), (33, 1023), (6000, 40)]
)
def test_sizes(size: tuple[int, int], spec: Preprocess) -> None:
    image = drawn(*size)
    assert_same(image, image, spec)


@settings(max_examples=60, deadline=None)
@given(
    width=st.integers(1, 700),
    height=st.integers(1, 700),
    resize=st.one_of(st.integers(1, 300), st.tuples(st.integers(1, 300), st.integers(1, 300))),
    crop=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
)
def test_any_size_and_any_crop(
    width: int, height: int, resize: int | tuple[int, int], crop: tuple[int, int], interpolation: str
) -> None:
    spec = Preprocess(resize_size=resize, crop_size=crop, interpolation=interpolation)  # type: ignore[arg-type]
    image = drawn(width, height)
    if isinstance(resize, int) and max(width, height) * resize > 3000 * min(width, height):
        image = drawn(height, height)  # torchvision would resize a strip to gigabytes
    assert_same(image, image, spec)


def in_mode(mode: str) -> Image.Image:
    """Return a picture of a Pillow mode, with transparency where the mode has it."""
    color = drawn(310, 270)
    alpha = color.getchannel("R")
    if mode == "P with transparency":
        image = color.quantize(64)
        image.info["transparency"] = bytes(range(0, 256, 4))
        return image
    if mode == "P with transparent colour":
        image = color.quantize(64)
        image.info["transparency"] = 3
        return image
    if mode == "PA":
        image = color.quantize(64).convert("PA")
        image.putalpha(alpha)
        return image
    if mode in ("LA", "RGBA"):
        color.putalpha(alpha)
    if mode == "P":
        return color.quantize(64)
    return color.convert(mode)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize(
    "mode",
    [
        "1",
        "L",
        "LA",
        "P",
        "P with transparency",
        "P with transparent colour",
        "PA",
        "RGB",
        "RGBA",
        "RGBX",
        "CMYK",
        "YCbCr",
    ],
)
def test_modes(mode: str, spec: Preprocess) -> None:
    """torchvision's data sets say convert("RGB"); dropping alpha is what that does."""
    image = in_mode(mode)
    assert_same(image, image.convert("RGBA").convert("RGB") if mode.startswith("P") else image.convert("RGB"), spec)


@pytest.mark.parametrize("spec", SPECS, ids=str)
@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_16_bit_gray(byte_order: str, spec: Preprocess) -> None:
    """convert("RGB") would turn this white; the reference is the policy, spelled out."""
    values = np.random.default_rng(0).integers(0, 65536, (300, 280), dtype=np.uint16)
    image = Image.fromarray(values.astype(byte_order))
    assert image.mode.startswith("I;16")
    assert_same(image, Image.fromarray((values // 256).astype(np.uint8)).convert("RGB"), spec)


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("file_format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientations(orientation: int, file_format: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    drawn(301, 240).save(buffer, file_format, exif=exif)
    reference = ImageOps.exif_transpose(Image.open(buffer)).convert("RGB")
    turned = 5 <= orientation <= 8
    assert reference.size == ((240, 301) if turned else (301, 240))
    assert_same(buffer.getvalue(), reference, PRESETS[0])


@pytest.mark.real_data
@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_photos(real_data: Path, spec: Preprocess) -> None:
    photos = sorted((real_data / "imagenet_samples").glob("*.JPEG"))
    assert len(photos) == 200
    for path in photos[::2] if spec != PRESETS[0] else photos:
        assert_same(path, Image.open(path).convert("RGB"), spec)


@pytest.mark.real_data
@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, about damaged metadata
def test_odd_files_decode_as_pillow_decodes_them_or_are_refused(real_data: Path) -> None:
    """330 odd and broken files: never another error, and never pixels that differ from Pillow's silently."""
    index = json.loads((real_data / "nasty" / "INDEX.json").read_text())
    answered = refused = 0
    for entry in index:
        path = real_data / "nasty" / entry["file"]
        try:
            image = preprocess.decode(path, Preprocess())
        except ImageError as error:
            refused += 1
            assert str(path) in error.cause
            assert "\n" not in error.cause
            # Refused either because Pillow cannot, or by a policy that says so. "Truncated File Read": a PNG whose
            # end is cut off, which Pillow refuses at the first load() and lets pass at the second.
            policy = ("no agreed conversion", "no agreed range", "over the limit", "Truncated File Read")
            assert not entry["ok"] or any(words in error.cause for words in policy), str(error)
            continue
        answered += 1
        assert entry["ok"], f"{entry['file']}: Pillow refuses it, we answered"
        with Image.open(path) as opened:
            opened.load()
            upright = ImageOps.exif_transpose(opened)
            if not upright.mode.startswith("I"):
                mode = (
                    "RGBA" if "transparency" in upright.info or upright.mode in ("PA", "La", "RGBa") else upright.mode
                )
                np.testing.assert_array_equal(
                    np.asarray(image), np.asarray(upright.convert(mode).convert("RGB")), err_msg=entry["file"]
                )
        preprocess.load(path, Preprocess())
    print(f"{answered} answered, {refused} refused")
    assert answered > 230
    assert answered + refused == len(index)
