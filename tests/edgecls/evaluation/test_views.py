from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from edgecls.evaluation.views import MAX_VIEWS, check_views, load_views
from edgecls_runtime import Preprocess
from edgecls_runtime.errors import DataError
from edgecls_runtime.preprocess import load

# 12 wide, 8 high: nothing is resized. The central 8x8 begins at column 2; the crop is 4 high and 6 wide.
PLAIN = Preprocess(resize_size=8, crop_size=(4, 6), mean=(0, 0, 0), std=(1, 1, 1))
PIXELS = np.arange(8 * 12, dtype=np.uint8).reshape(8, 12)


def pixels(views: np.ndarray) -> np.ndarray:
    return np.rint(views[:, 0] * 255).astype(np.uint8)


def test_the_ten_views_by_hand() -> None:
    image = Image.fromarray(np.stack([PIXELS] * 3, -1))
    views = pixels(load_views(image, PLAIN, MAX_VIEWS))
    corners = [PIXELS[:4, 2:8], PIXELS[:4, 4:10], PIXELS[4:, 2:8], PIXELS[4:, 4:10]]
    centre = PIXELS[2:6, 3:9]
    expected = [centre, centre[:, ::-1], *corners, *(corner[:, ::-1] for corner in corners)]
    np.testing.assert_array_equal(views, expected)


def test_fewer_views_are_the_first_of_them() -> None:
    image = Image.fromarray(np.stack([PIXELS] * 3, -1))
    every = load_views(image, PLAIN, MAX_VIEWS)
    for count in range(1, MAX_VIEWS):
        np.testing.assert_array_equal(load_views(image, PLAIN, count), every[:count])


@pytest.mark.parametrize("size", [(51, 40), (40, 53), (7, 90)])
def test_the_first_view_is_what_a_device_sees(size: tuple[int, int]) -> None:
    """With odd margins, where the centre of the square would be a pixel off."""
    rng = np.random.default_rng(1)
    image = Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8))
    preprocess = Preprocess(resize_size=37, crop_size=(32, 32))
    np.testing.assert_array_equal(load_views(image, preprocess, 10)[0], load(image, preprocess))


def test_a_squashed_picture_has_corners_too() -> None:
    preprocess = PLAIN.replace(resize_size=(8, 12), crop_size=(6, 8))
    views = pixels(load_views(np.stack([PIXELS] * 3, -1), preprocess, 6))
    np.testing.assert_array_equal(views[5], PIXELS[2:, 4:])


@pytest.mark.parametrize("resize_size", [4, (4, 6), (9, 6), (4, 9)])
def test_corners_need_a_margin(resize_size: int | tuple[int, int]) -> None:
    preprocess = PLAIN.replace(resize_size=resize_size)
    check_views(preprocess, 2)
    with pytest.raises(DataError, match="so there is no margin for corners") as raised:
        check_views(preprocess, 3)
    assert raised.value.remedy.endswith("--tta 2")


@pytest.mark.parametrize("views", [0, 11])
def test_there_are_one_to_ten(views: int) -> None:
    with pytest.raises(ValueError, match="there are 1 to 10"):
        check_views(PLAIN, views)
