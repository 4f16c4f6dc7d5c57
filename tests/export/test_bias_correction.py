from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper

from edgecls_export.activations import ObservedGraph
from edgecls_export.bias_correction import correct_biases, measure_shifts
from edgecls_export.calibration import calibrate
from edgecls_export.calibration_images import CalibrationImages
from edgecls_export.calibrators import Percentile
from edgecls_export.graph import constants, set_constant
from edgecls_export.int8 import SCHEMES, int8_from_fp32, prepare
from edgecls_export.noise import rank_by_noise
from edgecls_export.pipeline import ModelCard

Run = Callable[[object, np.ndarray], np.ndarray]


@pytest.fixture
def run() -> Run:
    """Run a graph with integers as they are meant, simulated in float: x86 without VNNI has others, which saturate."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL

    def run_graph(model: object, batch: np.ndarray) -> np.ndarray:
        content = model.SerializeToString() if isinstance(model, onnx.ModelProto) else str(model)
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {session.get_inputs()[0].name: batch})[0])

    return run_graph


def in_need(graph: onnx.ModelProto) -> None:
    """Give the pointwise layers one large weight a channel: the small ones beside it all round, and all to one side."""
    for name in ("expand.w", "project.w"):
        weights = constants(graph)[name].copy()
        channels = weights.reshape(len(weights), -1)
        channels[:] = 0.0035 * np.abs(channels).max() * np.sign(channels.mean(axis=1, keepdims=True))
        channels[np.arange(len(channels)), np.arange(len(channels)) % channels.shape[1]] = 0.9
        set_constant(graph, name, weights)


@pytest.mark.parametrize("scheme", ["cpu", "tensorrt"])
def test_it_takes_the_shift_out_of_every_layer(
    scheme: str,
    graph: onnx.ModelProto,
    tmp_path: Path,
    images: CalibrationImages,
    card: ModelCard,
    run: Run,
    batch: np.ndarray,
) -> None:
    in_need(graph)
    onnx.save(graph, tmp_path / "m.onnx")
    prepared, path = tmp_path / "prepared.onnx", tmp_path / "q.onnx"
    prepare(tmp_path / "m.onnx", prepared, scheme=scheme)
    symmetric = SCHEMES[scheme].symmetric
    method = Percentile(99.0)  # clips: the means move
    ranges = calibrate(prepared, images, preprocess=card.preprocess, method=method, symmetric=symmetric).values
    int8_from_fp32(prepared, path, ranges, scheme=scheme)
    floats, expected = onnx.load(prepared), run(tmp_path / "m.onnx", batch)
    before = run(path, batch)
    calls: list[tuple[int, int]] = []
    shifts = measure_shifts(
        floats, onnx.load(path), images.sources, card.preprocess, progress=lambda *done: calls.append(done)
    )
    assert calls[-1] == (7, 7)
    assert set(shifts) == {
        *("stem_node", "expand_node", "depthwise_node", "excite_node", "project_node", "head_node"),
    }

    corrected = onnx.load(prepared)
    correct_biases(corrected, shifts)
    onnx.save(corrected, prepared)
    int8_from_fp32(prepared, path, ranges, scheme=scheme)
    after = run(path, batch)
    bias_before, bias_after = (np.abs((got - expected).mean(axis=0)).mean() for got in (before, after))
    assert bias_after < 0.5 * bias_before
    assert np.abs(after - expected).mean() < 0.8 * np.abs(before - expected).mean()

    again = measure_shifts(floats, onnx.load(path), images.sources, card.preprocess)
    for name, shift in again.items():  # a layer's own share depends on no bias, so there is nothing to repeat
        np.testing.assert_allclose(shift, shifts[name], atol=1e-5)


def test_a_shift_is_the_difference_of_means(
    graph_path: Path, tmp_path: Path, images: CalibrationImages, card: ModelCard, batch: np.ndarray
) -> None:
    """Of the first layer, whose input both sides share: against the two graphs themselves, on integer kernels."""
    prepare(graph_path, tmp_path / "p.onnx", scheme="tensorrt")
    ranges = calibrate(tmp_path / "p.onnx", images, preprocess=card.preprocess, symmetric=True).values
    int8_from_fp32(tmp_path / "p.onnx", tmp_path / "q.onnx", ranges, scheme="tensorrt")
    floats, quantized = onnx.load(tmp_path / "p.onnx"), onnx.load(tmp_path / "q.onnx")
    shifts = measure_shifts(floats, quantized, images.sources, card.preprocess)
    means = [ObservedGraph(model, ["stem"]).run(batch)["stem"].mean(axis=(0, 2, 3)) for model in (quantized, floats)]
    np.testing.assert_allclose(shifts["stem_node"], means[0] - means[1], atol=2e-4)


@pytest.mark.parametrize("size", [2, 4, 8, 16])
def test_a_fixed_batch_counts_every_picture_once(
    size: int, graph_path: Path, tmp_path: Path, images: CalibrationImages, card: ModelCard
) -> None:
    """Seven pictures: the last batch is not full, or the only one has as many pictures as a layer has channels."""
    prepare(graph_path, tmp_path / "p.onnx", scheme="cpu")
    ranges = calibrate(tmp_path / "p.onnx", images, preprocess=card.preprocess).values
    int8_from_fp32(tmp_path / "p.onnx", tmp_path / "q.onnx", ranges, scheme="cpu")
    floats, quantized = onnx.load(tmp_path / "p.onnx"), onnx.load(tmp_path / "q.onnx")
    free = measure_shifts(floats, quantized, images.sources, card.preprocess)
    ranking = rank_by_noise(floats, quantized, images.sources, card.preprocess)
    for info in (*floats.graph.input, *floats.graph.output):
        info.type.tensor_type.shape.dim[0].dim_value = size
    fixed = measure_shifts(floats, quantized, images.sources, card.preprocess)
    assert fixed.keys() == free.keys()
    for name, shift in fixed.items():
        np.testing.assert_allclose(shift, free[name], atol=1e-6)
    for layer, expected in zip(rank_by_noise(floats, quantized, images.sources, card.preprocess), ranking, strict=True):
        assert layer.node == expected.node
        assert layer.sqnr_db == pytest.approx(expected.sqnr_db, abs=1e-3)


def test_the_shift_is_subtracted_once_and_from_that_layer_alone(graph: onnx.ModelProto) -> None:
    shared = graph.graph.node[2]
    assert shared.name == "expand_node"
    graph.graph.node[4].input[2] = "expand.b"  # two layers share a bias
    before = constants(graph)
    correct_biases(graph, {"expand_node": np.arange(16, dtype=np.float32)})
    onnx.checker.check_model(graph)
    after = constants(graph)
    biases = {node.name: node.input[2] for node in graph.graph.node if node.op_type == "Conv"}
    np.testing.assert_array_equal(after[biases["expand_node"]], before["expand.b"] - np.arange(16, dtype=np.float32))
    np.testing.assert_array_equal(after[biases["depthwise_node"]], before["expand.b"])


def test_layers_without_bias_get_one_and_gemm_counts_its_beta(
    graph: onnx.ModelProto, batch: np.ndarray, run: Run
) -> None:
    stem, head = graph.graph.node[0], graph.graph.node[-1]
    del stem.input[2:]
    head.attribute.append(helper.make_attribute("beta", 0.5))
    shift = np.arange(5, dtype=np.float32)
    before = run(graph, batch)
    correct_biases(graph, {"head_node": shift})
    np.testing.assert_allclose(run(graph, batch), before - shift, atol=1e-5)
    correct_biases(graph, {"stem_node": np.ones(8, np.float32)})
    onnx.checker.check_model(graph)
    np.testing.assert_array_equal(constants(graph)[graph.graph.node[0].input[2]], -np.ones(8))


def test_nothing_quantized_nothing_measured(graph: onnx.ModelProto, images: CalibrationImages, card: ModelCard) -> None:
    before = graph.SerializeToString(deterministic=True)
    assert measure_shifts(graph, graph, images.sources, card.preprocess) == {}
    correct_biases(graph, {})
    assert graph.SerializeToString(deterministic=True) == before


def test_the_graph_is_as_it_was(graph_path: Path, tmp_path: Path, images: CalibrationImages, card: ModelCard) -> None:
    prepare(graph_path, tmp_path / "p.onnx", scheme="cpu")
    ranges = calibrate(tmp_path / "p.onnx", images, preprocess=card.preprocess).values
    int8_from_fp32(tmp_path / "p.onnx", tmp_path / "q.onnx", ranges, scheme="cpu")
    floats = onnx.load(tmp_path / "p.onnx")
    assert measure_shifts(floats, onnx.load(tmp_path / "q.onnx"), images.sources, card.preprocess)
    assert floats == onnx.load(tmp_path / "p.onnx")
