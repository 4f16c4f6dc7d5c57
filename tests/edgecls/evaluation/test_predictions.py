from __future__ import annotations

import csv
import dataclasses
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgecls.evaluation.predictions import Predictions, predict, predict_scores
from edgecls.evaluation.predictor import Predictor
from edgecls_runtime import Preprocess
from edgecls_runtime.errors import DataError, ModelError, OutputError

PREPROCESS = Preprocess(resize_size=10, crop_size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1))


def brightness(batch: np.ndarray) -> np.ndarray:
    """The mean of each channel: what is red is of the first class."""
    return np.asarray(batch.mean((2, 3)), np.float32)


def model(**fields: object) -> Predictor:
    fields = {"activation": "identity", "thresholds": None, "run": brightness} | fields
    return Predictor("colours", ("red", "green", "blue"), PREPROCESS, **fields)  # type: ignore[arg-type]


@pytest.fixture
def pictures(tmp_path: Path) -> list[Path]:
    """Seventeen pictures, each of a red of its own."""
    paths = [tmp_path / f"{index:02}.png" for index in range(17)]
    for index, path in enumerate(paths):
        Image.new("RGB", (12, 12), (15 * index, 3, 0)).save(path)
    return paths


@pytest.mark.parametrize(("batch_size", "workers", "tta"), [(1, 1, 1), (4, 3, 1), (64, 2, 1), (5, 2, 2), (3, 1, 10)])
def test_the_order_is_kept(pictures: list[Path], batch_size: int, workers: int, tta: int) -> None:
    done: list[int] = []
    scores, unreadable = predict_scores(
        model(), pictures, batch_size=batch_size, workers=workers, tta=tta, progress=done.append
    )
    np.testing.assert_allclose(scores[:, 0] * 255, 15 * np.arange(17), atol=1e-3)
    assert unreadable == []
    assert sum(done) == 17
    assert scores.dtype == np.float32


def test_views_are_averaged_as_scores_and_no_run_is_larger_than_asked(tmp_path: Path) -> None:
    pixels = np.zeros((10, 10, 3), np.uint8)
    pixels[:2, :2] = 255  # seen in the upper left corner alone
    Image.fromarray(pixels).save(tmp_path / "corner.png")
    sizes = []

    def run(batch: np.ndarray) -> np.ndarray:
        sizes.append(len(batch))
        return np.asarray(100 * (brightness(batch) - 0.03), np.float32)

    predictor = model(activation="sigmoid", thresholds=(0.5,) * 3, run=run)
    scores, _ = predict_scores(predictor, [tmp_path / "corner.png"], batch_size=4, tta=6)
    # Of the 64 pixels the centre and its mirror image see 1, the corners 4, 2, 2, 0... in rows and columns: by hand.
    seen = np.array([1, 1, 4, 0, 0, 0]) / 64
    np.testing.assert_allclose(scores[0, 0], (1 / (1 + np.exp(-100 * (seen - 0.03)))).mean(), rtol=1e-5)
    assert sizes == [4, 2]


def test_unreadable_pictures_are_named_and_left_out(pictures: list[Path], tmp_path: Path) -> None:
    pictures[3].write_text("no picture")
    pictures[16].unlink()
    scores, unreadable = predict_scores(model(), pictures, batch_size=4)
    assert np.isnan(scores).all(1).nonzero()[0].tolist() == [3, 16]
    assert [item.path for item in unreadable] == [pictures[3], pictures[16]]
    assert "is not a picture of a kind that is read" in str(unreadable[0])
    answered = predict(model(), pictures)
    assert answered.paths == tuple(path for path in pictures if path not in (pictures[3], pictures[16]))
    np.testing.assert_array_equal(answered.scores, np.delete(scores, [3, 16], 0))
    assert str(answered) == "15 pictures answered, 2 unreadable"
    with pytest.raises(DataError, match=r"03\.png: is not a picture") as raised:
        predict(model(), pictures, strict=True)
    assert raised.value.remedy.endswith("without --strict")
    with pytest.raises(DataError, match=r"none of the 1 pictures can be read: .*03\.png"):
        predict(model(), [pictures[3]])
    with pytest.raises(DataError, match="none of the 0 pictures"):
        predict(model(), [])


def test_a_picture_whose_resize_is_refused_is_named(tmp_path: Path) -> None:
    strip = tmp_path / "strip.png"
    Image.new("RGB", (1, 30_000)).save(strip)
    predictor = dataclasses.replace(model(), preprocess=PREPROCESS.replace(resize_size=64))
    _, unreadable = predict_scores(predictor, [strip])
    assert unreadable[0].cause.startswith(f"{strip}: 1x30000 picture, resized: ")


def test_decoding_is_bounded_and_goes_on_while_the_model_runs(
    pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edgecls.evaluation import predictions

    loaded = 0
    lock = threading.Lock()
    real = predictions.load_views

    def counting(*arguments: object) -> np.ndarray:
        nonlocal loaded
        result = real(*arguments)  # type: ignore[arg-type]
        with lock:
            loaded += 1
        return result

    at_runs: list[int] = []

    def slow(batch: np.ndarray) -> np.ndarray:
        deadline = time.monotonic() + 5
        while loaded < min(17, 2 * len(at_runs) + 2 + 4) and time.monotonic() < deadline:
            time.sleep(0.001)  # the next ones come meanwhile
        time.sleep(0.05)
        at_runs.append(loaded)
        return brightness(batch)

    monkeypatch.setattr(predictions, "load_views", counting)
    predict_scores(model(run=slow), pictures, batch_size=2, workers=1)
    # Two are in the run; two a batch and two a worker may be begun.
    assert at_runs == [min(17, 2 * number + 2 + 4) for number in range(9)]


def test_a_failing_model_stops_at_once_and_leaves_no_thread(pictures: list[Path]) -> None:
    def fail(batch: np.ndarray) -> np.ndarray:
        raise ModelError("colours: failed", "Mend it.")

    with pytest.raises(ModelError, match="colours: failed"):
        predict_scores(model(run=fail), pictures, batch_size=2)
    assert not [thread for thread in threading.enumerate() if thread.name == "edgecls"]


def rows_of(path: Path) -> list[list[str]]:
    return list(csv.reader(path.read_text("utf-8").splitlines()))


def test_csv_of_one_label_a_picture(tmp_path: Path) -> None:
    scores = np.array([[0.125, 0.5, 0.375], [0.1, 0.8, 0.1]], np.float32)
    made = Predictions((tmp_path / "a b.png", Path("/elsewhere/c.png")), scores, ("x", "y,z", "ü"), "single", None)
    made.write(tmp_path / "out.csv", root=tmp_path)
    assert rows_of(tmp_path / "out.csv") == [
        ["id", "label", "score", "label_2", "score_2", "label_3", "score_3"],
        ["a b.png", "y,z", "0.5", "ü", "0.375", "x", "0.125"],
        ["/elsewhere/c.png", "y,z", "0.8", "x", "0.1", "ü", "0.1"],
    ]
    with pytest.raises(OutputError, match="exists already"):
        made.write(tmp_path / "out.csv", root=tmp_path)
    made.write(tmp_path / "out.csv", root=tmp_path, force=True)


def test_csv_has_five_labels_at_most(tmp_path: Path) -> None:
    labels = tuple("abcdefg")
    Predictions((tmp_path / "p.png",), np.eye(1, 7, 6, np.float32), labels, "single", None).write(
        tmp_path / "out.csv", root=tmp_path
    )
    assert rows_of(tmp_path / "out.csv")[1] == ["p.png", "g", "1.0", "a", "0.0", "b", "0.0", "c", "0.0", "d", "0.0"]


def test_csv_of_several_labels(tmp_path: Path) -> None:
    scores = np.array([[0.25, 0.5, 0.75], [0.2, 0.3, 0.4]], np.float32)
    made = Predictions((Path("a.png"), Path("b.png")), scores, ("x", "y", "z"), "multilabel", (0.25, 0.6, 0.7))
    made.write(tmp_path / "out.csv", root=".")
    assert rows_of(tmp_path / "out.csv") == [
        ["id", "labels", "score_x", "score_y", "score_z"],
        ["a.png", "z;x", "0.25", "0.5", "0.75"],
        ["b.png", "", "0.2", "0.3", "0.4"],
    ]
