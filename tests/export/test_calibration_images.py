from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecls_export import drawn
from edgecls_export.calibration_images import CalibrationImages, drawn_images, pick_images
from edgecls_runtime.errors import CalibrationError, ExportError


@pytest.fixture(scope="module")
def pictures() -> list[Image.Image]:
    return [picture.resize((48, 40)) for _, picture in drawn.draw_pictures(40)]


@pytest.fixture
def folder(tmp_path: Path, pictures: list[Image.Image]) -> Path:
    """Three classes of 20, 15 and 5 pictures."""
    classes = ["ant"] * 20 + ["bee"] * 15 + ["cat"] * 5
    for index, (name, picture) in enumerate(zip(classes, pictures, strict=True)):
        (tmp_path / "train" / name).mkdir(parents=True, exist_ok=True)
        picture.save(tmp_path / "train" / name / f"{index}.png")
    (tmp_path / "train" / "labels.json").write_text("{}")
    return tmp_path / "train"


def names(picked: object) -> list[str]:
    return [f"{path.parent.name}/{path.name}" for path in picked.sources]  # type: ignore[attr-defined]


def test_the_draw_is_spread_over_the_classes_and_always_the_same(folder: Path, tmp_path: Path) -> None:
    picked = pick_images(folder, 24)
    assert Counter(name.split("/")[0] for name in names(picked)) == {"ant": 10, "bee": 9, "cat": 5}
    assert (picked.classes, picked.origin) == (3, str(folder))
    assert names(pick_images(folder, 24)) == names(picked)
    folder.rename(tmp_path / "moved")
    assert names(pick_images(tmp_path / "moved", 24)) == names(picked)
    assert names(pick_images(tmp_path / "moved", 24, seed=1)) != names(picked)
    assert names(pick_images(tmp_path / "moved", 7)) == names(picked)[:7]
    assert len(pick_images(tmp_path / "moved", 1000).sources) == 40


def test_a_linked_class_is_drawn_from_too(folder: Path, tmp_path: Path) -> None:
    (folder / "cat").rename(tmp_path / "elsewhere")
    (folder / "cat").symlink_to(tmp_path / "elsewhere")
    assert Counter(name.split("/")[0] for name in names(pick_images(folder, 24))) == {"ant": 10, "bee": 9, "cat": 5}


def test_digests_are_those_of_the_files(folder: Path) -> None:
    picked = pick_images(folder, 5)
    assert list(picked.digests) == [hashlib.sha256(Path(str(path)).read_bytes()).hexdigest() for path in picked.sources]
    assert len({pick_images(folder, count).digest() for count in (4, 5, 6)}) == 3


def test_a_flat_folder_has_no_classes(folder: Path) -> None:
    picked = pick_images(folder / "ant", 10)
    assert (picked.classes, len(picked.sources)) == (0, 10)


def test_few_pictures_are_a_warning(folder: Path) -> None:
    assert pick_images(folder).warnings == (f"{folder}: 40 pictures are few for calibration: give 300 or more",)
    assert "40 pictures of 3 classes from" in str(pick_images(folder))


def test_what_cannot_be_read_and_copies_are_passed_over(folder: Path) -> None:
    (folder / "ant" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnot")
    (folder / "bee" / "copy.png").write_bytes((folder / "ant" / "0.png").read_bytes())
    picked = pick_images(folder)
    assert len(picked.sources) == len(set(picked.digests)) == 40
    assert f"{folder}: 1 pictures cannot be read and were passed over ({folder / 'ant' / 'broken.png'})" in str(picked)
    assert "1 pictures are copies of others" in str(picked)


def test_pictures_of_the_evaluation_set_are_refused_by_content(folder: Path, tmp_path: Path) -> None:
    held_out = tmp_path / "val" / "x"
    held_out.mkdir(parents=True)
    (held_out / "renamed.png").write_bytes((folder / "bee" / "30.png").read_bytes())
    with pytest.raises(
        CalibrationError, match=r"1 of 40 pictures are in the evaluation set too .*30.png is .*renamed.png"
    ):
        pick_images(folder, evaluation=[tmp_path / "val"])
    with pytest.raises(CalibrationError, match="1 of 40 pictures"):
        pick_images(folder, evaluation=[held_out / "renamed.png"])
    (held_out / "renamed.png").write_bytes(b"something else")
    assert len(pick_images(folder, evaluation=[tmp_path / "val"]).sources) == 40


@pytest.mark.parametrize("name", ["tpyo", "empty", "list.csv"])
def test_an_evaluation_set_without_pictures_is_refused(folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.csv").write_text("path,label\na.png,ant\n")
    with pytest.raises(CalibrationError, match=f"{name}: no pictures there to keep out"):
        pick_images(folder, evaluation=[tmp_path / name])


def test_empty_unreadable_and_missing_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="holds no pictures"):
        pick_images(tmp_path)
    (tmp_path / "broken.jpg").write_bytes(b"no")
    with pytest.raises(CalibrationError, match="holds 1 pictures, none of which can be read"):
        pick_images(tmp_path)
    with pytest.raises(CalibrationError, match="is not a folder") as raised:
        pick_images(tmp_path / "missing")
    with pytest.raises(CalibrationError, match="is not a folder"):
        pick_images(tmp_path / ("n" * 300))
    assert isinstance(raised.value, ExportError)


def test_noise_is_refused_as_png_and_as_jpeg(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for kind in ("png", "jpg"):
        folder = tmp_path / kind
        folder.mkdir()
        for index in range(20):
            Image.fromarray(random.integers(0, 256, (64, 64, 3), np.uint8)).save(folder / f"{index}.{kind}")
        with pytest.raises(CalibrationError, match="20 of 20 pictures are noise"):
            pick_images(folder)


def test_flat_areas_are_refused(tmp_path: Path) -> None:
    for index in range(20):
        Image.new("RGB", (64, 64), (index, index, index)).save(tmp_path / f"{index}.png")
    with pytest.raises(CalibrationError, match="20 of 20 pictures are flat"):
        pick_images(tmp_path)


def test_one_picture_many_times_is_refused(tmp_path: Path, pictures: list[Image.Image]) -> None:
    for index in range(20):
        pictures[0].save(tmp_path / f"{index}.png")
    with pytest.raises(CalibrationError, match="holds one picture 20 times"):
        pick_images(tmp_path)


def test_a_few_odd_pictures_among_photos_are_no_reason(folder: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(folder / "ant" / "noise.png")
    Image.new("RGB", (64, 64)).save(folder / "ant" / "black.png")
    assert len(pick_images(folder).sources) == 42


def test_drawn_pictures_say_that_own_ones_are_better() -> None:
    images = drawn_images(3)
    assert len(images.sources) == len(set(images.digests)) == 3
    assert images.warnings == ("calibrated on 3 drawn pictures: 300 or more as the model meets them are better",)
    assert drawn_images(3).digest() == images.digest()


@pytest.mark.real_data
def test_photos_are_no_noise(real_data: Path) -> None:
    """Sorted by how little neighbouring pixels have in common, photos stay clear of the bound."""
    for name in ("imagenette/train", "cats_dogs/train", "digits/train"):
        assert len(pick_images(real_data / name, 100).sources) == 100


def test_there_are_some() -> None:
    with pytest.raises(CalibrationError, match="mine: holds no pictures\nGive a folder"):
        CalibrationImages(origin="mine", sources=(), digests=())
