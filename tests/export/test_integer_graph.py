from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from edgecls_export.integer_graph import float_head, integer_friendly

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


def test_hard_swish_and_what_it_needs_of_its_input(run: Run) -> None:
    """Nothing under -3: ranges are spent on what counts."""
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", 17]) for name in ("input", "logits")]
    node = helper.make_node("HardSwish", ["input"], ["logits"], name="swish")
    graph = helper.make_graph([node], "swish", infos[:1], infos[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    friendly, values = integer_friendly(model), np.linspace(-8, 8, 17, dtype=np.float32)[None]
    np.testing.assert_allclose(run(friendly, values), run(model, values), atol=1e-6)
    (clip,) = (node for node in friendly.graph.node if node.input[0] == "input")
    friendly.graph.output[0].name = clip.output[0]
    assert run(friendly, values).min() == -3


FRONT = {"stem_node", "stem_swish_node", "depthwise_node", "relu_node", "project_node", "add_node"}


def test_the_front_ends_at_the_last_narrow_tensor(fronted: onnx.ModelProto) -> None:
    assert float_head(fronted) == FRONT
    friendly = integer_friendly(fronted, FRONT)
    assert float_head(friendly) == FRONT, "the same after the rewrites"
    kinds = [node.op_type for node in friendly.graph.node]
    assert kinds[:6] == ["Conv", "HardSwish", "Conv", "Relu", "Conv", "Add"]
    assert "HardSwish" not in kinds[6:]


def widened(model: onnx.ModelProto, channels: int) -> None:
    """Give all of the front this many channels; noughts, which nobody looks at."""
    for item in model.graph.initializer:
        shape = [channels if size == 8 else size for size in item.dims]
        item.CopyFrom(numpy_helper.from_array(np.zeros(shape, np.float32), item.name))


@pytest.mark.parametrize(
    ("channels", "gated", "has_front"),
    [(16, False, False), (24, True, True), (40, True, True), (48, True, False)],
)
def test_how_narrow_depends_on_what_lies_between(
    fronted: onnx.ModelProto, channels: int, gated: bool, has_front: bool
) -> None:
    widened(fronted, channels)
    (head,) = (item for item in fronted.graph.initializer if item.name == "head.w")
    head.CopyFrom(
        numpy_helper.from_array(np.zeros((500, 400), np.float32), "head.w")
    )  # or the front were too much of it
    if not gated:
        for node in fronted.graph.node:
            node.op_type = "Relu" if node.op_type == "HardSwish" else node.op_type
    assert bool(float_head(fronted)) is has_front


def test_a_front_with_too_many_of_the_weights_is_none(fronted: onnx.ModelProto, graph: onnx.ModelProto) -> None:
    assert float_head(graph) == frozenset()
    for item in fronted.graph.initializer:
        if item.name in ("expand.w", "shrink.w", "widen.w", "head.w"):
            values = numpy_helper.to_array(item)
            small = values[:16] if item.name in ("expand.w", "widen.w") else values[:, :16]
            item.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(small), item.name))
    assert float_head(fronted) == frozenset()


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


@pytest.mark.parametrize(("rank", "axes"), [(3, [-2, -1]), (5, [2, 3]), (5, [-2, -1]), (None, [2, 3])])
def test_means_in_other_ranks_stay(rank: int | None, axes: list[int], run: Run) -> None:
    """Axes 2 and 3 of five are not the whole picture, nor are the last two of three."""
    shape = [2, 3, 4, 5, 6][: rank or 5]
    source = helper.make_tensor_value_info("input", TensorProto.FLOAT, shape if rank else None)
    target = helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)
    node = helper.make_node("ReduceMean", ["input", "axes"], ["logits"], name="mean")
    graph = helper.make_graph([node], "mean", [source], [target], [numpy_helper.from_array(np.array(axes), "axes")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    np.testing.assert_array_equal(run(integer_friendly(model), values), run(model, values))


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
