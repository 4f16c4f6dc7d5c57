from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from edgecls.evaluation.comparison import Comparison, Row, _recommend, compare_files
from edgecls_runtime import Classifier, manifest
from edgecls_runtime.errors import DataError, ImageError, ModelError
from edgecls_runtime.golden import draw_picture
from edgecls_runtime.manifest import Source

PICTURES = [draw_picture(number) for number in range(4)]


def row(name: str, p50_ms: float, *, size: int = 100, accuracy: float | None = None, agreement: float = 100) -> Row:
    return Row(
        path=f"models/{name}",
        precision="fp32",
        size_bytes=size,
        p50_ms=p50_ms,
        accuracy=accuracy,
        agreement=agreement,
        mean_cosine=1.0,
        max_relative_error=0.0,
    )


@pytest.mark.parametrize(
    ("rows", "best"),
    [
        ([row("a", 10), row("b", 5)], 1),
        ([row("a", 10), row("b", 5, agreement=98)], 0),
        ([row("a", 10, accuracy=80), row("b", 5, accuracy=79.5, agreement=90)], 1),  # labels count, not agreement
        ([row("a", 10, accuracy=80), row("b", 5, accuracy=78.9, agreement=100)], 0),
        ([row("a", 10, accuracy=80), row("b", 9, accuracy=85, agreement=90)], 1),
        ([row("a", 10), row("b", 10.2, size=25)], 1),  # as quick, and smaller
        ([row("a", 10), row("b", 12, size=25)], 0),
        ([row("a", 10), row("b", 5), row("c", 4)], 2),
    ],
)
def test_the_quickest_within_the_allowed_loss_is_recommended(rows: list[Row], best: int) -> None:
    assert _recommend(rows, max_drop=1.0) == best
    comparison = Comparison(
        rows=tuple(rows), images=1, origin="x", provider="CPU", max_drop=1.0, recommended=_recommend(rows, 1.0)
    )
    assert f"take {Path(rows[best].path).name}" in comparison.recommendation


def test_a_sentence_says_why() -> None:
    rows = (row("a", 10, accuracy=80), row("b", 4, size=27, accuracy=79.5, agreement=97))
    comparison = Comparison(rows=rows, images=9, origin="x", provider="CPU", max_drop=1.0, recommended=1)
    assert comparison.recommendation == (
        "on this machine take b: 2.50 x as quick as a, 27% of its size, acc@1 -0.50 points"
    )
    assert "9 pictures (x) on CPU, batch 1, in turn" in str(comparison)


def test_a_file_beside_itself(models: Path) -> None:
    done: list[int] = []
    with Classifier.load(models / "tiny.onnx") as classifier:
        best = [int(classifier.logits(picture).argmax()) for picture in PICTURES]
    comparison = compare_files(
        [models / "tiny.onnx", models / "tiny.onnx"],
        PICTURES,
        origin="golden pictures",
        targets=[best[0], *(index + 1 for index in best[1:])],
        progress=done.append,
    )
    assert sum(done) == 4
    for found in comparison.rows:
        assert (found.accuracy, found.agreement, found.max_relative_error) == (25, 100, 0)
        assert found.mean_cosine == pytest.approx(1)
        assert found.p50_ms > 0
        assert found.size_bytes == (models / "tiny.onnx").stat().st_size
    document = json.loads(json.dumps(comparison.to_document()))
    assert document["rows"][0] == dataclasses.asdict(comparison.rows[0])


def test_differences_are_those_of_the_logits(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, calls = Classifier.run, []

    def run(self: Classifier, batch: np.ndarray) -> np.ndarray:
        logits = right(self, batch)
        calls.append(self)
        return logits if self.path == str(first) else -logits  # the second file answers with the opposite

    monkeypatch.setattr(Classifier, "run", run)
    first = models / "tiny.onnx"
    shutil.copy(first, tmp_path / "second.onnx")
    comparison = compare_files([first, tmp_path / "second.onnx"], PICTURES, origin="x")
    assert len(calls) == 2 * (4 + 4 * 5)  # pictures, and the warm-up of each turn
    assert min(found.agreement for found in comparison.rows) < 100
    assert max(found.max_relative_error for found in comparison.rows) == pytest.approx(2)
    assert min(found.mean_cosine for found in comparison.rows) == pytest.approx(-1)


def test_files_of_one_name_are_told_apart(models: Path, tmp_path: Path) -> None:
    shutil.copy(models / "tiny.onnx", tmp_path / "tiny.onnx")
    lines = str(compare_files([models / "tiny.onnx", tmp_path / "tiny.onnx"], PICTURES, origin="x")).splitlines()
    assert [line.split()[0] for line in lines[1:3]] == [str(models / "tiny.onnx"), str(tmp_path / "tiny.onnx")]
    assert str(models / "tiny.onnx") in lines[-1] or str(tmp_path / "tiny.onnx") in lines[-1]


@pytest.mark.parametrize(
    ("arch", "said"), [("vgg16", "another model (vgg16) than"), (None, "made of other weights than")]
)
def test_another_model_is_compared_and_it_is_said(models: Path, tmp_path: Path, arch: str | None, said: str) -> None:
    document = manifest.read(models / "tiny.onnx")
    assert document is not None
    other = dataclasses.replace(document, arch=arch or document.arch, source=Source(weights="x", sha256="1" * 64))
    manifest.write(other, models / "tiny.onnx", tmp_path / "other.onnx")
    comparison = compare_files([models / "tiny.onnx", tmp_path / "other.onnx"], PICTURES, origin="x")
    assert f"note: {tmp_path / 'other.onnx'} is {said} {models / 'tiny.onnx'}" in str(comparison)
    assert compare_files([models / "tiny.onnx", models / "fixed4.onnx"], PICTURES, origin="x").notes == ()


def test_what_cannot_be_compared_is_refused(models: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="has other labels than"):
        compare_files([models / "tiny.onnx", models / "foreign.onnx"], PICTURES, origin="x")
    with pytest.raises(ModelError, match="has other activation than"):
        compare_files([models / "tiny.onnx", models / "multilabel.onnx"], PICTURES, origin="x")
    with pytest.raises(DataError, match=r"x: acc@1 is not what a model of several labels is measured by"):
        compare_files([models / "multilabel.onnx"], PICTURES, targets=[0] * 4, origin="x")
    with pytest.raises(DataError, match="x: holds no pictures"):
        compare_files([models / "tiny.onnx"], [], origin="x")
    with pytest.raises(ImageError, match="no such file"):
        compare_files([models / "tiny.onnx"], [tmp_path / "absent.jpg"], origin="x")
