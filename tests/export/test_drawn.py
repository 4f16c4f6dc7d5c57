from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from PIL import Image

from edgecls_export import drawn
from edgecls_export.drawn import draw_pictures, write_folder
from edgecls_runtime import EdgeclsError

FOLDER = Path(__file__).parents[2] / "calibration_data"


@pytest.fixture(scope="module")
def pictures() -> dict[str, Image.Image]:
    return dict(draw_pictures(64))


@pytest.fixture(scope="module")
def arrays(pictures: dict[str, Image.Image]) -> list[NDArray[np.float32]]:
    """Float32 [H, W, 3], 0 to 1."""
    return [np.asarray(picture, np.float32) / 255 for picture in pictures.values()]


def test_same_seed_same_pictures(pictures: dict[str, Image.Image]) -> None:
    drawn._picture.cache_clear()  # or they would be the very same ones
    again = dict(draw_pictures(64))
    assert list(again) == list(pictures)
    assert all(np.array_equal(again[name], pictures[name]) for name in pictures)


def test_other_seed_other_pictures(pictures: dict[str, Image.Image]) -> None:
    for name, picture in draw_pictures(9, seed=1):
        assert picture.tobytes() != pictures[name].tobytes()


def test_a_picture_does_not_depend_on_how_many_are_drawn(pictures: dict[str, Image.Image]) -> None:
    for count in (1, 12):
        drawn._picture.cache_clear()
        few = dict(draw_pictures(count))
        assert list(few) == list(pictures)[:count]
        assert all(np.array_equal(few[name], pictures[name]) for name in few)


def test_a_picture_that_was_given_away_does_not_change_the_next(pictures: dict[str, Image.Image]) -> None:
    for _, picture in draw_pictures(2):
        picture.paste((1, 2, 3), (0, 0, *picture.size))
    for name, picture in draw_pictures(2):
        assert np.array_equal(picture, pictures[name])


def test_sizes_and_mode(pictures: dict[str, Image.Image]) -> None:
    assert {picture.mode for picture in pictures.values()} == {"RGB"}
    sizes = {picture.size for picture in pictures.values()}
    assert len(sizes) > 50
    assert all(160 <= side <= 480 for size in sizes for side in size)
    shapes = [np.sign(width - height) for width, height in sizes]
    assert min(shapes.count(shape) for shape in (-1, 0, 1)) >= 5


@pytest.mark.parametrize("start", [0, 20])
def test_every_nine_pictures_span_the_exposures_of_photos(arrays: list[NDArray[np.float32]], start: int) -> None:
    nine = arrays[start : start + 9]
    brightness = [array.mean() for array in nine]
    contrast = [array.mean(axis=2).std() for array in nine]
    chroma = [np.ptp(array, axis=2).mean() for array in nine]
    assert min(brightness) < 0.2
    assert max(brightness) > 0.7
    assert min(contrast) < 0.06
    assert max(contrast) > 0.18
    assert min(chroma) == 0  # gray
    assert max(chroma) > 0.3


def test_no_picture_is_flat_and_few_look_alike(arrays: list[NDArray[np.float32]]) -> None:
    edges = [np.abs(np.diff(array, axis=1)).mean() for array in arrays]
    assert min(edges) > 0.3 / 255
    assert max(edges) > 10 * min(edges)  # from a defocused gradient to stripes and twigs
    thumbnails = [Image.fromarray((array * 255).astype(np.uint8)).convert("L").resize((8, 8)) for array in arrays]
    layouts = np.array([np.asarray(thumbnail, np.float64).ravel() for thumbnail in thumbnails])
    alike = np.abs(np.corrcoef(layouts)[np.triu_indices(len(layouts), 1)])
    assert np.median(alike) < 0.35


def test_amplitude_falls_with_frequency_as_in_photos(arrays: list[NDArray[np.float32]]) -> None:
    """Photos: f to the power of -0.8 to -1.5, by the image (Tolhurst, Tadmor, Chao 1992)."""
    slopes = [_spectral_slope(array.mean(axis=2)) for array in arrays]
    assert -1.5 < np.mean(slopes) < -1.0


def test_the_checked_in_folder_is_what_its_manifest_says() -> None:
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in FOLDER.glob("*.jpg")}
    assert digests == manifest["pictures"]
    assert len(digests) == manifest["count"] == 64
    assert manifest["generator_version"] == drawn.GENERATOR_VERSION
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 2_000_000


def test_the_checked_in_folder_is_what_the_code_draws(pictures: dict[str, Image.Image]) -> None:
    """Whoever changes the drawing must raise GENERATOR_VERSION and write the folder anew."""
    manifest = json.loads((FOLDER / "manifest.json").read_text())
    assert manifest["seed"] == 0
    for name, picture in pictures.items():
        with io.BytesIO() as file, Image.open(FOLDER / f"{name}.jpg") as stored:
            picture.save(file, "JPEG", quality=manifest["quality"])
            fresh = np.asarray(Image.open(file), np.float32)
            assert fresh.shape == (*stored.size[::-1], 3)
            # Bit-identical where it was drawn; elsewhere the FFT and the JPEG codec round otherwise.
            assert np.abs(fresh - np.asarray(stored, np.float32)).mean() < 1.0, name


def test_write_folder_refuses_to_overwrite_unless_forced(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "pictures"
    write_folder(folder, count=3, seed=5, quality=80)
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(EdgeclsError, match=r"already holds drawn-0000\.jpg\n.*--force"):
        write_folder(folder, count=2)
    assert (folder / "manifest.json").read_bytes() == before

    (folder / "mine.jpg").write_bytes(b"not drawn")
    write_folder(folder, count=2, force=True)
    assert {path.name for path in folder.iterdir()} == {"drawn-0000.jpg", "drawn-0001.jpg", "manifest.json", "mine.jpg"}
    assert json.loads((folder / "manifest.json").read_text())["count"] == 2


def test_command_line(tmp_path: Path) -> None:
    arguments = [str(tmp_path), "--count", "1", "--seed", "7", "--quality", "70"]
    assert CliRunner().invoke(drawn._main, arguments).exit_code == 0
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert (manifest["count"], manifest["seed"], manifest["quality"]) == (1, 7, 70)
    again = CliRunner().invoke(drawn._main, arguments)
    assert again.exit_code == 1
    assert again.output == f"Error: {tmp_path}: already holds drawn-0000.jpg\nChoose another folder, or add --force.\n"


def _spectral_slope(gray: NDArray[np.float32]) -> float:
    """Fit log amplitude against log frequency, 0.02 to 0.4 cycles a pixel, mean over directions."""
    side = min(gray.shape)
    square = gray[:side, :side] - gray[:side, :side].mean()
    window = np.hanning(side)[:, None] * np.hanning(side)
    amplitude = np.abs(np.fft.fft2(square * window))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.fftfreq(side))
    edges = np.geomspace(0.02, 0.4, 12)
    band = np.digitize(frequency, edges)
    means = [amplitude[band == number].mean() for number in range(1, len(edges))]
    return float(np.polyfit(np.log(np.sqrt(edges[1:] * edges[:-1])), np.log(means), 1)[0])
