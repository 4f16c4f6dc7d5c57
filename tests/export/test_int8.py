from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

from edgecls_export.calibration import calibrate
from edgecls_export.calibration_images import CalibrationImages
from edgecls_export.calibrators import MinMax
from edgecls_export.graph import constants, producers, set_constant
from edgecls_export.int8 import SCHEMES, Int8Report, int8_from_fp32, prepare
from edgecls_export.pipeline import ModelCard
from edgecls_runtime.errors import ExportError

Run = Callable[[object, np.ndarray], np.ndarray]
Quantize = Callable[..., tuple[Path, Int8Report]]


@pytest.fixture
def quantize(graph_path: Path, images: CalibrationImages, card: ModelCard, tmp_path: Path) -> Quantize:
    def quantized(scheme: str, **options: object) -> tuple[Path, Int8Report]:
        prepared, target = tmp_path / f"{scheme}.prepared.onnx", tmp_path / f"{scheme}.onnx"
        prepare(graph_path, prepared, scheme=scheme)
        symmetric = SCHEMES[scheme].symmetric
        ranges = calibrate(prepared, images, preprocess=card.preprocess, method=MinMax(), symmetric=symmetric)
        return target, int8_from_fp32(prepared, target, ranges.values, scheme=scheme, **options)  # type: ignore[arg-type]

    return quantized


def as_run(path: Path, tmp_path: Path) -> Counter[str]:
    """What ONNX Runtime's CPU provider makes of a graph, by operator."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return Counter(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_answers_stay_close(scheme: str, quantize: Quantize, graph_path: Path, batch: np.ndarray, run: Run) -> None:
    path, report = quantize(scheme)
    expected, got = run(graph_path, batch), run(path, batch)
    difference = np.abs(got - expected).max() / np.abs(expected).max()
    assert 1e-4 < difference < 0.05
    assert report.quantized == (
        *("stem_node", "expand_node", "depthwise_node", "excite_node", "project_node", "head_node"),
    )
    assert str(report) == f"6 layers in 8-bit integers for {scheme}"
    assert not onnx.load(path).metadata_props


@pytest.mark.parametrize("scheme", SCHEMES)
def test_layers_that_share_their_weights(
    scheme: str, quantize: Quantize, graph: onnx.ModelProto, graph_path: Path, batch: np.ndarray, run: Run
) -> None:
    """A module that is used twice."""
    again = helper.make_node("Conv", ["excite", "excite.w", "excite.b"], ["twice"], name="again_node")
    names = [node.name for node in graph.graph.node]
    graph.graph.node.insert(names.index("gate_node"), again)
    graph.graph.node[names.index("gate_node") + 1].input[0] = "twice"
    onnx.save(graph, graph_path)
    path, report = quantize(scheme)
    assert {"excite_node", "again_node"} <= set(report.quantized)
    expected = run(graph_path, batch)
    assert np.abs(run(path, batch) - expected).max() < 0.05 * np.abs(expected).max()


@pytest.mark.parametrize("transposed", [True, False])
def test_a_channel_of_zeros_keeps_its_bias(
    transposed: bool, quantize: Quantize, graph: onnx.ModelProto, graph_path: Path, batch: np.ndarray, run: Run
) -> None:
    """As pruning leaves it; the scale of its weights is that of nothing."""
    weights = constants(graph)
    for name in ("project.w", "head.w"):
        pruned = weights[name].copy()
        pruned[::2] = 0
        if name == "head.w" and not transposed:
            pruned = pruned.T
            (attribute,) = graph.graph.node[-1].attribute
            attribute.i = 0
        set_constant(graph, name, pruned)
    set_constant(graph, "head.b", np.float32([0.013, -0.021, 0.034, 0.008, -0.017]))
    onnx.save(graph, graph_path)
    path, _ = quantize("cpu")
    np.testing.assert_allclose(run(path, batch)[:, ::2], [[0.013, 0.034, -0.017]] * len(batch), atol=1e-5)
    np.testing.assert_allclose(run(path, batch), run(graph_path, batch), atol=0.02)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_arithmetic_of_shapes_stays_as_it_is(
    scheme: str, quantize: Quantize, graph: onnx.ModelProto, graph_path: Path, batch: np.ndarray, run: Run
) -> None:
    """As where a class token is made for each picture: with Mul and Concat, which there are in 8 bits, too."""
    graph.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "one"))
    graph.graph.initializer.append(numpy_helper.from_array(np.array([8], np.int64), "eight"))
    head = graph.graph.node.pop()
    head.input[0] = "shaped"
    arithmetic = [
        helper.make_node("Shape", ["pooled"], ["count"], name="count_node", start=0, end=1),
        helper.make_node("Mul", ["count", "one"], ["rows"], name="rows_node"),
        helper.make_node("Concat", ["rows", "eight"], ["shape"], name="shape_node", axis=0),
        helper.make_node("Reshape", ["pooled", "shape"], ["shaped"], name="reshape_node"),
    ]
    graph.graph.node.extend([*arithmetic, head])
    onnx.save(graph, graph_path)
    path, report = quantize(scheme)
    assert len(report.quantized) == 6
    kept = {node.name: node for node in onnx.load(path).graph.node}
    assert list(kept["rows_node"].input) == ["count", "one"]
    assert list(kept["shape_node"].input) == ["rows", "eight"]
    expected = run(graph_path, batch)
    assert np.abs(run(path, batch) - expected).max() < 0.05 * np.abs(expected).max()


def test_on_the_cpu_nothing_is_left_in_float(quantize: Quantize, tmp_path: Path) -> None:
    path, _ = quantize("cpu")
    assert as_run(path, tmp_path) == {
        "QuantizeLinear": 1,  # the picture
        "QLinearConv": 5,
        "QLinearAdd": 3,  # the residual, and one a hard sigmoid
        "QLinearMul": 2,
        "QLinearGlobalAveragePool": 2,
        "Flatten": 1,
        "QGemm": 1,  # which returns float
    }


def test_the_front_stays_in_float_where_integers_do_not_pay(
    fronted: onnx.ModelProto, graph_path: Path, quantize: Quantize, batch: np.ndarray, run: Run, tmp_path: Path
) -> None:
    onnx.save(fronted, graph_path)
    path, report = quantize("cpu")
    assert report.front == report.kept == ("stem_node", "depthwise_node", "project_node")
    assert report.quantized == ("expand_node", "shrink_node", "widen_node", "head_node")
    difference = np.abs(run(path, batch) - run(fronted, batch)).max() / np.abs(run(fronted, batch)).max()
    assert 1e-4 < difference < 0.05
    found = as_run(path, tmp_path)
    assert found["QuantizeLinear"] == 1, "one way into the integers"
    assert (found["Conv"] + found["FusedConv"], found["QLinearConv"], found["QGemm"]) == (3, 3, 1)
    assert quantize("tensorrt")[1].front == ()


def test_for_tensorrt_zero_points_are_zero_and_biases_float(quantize: Quantize) -> None:
    path, _ = quantize("tensorrt")
    model = onnx.load(path)
    values, made = constants(model), producers(model.graph.node)
    for node in model.graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            assert not values[node.input[2]].any()
            assert values[node.input[2]].dtype == np.int8
        if node.op_type in ("Conv", "Gemm"):
            assert [made[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
            assert values[node.input[2]].dtype == np.float32
    (add,) = (node for node in model.graph.node if node.op_type == "Add")
    sources = [made[name].op_type for name in add.input]
    assert sources == ["Conv", "DequantizeLinear"], "the residual is quantized, the other comes from its Conv in float"
    assert made["logits"].op_type == "Gemm"


def test_weights_have_a_scale_for_each_channel(quantize: Quantize, graph: onnx.ModelProto) -> None:
    before = constants(graph)
    for scheme, limit in (("cpu", 127), ("cpu-any", 64), ("tensorrt", 127)):
        path, _ = quantize(scheme)
        values = constants(onnx.load(path))
        for name in ("stem.w", "depthwise.w", "head.w"):
            integers, scale = values[f"{name}_quantized"], values[f"{name}_scale"]
            assert integers.dtype == np.int8
            assert scale.shape == (len(integers),)
            largest = np.abs(integers.astype(int).reshape(len(integers), -1)).max(axis=1)
            assert (largest <= limit).all()
            assert (largest >= limit - 1).all()
            back = integers * scale.reshape(-1, *[1] * (integers.ndim - 1))
            assert np.abs(back - before[name]).max() <= scale.max() * 0.51


def test_a_range_decides_the_scale(
    graph_path: Path, tmp_path: Path, images: CalibrationImages, card: ModelCard
) -> None:
    prepare(graph_path, tmp_path / "p.onnx", scheme="cpu")
    ranges = dict(calibrate(tmp_path / "p.onnx", images, preprocess=card.preprocess).values)
    ranges["input"], ranges["residual"] = (-1.0, 4.1), (-2.55, 0.0)
    int8_from_fp32(tmp_path / "p.onnx", tmp_path / "q.onnx", ranges, scheme="cpu")
    values = constants(onnx.load(tmp_path / "q.onnx"))
    assert (values["input_scale"], values["input_zero_point"]) == (pytest.approx(0.02), 50)
    assert (values["residual_scale"], values["residual_zero_point"]) == (pytest.approx(0.01), 255)


def test_layers_can_stay_in_float(quantize: Quantize, batch: np.ndarray, graph_path: Path, run: Run) -> None:
    for scheme in ("cpu", "tensorrt"):
        path, report = quantize(scheme, exclude=["depthwise_node", "head_node"])
        assert report.kept == ("depthwise_node", "head_node")
        assert len(report.quantized) == 4
        assert str(report).endswith("in float: depthwise_node, head_node")
        weights = constants(onnx.load(path))
        assert weights["depthwise.w"].dtype == weights["head.w"].dtype == np.float32
        np.testing.assert_allclose(run(path, batch), run(graph_path, batch), atol=0.2)
    with pytest.raises(ExportError, match="has no node 'nowhere'"):
        quantize("cpu", exclude=["nowhere"])


def test_what_is_quantized_already_is_refused(quantize: Quantize, tmp_path: Path) -> None:
    path, _ = quantize("cpu")
    for call in (
        lambda: prepare(path, tmp_path / "again.onnx", scheme="cpu"),
        lambda: int8_from_fp32(path, tmp_path / "again.onnx", {}, scheme="cpu"),
    ):
        with pytest.raises(ExportError, match=r"cpu\.onnx: is quantized already \(QuantizeLinear\)"):
            call()
    assert not (tmp_path / "again.onnx").exists()


def test_ranges_of_another_graph_are_refused(graph_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="there is no range for 'input', the input of stem_node"):
        int8_from_fp32(graph_path, tmp_path / "q.onnx", {"x": (0.0, 1.0)}, scheme="tensorrt")


def saturating(batch: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Multiply as x86's ``vpmaddubsw`` does: two products of uint8 and int8 are added in 16 bits, up to 32,767."""
    products = batch.astype(np.int32)[:, None, :] * weights.astype(np.int32)[None]
    pairs = products[..., 0::2] + products[..., 1::2]
    return np.asarray(np.clip(pairs, -32768, 32767).sum(axis=-1))


def test_a_tensor_of_unknown_type_wants_a_range(graph: onnx.ModelProto, graph_path: Path, tmp_path: Path) -> None:
    """It may be float; to leave it as it is would be silent."""
    graph.opset_import.append(helper.make_opsetid("elsewhere", 1))
    head = graph.graph.node.pop()
    head.input[0] = "doubled"
    graph.graph.node.extend(
        [
            helper.make_node("Mystery", ["pooled"], ["hidden"], name="mystery_node", domain="elsewhere"),
            helper.make_node("Mul", ["hidden", "hidden"], ["doubled"], name="doubled_node"),
            head,
        ]
    )
    onnx.save(graph, graph_path)
    made = [name for node in graph.graph.node for name in node.output]
    ranges = dict.fromkeys(["input", *made], (-1.0, 1.0))
    del ranges["hidden"]
    with pytest.raises(ExportError, match="there is no range for 'hidden', the input of doubled_node"):
        int8_from_fp32(graph_path, tmp_path / "m.onnx", ranges, scheme="cpu")


def test_seven_bits_of_weight_cannot_saturate(quantize: Quantize) -> None:
    """On x86 without VNNI. The largest activations there can be, against the weights that were made."""
    for scheme, saturates in (("cpu", True), ("cpu-any", False)):
        path, _ = quantize(scheme)
        weights = constants(onnx.load(path))["expand.w_quantized"][:, :, 0, 0]
        largest = np.where(weights >= 0, 255, 0).astype(np.uint8)
        exact = (largest.astype(np.int32) * weights).sum(axis=1)
        wrong = saturating(largest, weights)[np.arange(len(weights)), np.arange(len(weights))] != exact
        assert wrong.any() == saturates, scheme


def test_a_scheme_gives_its_reason() -> None:
    assert set(SCHEMES) == {"cpu", "cpu-any", "tensorrt", "cuda"}
    assert all(len(scheme.reason) > 80 for scheme in SCHEMES.values())
    assert SCHEMES["cpu-any"].reduce_range
    assert SCHEMES["cpu-any"].symmetric == SCHEMES["cpu"].symmetric


@pytest.mark.parametrize("scheme", ["cpu", "tensorrt"])
def test_a_layer_without_bias(
    scheme: str, graph: onnx.ModelProto, graph_path: Path, quantize: Quantize, batch: np.ndarray, run: Run
) -> None:
    for node in graph.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            del node.input[2:]
    onnx.save(graph, graph_path)
    path, report = quantize(scheme)
    assert len(report.quantized) == 6
    np.testing.assert_allclose(run(path, batch), run(graph_path, batch), atol=0.1)


def test_weights_that_are_all_zero(
    graph: onnx.ModelProto, graph_path: Path, quantize: Quantize, batch: np.ndarray, run: Run
) -> None:
    (weight,) = (item for item in graph.graph.initializer if item.name == "project.w")
    weight.CopyFrom(numpy_helper.from_array(np.zeros((8, 16, 1, 1), np.float32), "project.w"))
    onnx.save(graph, graph_path)
    path, _ = quantize("cpu")
    np.testing.assert_allclose(run(path, batch), run(graph_path, batch), atol=0.1)
