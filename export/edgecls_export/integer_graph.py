"""Say the same function in operators that ONNX Runtime's CPU provider has integer kernels for.

========================= ========================================== =============================================
what                      becomes                                    why
========================= ========================================== =============================================
ReduceMean over H and W   GlobalAveragePool (and Flatten)            has an integer kernel
HardSigmoid(x)            alpha * Clip(x + beta/alpha, 0, 1/alpha)   Add has an integer kernel; the Clip vanishes
                                                                     into the range of the sum, alpha into a scale
HardSwish(x)              x * HardSigmoid(x, 1/6, 1/2)               Mul has an integer kernel
AveragePool of one pixel  nothing                                    AlexNet's and VGG's own, at their usual size
========================= ========================================== =============================================

Without this a MobileNetV3 leaves its integers at every activation and every squeeze-excite block, which costs what the
integers gain.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
from onnx import helper

from edgecls_export.graph import attribute, constants, consumers, producers, set_constant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["fold_factors", "integer_friendly", "is_factor"]

_FACTOR = "_factor"


def integer_friendly(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with the rewrites of this module; the function it computes is the same."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    values = constants(result)
    outputs = {info.name for info in result.graph.output}
    nodes: list[onnx.NodeProto] = []
    same: dict[str, str] = {}
    for node in result.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.op_type == "AveragePool" and _takes_one_pixel(node) and node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
        elif node.op_type == "ReduceMean" and _is_global(node, values):
            nodes += _pool(node)
        elif node.op_type == "HardSigmoid":
            alpha, beta = (
                cast("float", attribute(node, name, value)) for name, value in (("alpha", 0.2), ("beta", 0.5))
            )
            nodes += _hard_sigmoid(result, node.name, node.input[0], node.output[0], alpha, beta)
        elif node.op_type == "HardSwish":
            gate = f"{node.output[0]}_gate"
            nodes += _hard_sigmoid(result, node.name, node.input[0], gate, 1 / 6, 0.5)
            nodes.append(helper.make_node("Mul", [node.input[0], gate], [node.output[0]], name=node.name))
        else:
            nodes.append(node)
    del result.graph.node[:], result.graph.value_info[:]
    result.graph.node.extend(nodes)
    return result


def is_factor(node: onnx.NodeProto) -> bool:
    """Return whether a node is an ``alpha *`` of this module, which `fold_factors` takes away after quantization."""
    return node.op_type == "Mul" and node.name.endswith(_FACTOR)


def fold_factors(model: onnx.ModelProto) -> None:
    """Turn ``Q, DQ, alpha *, Q, DQ`` into ``Q, DQ`` with ``alpha`` in the scale of the DQ: exact, and no work."""
    graph = model.graph
    values = constants(model)
    made, taken = producers(graph.node), consumers(graph.node)
    for node in [node for node in graph.node if is_factor(node)]:
        dequantize = made.get(node.input[0])
        ends = [after for quantize in taken.get(node.output[0], []) for after in taken.get(quantize.output[0], [])]
        types = {after.op_type for after in ends} | {item.op_type for item in taken.get(node.output[0], [])}
        if dequantize is None or dequantize.op_type != "DequantizeLinear":
            continue
        if types != {"QuantizeLinear", "DequantizeLinear"}:
            continue
        scale = f"{dequantize.input[1]}{_FACTOR}"
        set_constant(model, scale, (values[dequantize.input[1]] * values[node.input[1]].reshape(())).astype(np.float32))
        for end in ends:
            end.input[:] = [dequantize.input[0], scale, dequantize.input[2]]
        for gone in (*taken[node.output[0]], node, *([dequantize] if len(taken[node.input[0]]) == 1 else [])):
            graph.node.remove(gone)
    used = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(item)


def _is_global(node: onnx.NodeProto, values: dict[str, NDArray[Any]]) -> bool:
    axes = values.get(node.input[1]) if len(node.input) > 1 else attribute(node, "axes", ())
    return axes is not None and sorted(int(axis) % 4 for axis in np.ravel(cast("NDArray[np.int64]", axes))) == [2, 3]


def _takes_one_pixel(node: onnx.NodeProto) -> bool:
    # Padding aside: of a pool this small ONNX Runtime refuses any.
    numbers = [attribute(node, name, ()) for name in ("kernel_shape", "strides")]
    return all(set(cast("Sequence[int]", item)) <= {1} for item in numbers)


def _pool(node: onnx.NodeProto) -> list[onnx.NodeProto]:
    source, target = node.input[0], node.output[0]
    if attribute(node, "keepdims", 1):
        return [helper.make_node("GlobalAveragePool", [source], [target], name=node.name)]
    pooled = f"{target}_pooled"
    return [
        helper.make_node("GlobalAveragePool", [source], [pooled], name=node.name),
        helper.make_node("Flatten", [pooled], [target], name=f"{node.name}_flatten"),
    ]


def _hard_sigmoid(
    model: onnx.ModelProto, name: str, source: str, target: str, alpha: float, beta: float
) -> list[onnx.NodeProto]:
    numbers = {"shift": beta / alpha, "low": 0.0, "high": 1 / alpha, "alpha": alpha}
    for key, value in numbers.items():
        set_constant(model, f"{target}_{key}", np.array(value, np.float32))
    shifted, clipped = f"{target}_shifted", f"{target}_clipped"
    return [
        helper.make_node("Add", [source, f"{target}_shift"], [shifted], name=f"{name}_shift"),
        helper.make_node("Clip", [shifted, f"{target}_low", f"{target}_high"], [clipped], name=f"{name}_clip"),
        helper.make_node("Mul", [clipped, f"{target}_alpha"], [target], name=f"{name}{_FACTOR}"),
    ]
