from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from edgecls.benchmark.accuracy import read_accuracies
from edgecls_runtime.errors import BenchmarkError

COMPARISON = {
    "format": "edgecls.comparison/1",
    "rows": [{"path": "runs/a.onnx", "accuracy": 86.5}, {"path": "/x/b.onnx", "accuracy": 87}],
}
EVALUATION = {"format": "edgecls.evaluation/1", "model": "there/c.onnx", "metrics": {"acc@1": 81.25, "acc@5": 99.0}}


def written(folder: Path, *documents: Any) -> list[Path]:
    paths = []
    for index, document in enumerate(documents):
        paths.append(folder / f"{index}.json")
        paths[-1].write_text(document if isinstance(document, str) else json.dumps(document), "utf-8")
    return paths


def test_both_kinds_of_document_by_the_names_of_files(tmp_path: Path) -> None:
    found = read_accuracies(written(tmp_path, COMPARISON, EVALUATION))
    assert found == {"a.onnx": 86.5, "b.onnx": 87.0, "c.onnx": 81.25}
    assert read_accuracies([]) == {}


def test_rows_without_an_accuracy_are_left_out(tmp_path: Path) -> None:
    rows = [{"path": "a.onnx", "accuracy": None}, {"path": "b.onnx", "accuracy": 1.0}]
    assert read_accuracies(written(tmp_path, COMPARISON | {"rows": rows})) == {"b.onnx": 1.0}


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "is not valid JSON"),
        ("[]", "its format is None"),
        ({"format": "edgecls.bench/1"}, "its format is 'edgecls.bench/1'"),
        ({"format": "edgecls.comparison/1"}, "is damaged: KeyError: 'rows'"),
        (COMPARISON | {"rows": 7}, "is damaged"),
        (COMPARISON | {"rows": [{"path": 7, "accuracy": 1}]}, "is damaged"),
        (COMPARISON | {"rows": [{"path": "a", "accuracy": "high"}]}, "is damaged"),
        (COMPARISON | {"rows": [{"path": "a", "accuracy": 101}]}, "has an acc@1 of 101.0"),
        ('{"format": "edgecls.evaluation/1", "model": "a", "metrics": {"acc@1": NaN}}', "has an acc@1 of nan"),
        (COMPARISON | {"rows": [{"path": "a", "accuracy": None}]}, "knows no acc@1"),
        (EVALUATION | {"metrics": {"mAP": 3.0}}, "knows no acc@1"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, document: Any, said: str) -> None:
    with pytest.raises(BenchmarkError, match="0.json: ") as caught:
        read_accuracies(written(tmp_path, document))
    assert said in caught.value.cause
    assert "edgecls compare" in caught.value.remedy


def test_two_files_that_contradict_one_another(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"says acc@1 80 % of 'c.onnx', and another file 81.25 %"):
        read_accuracies(written(tmp_path, EVALUATION, EVALUATION | {"metrics": {"acc@1": 80.0}}))
    assert read_accuracies(written(tmp_path, EVALUATION, EVALUATION)) == {"c.onnx": 81.25}


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match="cannot be read"):
        read_accuracies([tmp_path / "nothing.json"])
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BenchmarkError, match="is not valid JSON"):
        read_accuracies([tmp_path / "bytes.json"])
