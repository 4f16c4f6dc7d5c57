from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("matplotlib", reason="plots need the training packages")

from edgecls.plots import ShownPicture, plot_batch, plot_confusion_matrix, plot_curves, plot_predictions
from edgecls_runtime import Preprocess
from edgecls_runtime.errors import OutputError
from edgecls_runtime.preprocess import load

GREEN, RED = (0x1A, 0x7F, 0x37), (0xC6, 0x28, 0x28)
WHITE = (255, 255, 255)


def drawn(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB")).copy()


def holds(pixels: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((pixels == colour).all(2).sum())


def test_curves(tmp_path: Path) -> None:
    history = [{"epoch": e, "loss": 2 / e, "val_loss": 3 / e, "acc@1": 90 - 9 / e, "lr": 0.1 / e} for e in range(1, 9)]
    plot_curves(history, tmp_path / "curves.png")
    pixels = drawn(tmp_path / "curves.png")
    for colour in ((0x5B, 0x70, 0x83), (0xD1, 0x49, 0x5B), (0x00, 0x79, 0x8C), (0x66, 0x66, 0x66)):
        assert holds(pixels, colour) > 100, colour


@pytest.mark.parametrize(
    "history",
    [
        [{"epoch": 1.0, "loss": 2.0}],
        [{"loss": 2.0}, {"val_loss": 1.0}, {}],
        [{"epoch": 1.0, "loss": float("nan"), "acc@1": float("nan")}, {"epoch": 2.0, "loss": float("inf")}],
        [{"epoch": 1.0}],
        [{"epoch": float(e), "mAP": e / 10, "f1": e / 11, "f1_micro": e / 12} for e in range(300)],
    ],
)
def test_curves_of_what_there_is(tmp_path: Path, history: list[dict[str, float]]) -> None:
    plot_curves(history, tmp_path / "curves.png")
    assert (drawn(tmp_path / "curves.png") < 128).any()


def test_no_epoch_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no epoch"):
        plot_curves([], tmp_path / "curves.png")


@pytest.mark.parametrize("classes", [1, 2, 24, 25, 61, 201, 1000])
def test_confusion_matrices_of_every_size(tmp_path: Path, classes: int) -> None:
    matrix = np.eye(classes, dtype=np.int64) * 9
    matrix[0, -1] += 5
    labels = [f"class {index} with a $very$ long name" for index in range(classes)]
    plot_confusion_matrix(matrix, labels, tmp_path / "matrix.png")
    pixels = drawn(tmp_path / "matrix.png")
    assert max(pixels.shape) < 2500
    assert holds(pixels, (8, 48, 107)) > 200  # the darkest blue: every picture of a class


def test_classes_without_pictures_have_no_row(tmp_path: Path) -> None:
    few, many = np.diag([5, 6]), np.zeros((1000, 1000), np.int64)
    many[[3, 700], [3, 700]] = 5, 6
    plot_confusion_matrix(few, ("a", "b"), tmp_path / "few.png")
    labels = [{3: "a", 700: "b"}.get(index, "?") for index in range(1000)]
    plot_confusion_matrix(many, labels, tmp_path / "many.png")
    np.testing.assert_array_equal(drawn(tmp_path / "few.png"), drawn(tmp_path / "many.png"))
    many[3, 4] = 1  # now there is a column for the others
    plot_confusion_matrix(many, labels, tmp_path / "others.png")
    darkest = (8, 48, 107)  # of the two cells on the diagonal, one has lost a sixth to the others
    assert holds(drawn(tmp_path / "others.png"), darkest) < 0.7 * holds(drawn(tmp_path / "few.png"), darkest)


def test_a_matrix_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="for 3 labels"):
        plot_confusion_matrix(np.eye(2, dtype=np.int64), ("a", "b", "c"), tmp_path / "m.png")
    with pytest.raises(ValueError, match="no picture"):
        plot_confusion_matrix(np.zeros((2, 2), np.int64), ("a", "b"), tmp_path / "m.png")


PICTURE = np.full((50, 60, 3), 77, np.uint8)


@pytest.mark.parametrize(
    ("true", "predicted", "right"),
    [
        (("cat",), ("cat",), True),
        (("cat",), ("dog",), False),
        (("cat", "dog"), ("dog", "cat"), True),
        (("cat", "dog"), ("dog",), False),
        ((), (), True),
        (("cat",), (), False),
        (None, ("cat",), None),
    ],
)
def test_right_is_green_and_wrong_is_red(
    tmp_path: Path, true: tuple[str, ...] | None, predicted: tuple[str, ...], right: bool | None
) -> None:
    plot_predictions([ShownPicture(PICTURE, true, predicted, 0.5)], tmp_path / "p.png")
    pixels = drawn(tmp_path / "p.png")
    assert (holds(pixels, GREEN) > 0, holds(pixels, RED) > 0) == (right is True, right is False)
    assert holds(pixels, (77, 77, 77)) > 10_000


@pytest.mark.parametrize("count", [1, 3, 26])
def test_grids_of_every_size_show_every_picture(tmp_path: Path, count: int) -> None:
    shades = [(10 + 3 * index, 0, 200) for index in range(count)]
    pictures = [ShownPicture(np.full((20, 20, 3), shade, np.uint8), None, ("cat",), 1.0) for shade in shades]
    plot_predictions(pictures, tmp_path / "p.png")
    pixels = drawn(tmp_path / "p.png")
    assert all(holds(pixels, shade) > 1000 for shade in shades)
    with pytest.raises(ValueError, match="no pictures"):
        plot_predictions([], tmp_path / "p.png")


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_a_batch_gets_its_colours_back(tmp_path: Path, color: str) -> None:
    preprocess = Preprocess(resize_size=32, crop_size=(32, 32), color=color)  # type: ignore[arg-type]
    Image.new("RGB", (40, 40), (250, 120, 3)).save(tmp_path / "a.png")
    plot_batch(load(tmp_path / "a.png", preprocess)[None], preprocess, ["$x"], tmp_path / "b.png")
    assert holds(drawn(tmp_path / "b.png"), (250, 120, 3)) > 10_000
    with pytest.raises(ValueError, match="2 titles for 1 pictures"):
        plot_batch(np.zeros((1, 3, 8, 8), np.float32), preprocess, ["a", "b"], tmp_path / "b.png")


def test_odd_labels_do_no_harm(tmp_path: Path) -> None:
    labels = ("$\\frac{", "猫", "a\\b_c^d")
    plot_predictions([ShownPicture(PICTURE, (label,), (label,), 0.5) for label in labels], tmp_path / "p.png")
    plot_confusion_matrix(np.eye(3, dtype=np.int64), labels, tmp_path / "m.png")


def test_files_are_written_over_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "p.png").write_text("old")
    plot_predictions([ShownPicture(PICTURE, None, ("cat",), 0.5)], tmp_path / "p.png")
    drawn(tmp_path / "p.png")
    with pytest.raises(OutputError, match="does not exist"):
        plot_predictions([ShownPicture(PICTURE, None, ("cat",), 0.5)], tmp_path / "no" / "p.png")
    assert [path.name for path in tmp_path.iterdir()] == ["p.png"]


def test_pyplot_is_never_loaded(tmp_path: Path) -> None:
    code = (
        "import sys; from edgecls.plots import plot_curves; assert 'matplotlib' not in sys.modules; "
        f"plot_curves([{{'loss': 1.0}}], {str(tmp_path / 'c.png')!r}); print('matplotlib.pyplot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"False\n"
