from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from edgecls_export.calibration_images import CalibrationImages
from edgecls_export.likeness import Likeness
from edgecls_export.pipeline import ModelCard


def test_it_is_the_mean_cosine_of_the_logits(
    graph: onnx.ModelProto,
    graph_path: Path,
    images: CalibrationImages,
    card: ModelCard,
    batch: np.ndarray,
    tmp_path: Path,
    run: Callable[[object, np.ndarray], np.ndarray],
) -> None:
    likeness = Likeness(graph_path, images.sources, card.preprocess)
    assert likeness.measure == "mean cosine of the logits on 7 pictures"
    assert likeness.of(graph_path) == pytest.approx(1)
    (bias,) = (item for item in graph.graph.initializer if item.name == "head.b")
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + np.arange(5, dtype=np.float32), "head.b"))
    onnx.save(graph, tmp_path / "other.onnx")
    a, b = run(graph_path, batch), run(graph, batch)
    expected = ((a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)).mean()
    assert likeness.of(tmp_path / "other.onnx") == pytest.approx(expected)
    assert expected < 0.99


def test_the_difference_is_a_share_of_the_largest_logit(
    graph: onnx.ModelProto,
    graph_path: Path,
    images: CalibrationImages,
    card: ModelCard,
    batch: np.ndarray,
    tmp_path: Path,
    run: Callable[[object, np.ndarray], np.ndarray],
) -> None:
    likeness = Likeness(graph_path, images.sources, card.preprocess)
    assert likeness.difference(graph_path) == 0
    (bias,) = (item for item in graph.graph.initializer if item.name == "head.b")
    shifted = numpy_helper.to_array(bias) + np.float32([0, 0, 0, -2, 0])
    bias.CopyFrom(numpy_helper.from_array(shifted, "head.b"))
    onnx.save(graph, tmp_path / "other.onnx")
    expected = 2 / np.abs(run(graph_path, batch)).max()
    assert likeness.difference(tmp_path / "other.onnx") == pytest.approx(expected, rel=1e-5)
