"""What every conversion asks of an ONNX graph, and the small things that several do to one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from edgecls_runtime.errors import ExportError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

__all__ = [
    "attribute",
    "check_float32",
    "check_names",
    "constants",
    "consumers",
    "name_nodes",
    "producers",
    "set_constant",
]

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger")


def check_float32(model: ModelProto, where: str) -> None:
    """Refuse what is not a plain float32 graph.

    Raises:
        ExportError: it is quantized or in half precision already, or has branches, loops or functions of its own.
    """
    operators = {node.op_type for node in model.graph.node}
    remedy = "Convert the float32 export instead."
    if found := [operator for operator in _QUANTIZED if operator in operators]:
        raise ExportError(f"{where}: is quantized already ({found[0]})", remedy)
    if any(item.data_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16) for item in model.graph.initializer):
        raise ExportError(f"{where}: is in half precision already", remedy)
    nested = any(item.HasField("g") or item.graphs for node in model.graph.node for item in node.attribute)
    if nested or model.functions:
        raise ExportError(
            f"{where}: has {'branches or loops' if nested else 'functions'}, which this conversion does not do",
            "Export a model whose graph does not depend on its values.",
        )


def check_names(model: ModelProto, names: Iterable[str]) -> None:
    """Refuse names of nodes that a graph does not have.

    Raises:
        ExportError: says which names there are.
    """
    layers = [node.name for node in model.graph.node if node.op_type in ("Conv", "Gemm", "MatMul")]
    if unknown := sorted(set(names) - {node.name for node in model.graph.node}):
        raise ExportError(
            f"the graph has no node {unknown[0]!r} to keep in float",
            f"Give the names of its nodes; the layers with weights are: {', '.join(layers)}",
        )


def name_nodes(model: ModelProto) -> None:
    """Give every node a name of its own."""
    taken: set[str] = set()
    for index, node in enumerate(model.graph.node):
        if not node.name or node.name in taken:
            node.name = f"{node.op_type}_{index}"
        taken.add(node.name)


def constants(model: ModelProto) -> dict[str, NDArray[Any]]:
    """Return the initializers by name."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def set_constant(model: ModelProto, name: str, values: NDArray[Any]) -> None:
    """Write an initializer, over an old one of that name."""
    tensor = numpy_helper.from_array(np.asarray(values, order="C"), name)
    for item in model.graph.initializer:
        if item.name == name:
            item.CopyFrom(tensor)
            return
    model.graph.initializer.append(tensor)


def producers(nodes: Iterable[NodeProto]) -> dict[str, NodeProto]:
    """Return the node that makes each tensor."""
    return {name: node for node in nodes for name in node.output if name}


def consumers(nodes: Iterable[NodeProto]) -> dict[str, list[NodeProto]]:
    """Return the nodes that take each tensor."""
    found: dict[str, list[NodeProto]] = {}
    for node in nodes:
        for name in dict.fromkeys(node.input):
            found.setdefault(name, []).append(node)
    return found


def attribute(node: NodeProto, name: str, default: object) -> object:
    """Return the value of a node's attribute."""
    return next((helper.get_attribute_value(item) for item in node.attribute if item.name == name), default)
