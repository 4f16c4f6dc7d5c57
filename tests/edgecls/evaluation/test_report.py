from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("torchmetrics", reason="metrics need the training packages")

from edgecls.data import Sample
from edgecls.evaluation.figures import evaluate
from edgecls.evaluation.predictor import Predictor
from edgecls.evaluation.report import write_evaluation
from edgecls_runtime import Preprocess

PREPROCESS = Preprocess(resize_size=8, crop_size=(8, 8))


def first(batch: np.ndarray) -> np.ndarray:
    """Take everything for the first class."""
    return np.tile(np.array([[1.0, 0.0]], np.float32), (len(batch), 1))


def test_names_that_are_not_utf_8_are_written_as_they_are_in_the_other_files(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"k\xe4fer.png")
    Image.new("RGB", (8, 8)).save(path)
    predictor = Predictor("first", ("ant", "bee"), PREPROCESS, activation="identity", thresholds=None, run=first)
    evaluation = evaluate(predictor, [Sample(path, (1,))])
    write_evaluation(evaluation, PREPROCESS, tmp_path)
    document = json.loads((tmp_path / "evaluation.json").read_text("utf-8"))
    assert document["mistakes"][0]["path"] == str(path)
    evaluation.predictions.write(tmp_path / "answers.csv", root=tmp_path)
    assert (tmp_path / "answers.csv").read_text("utf-8").splitlines()[1].startswith(r"k\udce4fer.png,ant,")
