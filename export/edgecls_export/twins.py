"""Set a layer of 8-bit integers beside each layer of a float32 graph, fed with the float32 graph's own activations.

What a twin computes differently is that layer's own share of the quantization's error, not what it inherited.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx
from onnx import helper

from edgecls_export.graph import attribute, constants, producers, set_constant

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["Twin", "add_reduction", "with_twins"]


@dataclass(frozen=True)
class Twin:
    """A layer and its twin.

    Attributes:
        node: name of the layer.
        output: tensor that the layer makes.
        difference: tensor of the twin's output less the layer's.
        rank: number of dimensions of both.
    """

    node: str
    output: str
    difference: str
    rank: int


@contextlib.contextmanager
def with_twins(model: onnx.ModelProto, quantized: onnx.ModelProto) -> Iterator[tuple[Twin, ...]]:
    """Add a twin beside each Conv and Gemm that is quantized, for as long as the context lasts.

    No copy is made, for VGG-16's weights alone are 550 MB.

    Args:
        model: the float32 graph; as it was when the context ends.
        quantized: what `edgecls_export.int8.int8_from_fp32` made of it.
    """
    graph = model.graph
    before = [(added, len(added)) for added in (graph.node, graph.initializer, graph.output)]
    try:
        yield _add_twins(model, quantized)
    finally:
        for added, count in before:
            del added[count:]


def _add_twins(model: onnx.ModelProto, quantized: onnx.ModelProto) -> tuple[Twin, ...]:
    graph, floats = model.graph, constants(model)
    made, integers = producers(quantized.graph.node), constants(quantized)
    twins: list[Twin] = []
    quantized_nodes = {node.name: node for node in quantized.graph.node}
    for node in list(graph.node):
        other = quantized_nodes.get(node.name)
        if other is None or node.op_type not in ("Conv", "Gemm") or not _has_plain_bias(node, floats):
            continue
        inputs = [made.get(name) for name in other.input[:2]]
        if any(source is None or source.op_type != "DequantizeLinear" for source in inputs):
            continue
        activation, weight = cast("list[onnx.NodeProto]", inputs)
        prefix = f"{node.name}_twin"
        for name in (*activation.input[1:], *weight.input):
            set_constant(model, f"{prefix}/{name}", integers[name])
        scale, zero = (f"{prefix}/{name}" for name in activation.input[1:])
        names = [f"{prefix}_{part}" for part in ("rounded", "input", "weight", "output", "difference")]
        rounded, entered, weights, output, difference = names
        dequantize = onnx.NodeProto()
        dequantize.CopyFrom(weight)
        dequantize.name, dequantize.input[:] = weights, [f"{prefix}/{name}" for name in weight.input]
        dequantize.output[:] = [weights]
        twin = onnx.NodeProto()
        twin.CopyFrom(node)
        twin.name, twin.input[:], twin.output[:] = prefix, [entered, weights, *node.input[2:]], [output]
        graph.node.extend(
            [
                helper.make_node("QuantizeLinear", [node.input[0], scale, zero], [rounded]),
                helper.make_node("DequantizeLinear", [rounded, scale, zero], [entered]),
                dequantize,
                twin,
                helper.make_node("Sub", [output, node.output[0]], [difference]),
            ]
        )
        twins.append(Twin(node.name, node.output[0], difference, floats[node.input[1]].ndim))
    return tuple(twins)


def _has_plain_bias(node: onnx.NodeProto, floats: Mapping[str, NDArray[Any]]) -> bool:
    """Return whether the bias is a constant of one number a channel, or none."""
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = floats.get(node.input[2])
    return bias is not None and bias.ndim == 1 and attribute(node, "beta", 1.0) != 0


def add_reduction(model: onnx.ModelProto, operator: str, source: str, target: str, *, axes: Sequence[int]) -> None:
    """Add an output ``target``: ReduceMean or ReduceSumSquare of a tensor over some axes, which go.

    The first axis has to stay: what a batch was filled up with can be cut off rows, not taken out of a mean.
    """
    version = next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
    if not axes:  # which the operators take for all of them
        node = helper.make_node("Identity", [source], [target])
    elif version >= 18:  # where the axes became an input
        set_constant(model, f"{target}_axes", np.array(axes, np.int64))
        node = helper.make_node(operator, [source, f"{target}_axes"], [target], keepdims=0)
    else:
        node = helper.make_node(operator, [source], [target], axes=list(axes), keepdims=0)
    model.graph.node.append(node)
    model.graph.output.append(onnx.ValueInfoProto(name=target))
