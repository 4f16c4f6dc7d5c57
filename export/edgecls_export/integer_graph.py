"""Say the same function in operators that ONNX Runtime's CPU provider has integer kernels for.

========================= ========================================== ===============================================
what                      becomes                                    why
========================= ========================================== ===============================================
ReduceMean over H and W   GlobalAveragePool (and Flatten)            has an integer kernel
HardSigmoid(x)            alpha * Clip(x + beta/alpha, 0, 1/alpha)   Add has an integer kernel; the Clip vanishes
                                                                     into the range of the sum, alpha into a scale
HardSwish(x)              c * HardSigmoid(c, 1/6, 1/2),              Mul has an integer kernel; what is under -3 becomes
                          c = Clip(x, -3)                            0 anyway, so 8 bits need not span it
AveragePool of one pixel  nothing                                    AlexNet's and VGG's own, at their usual size
========================= ========================================== ===============================================

Without this a MobileNetV3 leaves its integers at every activation and every squeeze-excite block, which costs what the
integers gain. Where that is not enough, at the front, `float_head` leaves the network as it is.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
from onnx import helper

from edgecls_export.graph import attribute, constants, consumers, producers, set_constant

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["float_head", "fold_factors", "integer_friendly", "is_factor"]

_FACTOR = "_factor"

_NARROW = 40
"""Channels up to which integers do not pay in a network of HardSwish and squeeze-excite.

A pointwise layer gains with its number of channels. What lies between two of them loses: depthwise layers are up to
twice as slow in integers, and HardSwish, free in float (fused into the layer before it), is two passes over the tensor.
Measured with ONNX Runtime 1.31.1 on AVX2 (7-bit weights, one thread, against float32), wholly in integers and with the
front in float: MobileNetV3-large 1.21 and 1.30 times as quick, V3-small 1.06 and 1.22. Half or twice this width was no
better. MobileNetV2, without gates, gained nothing by a front of 16 channels (1.49 and 1.50): it has none.
"""

_HEAD_SHARE = 0.05
"""Share of the weights that the front may have, so that the file is small. MobileNetV3-small's has 4 %."""

_NO_CHANNELS = frozenset(["Gemm", "MatMul", "Reshape", "Flatten", "Transpose", "Concat"])


def float_head(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of the nodes at the front that are no quicker in integers; they are the same after the rewrites.

    The front ends at the last tensor of few channels through which everything passes; a plain network has none.
    """
    shapes = {item.name: tuple(item.dims) for item in model.graph.initializer}
    if not any(node.op_type in ("HardSwish", "HardSigmoid") or is_factor(node) for node in model.graph.node):
        return frozenset()
    most = _HEAD_SHARE * sum(_weights(node, shapes) for node in model.graph.node)
    last_use = {name: index for index, node in enumerate(model.graph.node) for name in node.input}
    alive, channels, weights, end = {model.graph.input[0].name}, 0, 0, 0
    for index, node in enumerate(model.graph.node):
        weights += _weights(node, shapes)
        if node.op_type in _NO_CHANNELS or weights > most:
            break
        if node.op_type == "Conv" and node.input[1] in shapes:
            channels = shapes[node.input[1]][0]
        alive = {name for name in (*alive, *node.output) if last_use.get(name, -1) > index}
        if len(alive) == 1 and 0 < channels <= _NARROW:
            end = index + 1
    return frozenset(node.name for node in model.graph.node[:end])


def _weights(node: onnx.NodeProto, shapes: Mapping[str, tuple[int, ...]]) -> int:
    has_some = node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in shapes
    return math.prod(shapes[node.input[1]]) if has_some else 0


def integer_friendly(model: onnx.ModelProto, keep: Collection[str] = ()) -> onnx.ModelProto:
    """Return the graph with the rewrites of this module; the function it computes is the same.

    Args:
        model: in float32.
        keep: names of nodes to leave as they are.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    values, ranks = constants(result), _ranks(model)
    outputs = {info.name for info in result.graph.output}
    nodes: list[onnx.NodeProto] = []
    same: dict[str, str] = {}
    for node in result.graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
        if node.name in keep:
            nodes.append(node)
        elif node.op_type == "AveragePool" and _takes_one_pixel(node) and node.output[0] not in outputs:
            same[node.output[0]] = node.input[0]
        elif node.op_type == "ReduceMean" and _is_global(node, values, ranks):
            nodes += _pool(node)
        elif node.op_type == "HardSigmoid":
            alpha, beta = (
                cast("float", attribute(node, name, value)) for name, value in (("alpha", 0.2), ("beta", 0.5))
            )
            nodes += _hard_sigmoid(result, node.name, node.input[0], node.output[0], alpha, beta)
        elif node.op_type == "HardSwish":
            nodes += _hard_swish(result, node)
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


def _ranks(model: onnx.ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    tensors = {info.name: info.type.tensor_type for info in (*graph.input, *graph.value_info)}
    return {name: len(tensor.shape.dim) for name, tensor in tensors.items() if tensor.HasField("shape")}


def _is_global(node: onnx.NodeProto, values: Mapping[str, NDArray[Any]], ranks: Mapping[str, int]) -> bool:
    if ranks.get(node.input[0]) != 4:  # of five axes GlobalAveragePool takes the last three
        return False
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


def _hard_swish(model: onnx.ModelProto, node: onnx.NodeProto) -> list[onnx.NodeProto]:
    from_below, gate, target = f"{node.output[0]}_from_below", f"{node.output[0]}_gate", node.output[0]
    set_constant(model, f"{target}_lowest", np.array(-3, np.float32))
    return [
        helper.make_node("Clip", [node.input[0], f"{target}_lowest"], [from_below], name=f"{node.name}_from_below"),
        *_hard_sigmoid(model, node.name, from_below, gate, 1 / 6, 0.5),
        helper.make_node("Mul", [from_below, gate], [target], name=node.name),
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
