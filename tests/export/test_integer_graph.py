from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecls_export.integer_graph import integer_friendly

Run = Callable[[object, np.ndarray], np.ndarray]


def test_the_function_stays(graph: onnx.ModelProto, batch: np.ndarray, run: Run) -> None:
    friendly = integer_friendly(graph)
    onnx.checker.check_model(friendly, full_check=True)
    operators = {node.op_type for node in friendly.graph.node}
    assert operators == {"Conv", "Clip", "Relu", "Add", "Mul", "GlobalAveragePool", "Flatten", "Gemm"}
    np.testing.assert_allclose(run(friendly, batch), run(graph, batch), rtol=1e-4, atol=1e-5)
    assert {node.name for node in graph.graph.node} <= {node.name for node in friendly.graph.node} | {"gate_node"}


@pytest.mark.parametrize(("alpha", "beta"), [(None, None), (1 / 6, 0.5), (0.3, 0.1)])
def test_hard_sigmoid_of_every_slope(alpha: float | None, beta: float | None, run: Run) -> None:
    attributes = {} if alpha is None else {"alpha": alpha, "beta": beta}
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 9]) for name in ("input", "logits")]
    node = helper.make_node("HardSigmoid", ["input"], ["logits"], name="gate", **attributes)
    graph = helper.make_graph([node], "gate", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    values = np.linspace(-8, 8, 9, dtype=np.float32)[None]
    np.testing.assert_allclose(run(integer_friendly(model), values), run(model, values), atol=1e-6)


@pytest.mark.parametrize(("axes", "global_"), [([2, 3], True), ([-1, -2], True), ([1], False), ([2], False)])
@pytest.mark.parametrize("keepdims", [0, 1])
def test_only_means_over_the_whole_picture_become_pooling(
    axes: list[int], global_: bool, keepdims: int, run: Run
) -> None:
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 5])
    target = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    node = helper.make_node("ReduceMean", ["input", "axes"], ["logits"], name="mean", keepdims=keepdims)
    constants = [numpy_helper.from_array(np.array(axes), "axes")]
    graph = helper.make_graph([node], "mean", [source], [target], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    friendly = integer_friendly(model)
    assert (friendly.graph.node[0].op_type == "GlobalAveragePool") is global_
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_allclose(run(friendly, values), run(model, values), atol=1e-6)


@pytest.mark.parametrize(
    ("attributes", "gone"),
    [
        ({"kernel_shape": [1, 1]}, True),
        ({"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0]}, True),
        ({"kernel_shape": [1, 1], "strides": [2, 1]}, False),
        ({"kernel_shape": [1, 2]}, False),
    ],
)
@pytest.mark.parametrize("last", [False, True])
def test_pooling_of_one_pixel_goes(attributes: dict[str, object], gone: bool, last: bool, run: Run) -> None:
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("input", "logits")]
    infos[0] = helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 3, 4, 5])
    nodes = [helper.make_node("AveragePool", ["input"], ["logits" if last else "x"], name="pool", **attributes)]
    if not last:
        nodes += [helper.make_node("Relu", ["x"], ["y"], name="relu"), helper.make_node("Add", ["y", "x"], ["logits"])]
    graph = helper.make_graph(nodes, "pool", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    friendly = integer_friendly(model)
    assert ("AveragePool" not in {node.op_type for node in friendly.graph.node}) is (gone and not last)
    values = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(run(friendly, values), run(model, values))
