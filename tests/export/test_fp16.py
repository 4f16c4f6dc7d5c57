from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecls_export.activations import largest_magnitudes
from edgecls_export.fp16 import fp16_from_fp32
from edgecls_export.pipeline import ModelCard
from edgecls_runtime.errors import ExportError

Run = Callable[[object, np.ndarray], np.ndarray]


def types(path: Path) -> dict[str, int]:
    """Element type of every tensor, as an engine that takes types from the graph sees them."""
    graph = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    found = {info.name: info.type.tensor_type.elem_type for info in infos}
    return found | {item.name: item.data_type for item in graph.initializer}


def chain(path: Path, *nodes: onnx.NodeProto, **constants: np.ndarray) -> Path:
    """Nodes from ``input`` to ``logits``, both float32 [N, 4]."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 4]) for name in ("input", "logits")]
    values = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    graph = helper.make_graph(list(nodes), "chain", infos[:1], infos[1:], values)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path


def test_all_is_half_but_the_edges(graph_path: Path, tmp_path: Path, batch: np.ndarray, run: Run) -> None:
    report = fp16_from_fp32(graph_path, tmp_path / "half.onnx")
    assert (report.half, report.kept) == (14, ())
    found = types(tmp_path / "half.onnx")
    assert {name for name, kind in found.items() if kind == TensorProto.FLOAT} == {"input", "logits"}
    operators = [node.op_type for node in onnx.load(tmp_path / "half.onnx").graph.node]
    assert operators.count("Cast") == 2
    assert (operators[0], operators[-1]) == ("Cast", "Cast")
    expected = run(graph_path, batch)
    difference = np.abs(run(tmp_path / "half.onnx", batch) - expected).max() / np.abs(expected).max()
    assert 1e-6 < difference < 5e-3


def test_input_and_output_can_be_half(graph_path: Path, tmp_path: Path, batch: np.ndarray, run: Run) -> None:
    fp16_from_fp32(graph_path, tmp_path / "half.onnx", io_fp16=True)
    assert TensorProto.FLOAT not in types(tmp_path / "half.onnx").values()
    assert "Cast" not in {node.op_type for node in onnx.load(tmp_path / "half.onnx").graph.node}
    half = run(tmp_path / "half.onnx", batch.astype(np.float16))
    assert half.dtype == np.float16
    np.testing.assert_allclose(half, run(graph_path, batch), atol=0.02)


def guarded(eps: float) -> tuple[list[onnx.NodeProto], dict[str, np.ndarray]]:
    """As torch.nn.functional.normalize divides."""
    nodes = [
        helper.make_node("ReduceL2", ["input", "axes"], ["norm"], name="norm_node"),
        helper.make_node("Clip", ["norm", "eps"], ["clipped"], name="clip_node"),
        helper.make_node("Expand", ["clipped", "shape"], ["expanded"], name="expand_node"),
        helper.make_node("Div", ["input", "expanded"], ["unit"], name="div_node"),
        helper.make_node("Relu", ["unit"], ["logits"], name="relu_node"),
    ]
    return nodes, {"axes": np.array([1]), "eps": np.float32(eps), "shape": np.array([1, 4])}


def test_an_epsilon_that_half_takes_for_0_stays_in_float(tmp_path: Path, run: Run) -> None:
    """With all that hands it on, up to the division: a black picture would be 0 / 0."""
    nodes, constants = guarded(1e-12)
    report = fp16_from_fp32(chain(tmp_path / "f.onnx", *nodes, **constants), tmp_path / "half.onnx")
    assert [str(kept) for kept in report.kept] == [
        "clip_node (Clip): constant eps is at most 1e-12, which is 0 in float16",
        "expand_node (Expand): clipped may be so small that it is 0 in float16",
        "div_node (Div): expanded may be so small that it is 0 in float16",
    ]
    assert not run(tmp_path / "half.onnx", np.zeros((2, 4), np.float32)).any()
    nodes, constants = guarded(1e-6)
    report = fp16_from_fp32(chain(tmp_path / "f.onnx", *nodes, **constants), tmp_path / "half.onnx")
    assert report.kept == ()


def test_so_does_one_in_an_attribute_and_small_weights_beside_large_do_not(tmp_path: Path, run: Run) -> None:
    nodes = [
        helper.make_node(
            "ConstantOfShape",
            ["shape"],
            ["eps"],
            name="fill_node",
            value=helper.make_tensor("value", TensorProto.FLOAT, [1], [1e-12]),
        ),
        helper.make_node("Abs", ["input"], ["size"], name="abs_node"),
        helper.make_node("Add", ["size", "eps"], ["positive"], name="add_node"),
        helper.make_node("Div", ["input", "positive"], ["sign"], name="div_node"),
        helper.make_node("MatMul", ["sign", "weight"], ["logits"], name="matmul_node"),
    ]
    weight = np.where(np.eye(4), 1, 1e-12).astype(np.float32)
    path = chain(tmp_path / "f.onnx", *nodes, shape=np.array([1, 4]), weight=weight)
    report = fp16_from_fp32(path, tmp_path / "half.onnx")
    assert [kept.node for kept in report.kept] == ["fill_node", "add_node", "div_node"]
    assert not run(tmp_path / "half.onnx", np.zeros((2, 4), np.float32)).any()


def test_a_node_can_be_kept(graph_path: Path, tmp_path: Path, batch: np.ndarray, run: Run) -> None:
    report = fp16_from_fp32(graph_path, tmp_path / "half.onnx", keep_float=["project_node"])
    assert [str(kept) for kept in report.kept] == ["project_node (Conv): was asked for"]
    found = types(tmp_path / "half.onnx")
    assert (found["project"], found["project.w"]) == (TensorProto.FLOAT, TensorProto.FLOAT)
    assert found["residual"] == TensorProto.FLOAT16
    np.testing.assert_allclose(run(tmp_path / "half.onnx", batch), run(graph_path, batch), atol=0.02)


def test_an_activation_over_the_range_stays_whole(tmp_path: Path, run: Run) -> None:
    """1e6 lies between two nodes: in half it would be infinite, whatever the nodes compute in."""
    nodes = [
        helper.make_node("Mul", ["input", "large"], ["product"], name="up"),
        helper.make_node("Mul", ["product", "small"], ["scaled"], name="down"),
        helper.make_node("Relu", ["scaled"], ["logits"], name="last"),
    ]
    source = chain(tmp_path / "m.onnx", *nodes, large=np.float32(1e4), small=np.float32(1e-4))
    largest = {"input": 100.0, "product": 1e6, "scaled": 100.0, "logits": 100.0}
    report = fp16_from_fp32(source, tmp_path / "half.onnx", largest=largest)
    assert [str(kept) for kept in report.kept] == [
        "up (Mul): product reaches 1e+06, over 16376",
        "down (Mul): product reaches 1e+06, over 16376",
    ]
    found = types(tmp_path / "half.onnx")
    assert (found["product"], found["scaled_fp16"]) == (TensorProto.FLOAT, TensorProto.FLOAT16)
    row = np.array([[100, 1, -1, 0.5]], np.float32)
    np.testing.assert_allclose(run(tmp_path / "half.onnx", row), [[100, 1, 0, 0.5]], rtol=1e-3)

    fp16_from_fp32(source, tmp_path / "unguarded.onnx")
    assert types(tmp_path / "unguarded.onnx")["product"] == TensorProto.FLOAT16


def test_an_activation_too_small_for_half_stays_whole(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["input"], ["logits"], name="relu")
    source = chain(tmp_path / "m.onnx", node)
    report = fp16_from_fp32(source, tmp_path / "half.onnx", largest={"input": 1e-5, "logits": 0.0})
    assert [str(kept) for kept in report.kept] == ["relu (Relu): input stays under 1e-05, where float16 has few bits"]
    assert fp16_from_fp32(source, tmp_path / "half.onnx", largest={"input": 1e-4, "logits": 0.0}).kept == ()


def test_a_constant_over_the_range_stays_whole(tmp_path: Path, run: Run) -> None:
    node = helper.make_node("Div", ["input", "large"], ["logits"], name="divide")
    source = chain(tmp_path / "m.onnx", node, large=np.float32(1e5))
    report = fp16_from_fp32(source, tmp_path / "half.onnx")
    assert [str(kept) for kept in report.kept] == ["divide (Div): constant large reaches 1e+05, over float16's 65504"]
    np.testing.assert_allclose(run(tmp_path / "half.onnx", np.full((1, 4), 1e4, np.float32)), 0.1, rtol=1e-3)


def test_a_clip_without_end_is_no_constant_over_the_range(tmp_path: Path, run: Run) -> None:
    node = helper.make_node("Clip", ["input", "low", "high"], ["logits"], name="clip")
    source = chain(tmp_path / "m.onnx", node, low=np.float32(0), high=np.finfo(np.float32).max)
    assert fp16_from_fp32(source, tmp_path / "half.onnx").kept == ()
    row = np.array([[-1, 0, 1, 60000]], np.float32)
    np.testing.assert_allclose(run(tmp_path / "half.onnx", row), [[0, 0, 1, 60000]], rtol=1e-3)


def test_what_an_operator_takes_as_float_only_stays_float(tmp_path: Path) -> None:
    """Resize takes its scales as float32, whatever the picture is."""
    path = tmp_path / "m.onnx"
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, None, None]) for name in ("input", "logits")]
    node = helper.make_node("Resize", ["input", "", "scales"], ["logits"], name="resize", mode="nearest")
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    graph = helper.make_graph([node], "resize", infos[:1], infos[1:], [scales])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    assert fp16_from_fp32(path, tmp_path / "half.onnx").half == 1
    found = types(tmp_path / "half.onnx")
    assert (found["scales"], found["input_fp16"]) == (TensorProto.FLOAT, TensorProto.FLOAT16)


def test_constants_in_nodes_and_attributes_become_half(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["two"], value=numpy_helper.from_array(np.array([2, 2, 2, 2], np.float32))),
        helper.make_node("Shape", ["input"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["ones"], value=numpy_helper.from_array(np.ones(1, np.float32))),
        helper.make_node("Cast", ["shape"], ["lengths"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMax", ["lengths"], ["longest"], keepdims=0),
        helper.make_node("Mul", ["input", "two"], ["doubled"]),
        helper.make_node("Add", ["doubled", "ones"], ["more"]),
        helper.make_node("Add", ["more", "longest"], ["logits"]),
    ]
    fp16_from_fp32(chain(tmp_path / "m.onnx", *nodes), tmp_path / "half.onnx")
    found = types(tmp_path / "half.onnx")
    assert {name for name, kind in found.items() if kind == TensorProto.FLOAT} == {"input", "logits"}


def test_zeros_of_no_stated_type_become_half(tmp_path: Path, run: Run) -> None:
    """ConstantOfShape makes float32 where it names no value: torch's converter writes them so for Swin's masks."""
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("ScatterND", ["zeros", "indices", "ones"], ["mask"]),
        helper.make_node("Add", ["input", "mask"], ["logits"]),
    ]
    path = chain(
        tmp_path / "m.onnx",
        *nodes,
        shape=np.array([1, 4], np.int64),
        indices=np.array([[0, 1]], np.int64),
        ones=np.ones(1, np.float32),
    )
    assert fp16_from_fp32(path, tmp_path / "half.onnx").kept == ()
    assert types(tmp_path / "half.onnx")["mask"] == TensorProto.FLOAT16
    picture = np.zeros((1, 4), np.float32)
    np.testing.assert_array_equal(run(tmp_path / "half.onnx", picture), [[0, 1, 0, 0]])


def test_what_is_no_float32_graph_is_refused(graph_path: Path, tmp_path: Path) -> None:
    fp16_from_fp32(graph_path, tmp_path / "half.onnx")
    with pytest.raises(ExportError, match=r"half\.onnx: is in half precision already"):
        fp16_from_fp32(tmp_path / "half.onnx", tmp_path / "again.onnx")
    with pytest.raises(ExportError, match="has no node 'nowhere' to keep in float"):
        fp16_from_fp32(graph_path, tmp_path / "again.onnx", keep_float=["nowhere"])
    quantize = helper.make_node("QuantizeLinear", ["input", "scale", "zero"], ["q"])
    dequantize = helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["logits"])
    source = chain(tmp_path / "q.onnx", quantize, dequantize, scale=np.float32(1), zero=np.uint8(0))
    with pytest.raises(ExportError, match=r"q\.onnx: is quantized already \(QuantizeLinear\)"):
        fp16_from_fp32(source, tmp_path / "again.onnx")
    assert not (tmp_path / "again.onnx").exists()


def test_magnitudes_are_those_of_the_pictures(
    graph_path: Path, card: ModelCard, batch: np.ndarray, pictures: list[tuple[str, np.ndarray]], run: Run
) -> None:
    largest = largest_magnitudes(graph_path, [picture for _, picture in pictures], card.preprocess)
    assert largest["input"] == np.abs(batch).max()
    assert largest["logits"] == pytest.approx(np.abs(run(graph_path, batch)).max(), rel=1e-5)
    assert largest["stem6"] <= 6 < largest["stem"] + 6
    assert set(largest) == {"input", *(name for node in onnx.load(graph_path).graph.node for name in node.output)}
