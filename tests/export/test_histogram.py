from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from edgecls_export.activations import ObservedGraph, float_tensors
from edgecls_export.calibration_images import CalibrationImages
from edgecls_export.histogram import BINS, Histogram, collect_histograms, count
from edgecls_export.pipeline import ModelCard
from edgecls_runtime.errors import CalibrationError


def test_the_histogram_is_that_of_all_values_at_once(
    graph: onnx.ModelProto, images: CalibrationImages, card: ModelCard, batch: np.ndarray
) -> None:
    names = float_tensors(graph)
    calls: list[tuple[int, int]] = []
    found = collect_histograms(
        ObservedGraph(graph, names), images.sources, card.preprocess, progress=lambda *done: calls.append(done)
    )
    assert calls == [(done, 14) for done in range(1, 15)]
    assert list(found) == list(names)
    for name, values in ObservedGraph(graph, names).run(batch).items():
        histogram = found[name]
        assert histogram.minimum == pytest.approx(min(values.min(), 0), rel=1e-5)
        assert histogram.maximum == pytest.approx(max(values.max(), 0), rel=1e-5)
        assert histogram.counts.sum() == values.size
        direct, _ = np.histogram(values.astype(np.float64), BINS, (-histogram.largest, histogram.largest))
        # A value on an edge may fall to either side: what counts is how far any value moved.
        assert np.abs(np.cumsum(direct) - np.cumsum(histogram.counts)).max() <= max(2, 0.001 * values.size), name


def test_the_order_of_the_pictures_does_not_count(
    graph: onnx.ModelProto, images: CalibrationImages, card: ModelCard
) -> None:
    names = ("stem", "residual", "logits")
    there = collect_histograms(ObservedGraph(graph, names), images.sources, card.preprocess)
    back = collect_histograms(ObservedGraph(graph, names), images.sources[::-1], card.preprocess)
    for name in names:
        assert np.array_equal(there[name].counts, back[name].counts)


def test_a_fixed_batch_counts_no_filling(graph: onnx.ModelProto, images: CalibrationImages, card: ModelCard) -> None:
    free = collect_histograms(ObservedGraph(graph, ("stem",)), images.sources, card.preprocess)["stem"]
    for info in (*graph.graph.input, *graph.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = 4
    fixed = collect_histograms(ObservedGraph(graph, ("stem",)), images.sources, card.preprocess)["stem"]
    assert fixed.counts.sum() == free.counts.sum()
    assert np.abs(np.cumsum(fixed.counts) - np.cumsum(free.counts)).max() <= 2


def test_what_no_picture_made_is_not_cut(graph: onnx.ModelProto, batch: np.ndarray) -> None:
    """As many weights as the fixed batch has pictures; and a layer that sees two halves of each picture."""
    nodes = [
        helper.make_node("Abs", ["head.b"], ["weights"]),
        helper.make_node("Reshape", ["stem", "halves"], ["parts"]),
    ]
    graph.graph.node.extend(nodes)
    graph.graph.initializer.append(numpy_helper.from_array(np.array([-1, 4, 16, 16]), "halves"))
    for info in (*graph.graph.input, *graph.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = 5
    found = ObservedGraph(graph, ("weights", "parts", "logits")).run(batch[:3])
    assert {name: len(value) for name, value in found.items()} == {"weights": 5, "parts": 6, "logits": 3}


def test_magnitudes_fold_the_two_sides() -> None:
    counts = np.zeros(BINS, np.int64)
    counts[0], counts[BINS // 2 - 1], counts[BINS // 2], counts[-1] = 1, 20, 300, 4000
    folded = Histogram(-1.0, 1.0, counts).magnitudes(256)
    assert (folded[0], folded[-1], folded.sum()) == (320, 4001, 4321)


@pytest.mark.parametrize("exponent", [-10, -110, -120, -140])
def test_tiny_values_are_counted_as_any(exponent: int) -> None:
    """From 5e-35 down the factor to bins is beyond float32."""
    values = np.float32([-1, -0.5, 0, 0.25, 1])
    assert np.array_equal(count(np.ldexp(values, exponent), 2.0**exponent), count(values, 1.0))


def test_a_tensor_of_zeros_has_a_histogram(graph: onnx.ModelProto, images: CalibrationImages, card: ModelCard) -> None:
    (bias,) = (item for item in graph.graph.initializer if item.name == "stem.b")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(8, -1e6, np.float32), "stem.b"))
    histogram = collect_histograms(ObservedGraph(graph, ("stem6",)), images.sources, card.preprocess)["stem6"]
    assert (histogram.minimum, histogram.maximum) == (0, 0)
    assert histogram.counts[BINS // 2] == histogram.counts.sum() > 0


def test_a_value_that_is_no_number_is_named(graph: onnx.ModelProto, images: CalibrationImages, card: ModelCard) -> None:
    (bias,) = (item for item in graph.graph.initializer if item.name == "stem.b")
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(8, np.nan, np.float32), "stem.b"))
    with pytest.raises(CalibrationError, match="stem: the float32 graph computes nan"):
        collect_histograms(ObservedGraph(graph, ("stem",)), images.sources, card.preprocess)
