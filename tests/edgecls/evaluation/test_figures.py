from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torchmetrics", reason="metrics need the training packages")

from edgecls.data import Sample
from edgecls.evaluation.figures import Evaluation, evaluate
from edgecls.evaluation.predictor import Predictor
from edgecls_runtime import Preprocess
from edgecls_runtime.errors import DataError

PREPROCESS = Preprocess(resize_size=10, crop_size=(8, 8), mean=(0, 0, 0), std=(1, 1, 1))
LABELS = ("red", "green", "blue")


def channels(batch: np.ndarray) -> np.ndarray:
    return np.asarray(batch.mean((2, 3)), np.float32)


SINGLE = Predictor("colours", LABELS, PREPROCESS, "identity", None, channels, "nothing")
# Logits that make the scores 0, 0.5 and 1 of the channels 0, 0.5 and 1.
MANY = Predictor("colours", LABELS, PREPROCESS, "sigmoid", (0.6, 0.6, 0.6), lambda batch: 40 * (channels(batch) - 0.5))


def painted(folder: Path, *pictures: tuple[tuple[int, int, int], tuple[int, ...]]) -> list[Sample]:
    samples = []
    for number, (colour, targets) in enumerate(pictures):
        path = folder / f"{number}.png"
        Image.new("RGB", (12, 12), colour).save(path)
        samples.append(Sample(path, targets))
    return samples


@pytest.fixture
def single(tmp_path: Path) -> Evaluation:
    samples = painted(
        tmp_path,
        ((200, 0, 0), (0,)),
        ((0, 200, 0), (0,)),  # wrong, 0.78
        ((0, 250, 0), (1,)),
        ((255, 9, 0), (1,)),  # wrong, 1.0
        ((9, 0, 0), (0,)),
    )
    samples.insert(2, Sample(tmp_path / "gone.png", (2,)))
    return evaluate(SINGLE, samples, batch_size=2)


def test_single_label_by_hand(single: Evaluation, tmp_path: Path) -> None:
    assert (single.images, single.task, single.model) == (5, "single", "colours")
    assert single.metrics["acc@1"] == pytest.approx(60.0)
    assert single.confusion is not None
    assert single.confusion.tolist() == [[2, 1, 0], [1, 1, 0], [0, 0, 0]]
    assert [item.images for item in single.per_class] == [3, 2, 0]
    assert single.per_class[0].recall == pytest.approx(200 / 3)
    assert [item.path.name for item in single.unreadable] == ["gone.png"]
    first, second = single.mistakes
    assert (first.path, first.true, first.predicted, first.label) == (tmp_path / "3.png", ("green",), ("red",), "red")
    assert first.score == 1.0
    assert (second.path.name, second.label, second.score) == ("1.png", "green", pytest.approx(200 / 255))
    assert single.predictions.paths == tuple(tmp_path / f"{number}.png" for number in range(5))


def test_the_table(single: Evaluation, tmp_path: Path) -> None:
    lines = str(single).splitlines()
    assert lines[:2] == ["colours on nothing", "5 pictures, 1 unreadable left out"]
    assert "  acc@1         60.00 %" in lines
    assert "        3   66.67   66.67   66.67  red" in lines
    assert "        0       -       -       -  blue" in lines
    assert lines[-2] == f"  {tmp_path / '3.png'}: is green, taken for red (100.00%)"


def test_the_document_is_json_and_sparse(single: Evaluation, tmp_path: Path) -> None:
    document = json.loads(json.dumps(single.to_document(), allow_nan=False))
    assert document["format"] == "edgecls.evaluation/1"
    assert document["metrics"] == single.metrics
    assert document["classes"][2] == {"label": "blue", "images": 0, "precision": None, "recall": None, "f1": None}
    assert document["confusion"] == [
        {"true": "red", "predicted": "red", "images": 2},
        {"true": "red", "predicted": "green", "images": 1},
        {"true": "green", "predicted": "red", "images": 1},
        {"true": "green", "predicted": "green", "images": 1},
    ]
    assert document["mistakes"][1]["path"] == str(tmp_path / "1.png")
    assert document["unreadable"][0]["error"].endswith("gone.png: no such file")


def test_several_labels_by_hand(tmp_path: Path) -> None:
    samples = painted(
        tmp_path,
        ((255, 255, 0), (0, 1)),  # right
        ((255, 0, 0), (0, 2)),  # blue is missed with 0
        ((0, 255, 255), (2,)),  # green is wrong with 1
        ((0, 0, 0), ()),  # right: none
    )
    done = evaluate(MANY, samples)
    assert (done.task, done.confusion) == ("multilabel", None)
    assert done.metrics["exact_match"] == pytest.approx(50.0)
    assert done.metrics["f1_micro"] == pytest.approx(100 * 8 / 10)  # tp 4, fp 1, fn 1
    assert [item.images for item in done.per_class] == [2, 1, 2]
    missed, wrong = sorted(done.mistakes, key=lambda mistake: mistake.path)
    assert (missed.true, missed.predicted, missed.label) == (("red", "blue"), ("red",), "blue")
    assert missed.score == pytest.approx(0, abs=1e-6)
    assert (wrong.true, wrong.predicted, wrong.label) == (("blue",), ("green", "blue"), "green")
    assert "is red, blue, taken for red (blue 0.00%)" in str(done)


def test_one_class_and_no_mistakes(tmp_path: Path) -> None:
    done = evaluate(SINGLE, painted(tmp_path, ((250, 0, 0), (0,)), ((240, 0, 0), (0,))))
    assert done.metrics["acc@1"] == 100.0
    assert done.mistakes == ()
    assert "mistakes" not in str(done)


def test_many_classes_do_not_flood_the_screen(tmp_path: Path) -> None:
    labels = tuple(f"class {index}" for index in range(1000))

    def run(batch: np.ndarray) -> np.ndarray:
        """The red says which of the classes it is."""
        return np.eye(1000, dtype=np.float32)[np.rint(batch[:, 0, 0, 0] * 255).astype(int)]

    predictor = Predictor("many", labels, PREPROCESS, "identity", None, run)
    pictures = [((index, 0, 0), (index,)) for index in range(30)]
    pictures[7] = ((8, 0, 0), (7,))
    table = str(evaluate(predictor, painted(tmp_path, *pictures))).splitlines()
    rows = [line for line in table if "class " in line and "png" not in line]
    assert len(rows) == 20
    assert rows[0].endswith("0.00    0.00    0.00  class 7") or rows[0].endswith("-    0.00    0.00  class 7")
    assert "the 20 of the lowest F1; --format json has all 1,000" in "\n".join(table)
    few = str(evaluate(predictor, painted(tmp_path, *pictures[:3])))
    assert "997 classes without a picture here not shown" in few


def test_at_most_25_mistakes_equal_ones_in_order(tmp_path: Path) -> None:
    done = evaluate(SINGLE, painted(tmp_path, *[((250, 0, 0), (1,))] * 30))
    assert [mistake.path.name for mistake in done.mistakes] == [f"{index}.png" for index in range(25)]


def test_views_are_passed_on(tmp_path: Path) -> None:
    samples = painted(tmp_path, ((250, 0, 0), (0,)))
    done = evaluate(SINGLE, samples, tta=10)
    assert (done.tta, done.metrics["acc@1"]) == (10, 100.0)
    assert "1 pictures, 10 views each" in str(done)


def test_bad_input(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no pictures to measure on"):
        evaluate(SINGLE, [])
    with pytest.raises(DataError, match="none of the 1 pictures can be read"):
        evaluate(SINGLE, [Sample(tmp_path / "gone.png", (0,))])
    with pytest.raises(DataError, match=r"gone\.png: no such file"):
        evaluate(SINGLE, [Sample(tmp_path / "gone.png", (0,))], strict=True)
    for targets in ((3,), (-1,), (), (0, 1)):
        with pytest.raises(ValueError, match="for 3 labels, single"):
            evaluate(SINGLE, [Sample(tmp_path / "gone.png", targets)])
