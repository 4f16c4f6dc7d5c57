from __future__ import annotations

import hashlib
import io
import itertools
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from PIL import Image, features

from edgecls.benchmark.drawn_pictures import draw_jpegs

JPEGS = tuple(itertools.islice(draw_jpegs(), 30))


def bits_a_pixel(data: bytes) -> float:
    with Image.open(io.BytesIO(data)) as image:
        return 8 * len(data) / (image.width * image.height)


def test_they_are_all_different_and_always_the_same() -> None:
    assert len(set(JPEGS)) == 30
    assert tuple(itertools.islice(draw_jpegs(), 26)) == JPEGS[:26]  # more than one scene's


def test_the_pixels_do_not_depend_on_the_machine() -> None:
    with Image.open(io.BytesIO(JPEGS[3])) as image:
        pixels = np.asarray(image.resize((2, 2), Image.Resampling.BOX)).ravel()
    # Drawn once. Another libjpeg may round otherwise; another picture is another one altogether.
    expected = [164, 164, 143, 161, 164, 137, 148, 156, 127, 146, 145, 121]
    np.testing.assert_allclose(pixels, expected, atol=2, err_msg=f"libjpeg {features.version('jpg')}")


def test_they_have_something_to_say_to_every_filter() -> None:
    for data in JPEGS:
        with Image.open(io.BytesIO(data)) as image:
            assert image.mode == "RGB"
            assert image.size in {(500, 375), (500, 333), (375, 500)}
            gray = np.asarray(image.convert("L"), np.float32)
        assert gray.std() > 10
        assert np.abs(np.diff(gray)).mean() > 1  # detail down to the pixels
    assert len({hashlib.sha256(data).digest() for data in JPEGS}) == 30


@pytest.mark.real_data
def test_they_are_as_much_work_as_photos(real_data: Path) -> None:
    photos = [path.read_bytes() for path in sorted((real_data / "imagenet_samples").glob("*.[Jj][Pp]*"))]
    drawn, real = median(map(bits_a_pixel, JPEGS)), median(map(bits_a_pixel, photos))
    assert drawn == pytest.approx(real, rel=0.25)
    spread = [bits_a_pixel(data) for data in JPEGS]
    assert max(spread) > 1.8 * min(spread)  # and none like the other
