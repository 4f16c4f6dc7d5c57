"""An ONNX graph in float32 to one in half precision.

Every tensor gets one type, and a cast stands wherever two types meet, so the graph is strongly typed: engines that
take types from the graph (TensorRT 11 and TensorRT-RTX know no other way) compute in half what is half here.

Half precision ends at 65,504 and is full only from 6.1e-5 up. What does not fit there stays in float32 and is
reported: constants by their value (an epsilon that half takes for 0 with all up to the division), activations by what
was measured on pictures (`edgecls_export.activations.largest_magnitudes`). Nothing is clipped.

The converters of onnxruntime and onnxconverter-common do neither: they clip constants, and two neighbours kept in
float32 still meet in half, where the value between them is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edgecls_export.graph import check_float32, check_names, name_nodes

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping

__all__ = ["LARGEST", "LARGEST_ACTIVATION", "SMALLEST_ACTIVATION", "Fp16Report", "KeptFloat", "fp16_from_fp32"]

LARGEST = float(np.finfo(np.float16).max)
"""Where half precision ends."""

LARGEST_ACTIVATION = LARGEST / 4
"""Largest magnitude that an activation may have on the measured pictures to be stored in half.

A quarter of the range: other pictures go higher, and some kernels sum in half before they store.
"""

SMALLEST_ACTIVATION = float(np.finfo(np.float16).smallest_normal)
"""An activation that stays below this on all pictures has fewer than 11 bits left in half."""

_VANISHES = float(np.finfo(np.float16).smallest_subnormal) / 2
"""Up to here half rounds to 0."""

_HANDS_ON = frozenset(
    ["Add", "Expand", "Flatten", "Identity", "Max", "Reshape", "Sqrt", "Squeeze", "Transpose", "Unsqueeze"]
)
"""What hands a tiny value on, from the epsilon to where one divides by it."""


@dataclass(frozen=True)
class KeptFloat:
    """A node that computes in float32, and why."""

    node: str
    op_type: str
    reason: str

    def __str__(self) -> str:
        return f"{self.node} ({self.op_type}): {self.reason}"


@dataclass(frozen=True)
class Fp16Report:
    """What a conversion to half precision did.

    Attributes:
        half: number of nodes that compute in half.
        kept: nodes that stay in float32.
    """

    half: int
    kept: tuple[KeptFloat, ...]

    def __str__(self) -> str:
        lines = [f"{self.half} nodes in half precision, {len(self.kept)} kept in float32"]
        return "\n".join([*lines, *(f"  {kept}" for kept in self.kept)])


def fp16_from_fp32(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    io_fp16: bool = False,
    keep_float: Collection[str] = (),
    largest: Mapping[str, float] | None = None,
) -> Fp16Report:
    """Write a float32 ONNX file as one that computes in half precision.

    Args:
        source: one ONNX file in float32.
        target: file to write, written over.
        io_fp16: input and output are float16 too; otherwise they stay float32, with casts at the edges.
        keep_float: names of nodes that shall stay in float32.
        largest: largest magnitude of each activation, by tensor name, measured in float32. Without it nothing
            guards the activations.

    Raises:
        ExportError: the source is not a plain float32 graph, or ``keep_float`` names no node of it.
    """
    model = onnx.load(source)
    check_float32(model, str(source))
    _lift_constants(model.graph)
    name_nodes(model)
    check_names(model, keep_float)
    nodes, types = len(model.graph.node), _types(model)
    kept = _kept(model, types, frozenset(keep_float), largest or {})
    _Rewriter(model, types, {item.node for item in kept}).rewrite(io_fp16=io_fp16)
    onnx.checker.check_model(model)
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    onnx.save_model(model, target)
    return Fp16Report(half=nodes - len(kept), kept=kept)


class _Rewriter:
    """Walk the nodes in order; give every tensor that was float32 its type, and cast where types meet."""

    def __init__(self, model: onnx.ModelProto, types: Mapping[str, int], kept: Collection[str]) -> None:
        self.model, self.graph, self.kept = model, model.graph, kept
        self.floats = {name for name, kind in types.items() if kind == TensorProto.FLOAT}
        self.initializers = {item.name: item for item in self.graph.initializer}
        self.kinds: dict[str, int] = {}
        self.nodes: list[onnx.NodeProto] = []
        self.casts: dict[tuple[str, int], str] = {}
        self.used: dict[str, TensorProto] = {}

    def rewrite(self, *, io_fp16: bool) -> None:
        """Rewrite the graph in place."""
        outside = TensorProto.FLOAT16 if io_fp16 else TensorProto.FLOAT
        for info in self.graph.input:
            if info.name in self.floats:
                info.type.tensor_type.elem_type = self.kinds[info.name] = outside
        inner = {info.name: f"{info.name}_inner" for info in self.graph.output if info.name in self.floats}
        for node in self.graph.node:
            self._node(node, inner)
        for info in self.graph.output:
            if info.name in inner:
                self._finish(inner[info.name], info, outside)
        del self.graph.node[:], self.graph.initializer[:], self.graph.value_info[:]
        self.graph.node.extend(self.nodes)
        self.graph.initializer.extend(self.used.values())

    def _node(self, node: onnx.NodeProto, inner: Mapping[str, str]) -> None:
        schema = _schema(self.model, node)
        kind = TensorProto.FLOAT if node.name in self.kept else TensorProto.FLOAT16
        for index, name in enumerate(node.input):
            if name in self.floats:
                wanted = kind if _takes_half(schema, index) else TensorProto.FLOAT
                node.input[index] = self._as(inner.get(name, name), name, wanted)
            elif name in self.initializers:
                self.used[name] = self.initializers[name]
        for index, name in enumerate(node.output):
            if name in self.floats:
                node.output[index] = inner.get(name, name)
                self.kinds[node.output[index]] = kind
        if kind == TensorProto.FLOAT16:
            _retype_attributes(node)
        self.nodes.append(node)

    def _as(self, name: str, original: str, kind: int) -> str:
        """Return the name of a tensor in the type wanted, cast if need be."""
        if original in self.initializers:
            return self._constant(original, kind)
        if self.kinds[name] == kind:
            return name
        if (name, kind) not in self.casts:
            cast = self.casts[name, kind] = f"{name}_{'fp16' if kind == TensorProto.FLOAT16 else 'fp32'}"
            self.nodes.append(helper.make_node("Cast", [name], [cast], name=f"{cast}_cast", to=kind))
        return self.casts[name, kind]

    def _constant(self, name: str, kind: int) -> str:
        if kind == TensorProto.FLOAT:
            self.used[name] = self.initializers[name]
            return name
        half = f"{name}_fp16"
        if half not in self.used:
            values = numpy_helper.to_array(self.initializers[name])
            with np.errstate(over="ignore"):  # a Clip's bound that half cannot reach becomes infinite: still no bound
                self.used[half] = numpy_helper.from_array(values.astype(np.float16), half)
        return half

    def _finish(self, name: str, info: onnx.ValueInfoProto, kind: int) -> None:
        info.type.tensor_type.elem_type = kind
        if self.kinds[name] != kind:
            self.nodes.append(helper.make_node("Cast", [name], [info.name], name=f"{info.name}_cast", to=kind))
            return
        for node in self.nodes:  # the same type inside and out: the graph's own name will do
            for names in (node.input, node.output):
                for index, found in enumerate(names):
                    if found == name:
                        names[index] = info.name


def _kept(
    model: onnx.ModelProto, types: Mapping[str, int], keep_float: frozenset[str], largest: Mapping[str, float]
) -> tuple[KeptFloat, ...]:
    constants = {item.name: _magnitude(item) for item in model.graph.initializer if item.data_type == TensorProto.FLOAT}
    kept = []
    tiny: set[str] = set()
    for node in model.graph.node:
        schema, reason = _schema(model, node), ""
        own = {item.name: _magnitude(item.t) for item in node.attribute if item.t.data_type == TensorProto.FLOAT}
        # Of many weights the small ones may vanish beside the large; an epsilon that vanishes leaves 0 / 0.
        for name, magnitude in (own | {name: constants[name] for name in node.input if name in constants}).items():
            if 0 < magnitude <= _VANISHES:
                reason = f"constant {name} is at most {magnitude:.3g}, which is 0 in float16"
                tiny.update(node.output)
        if found := tiny.intersection(node.input):
            reason = reason or f"{min(found)} may be so small that it is 0 in float16"
            if node.op_type in _HANDS_ON:
                tiny.update(node.output)
        if node.name in keep_float:
            reason = "was asked for"
        for index, name in enumerate(node.input):
            if types.get(name) != TensorProto.FLOAT:
                continue
            if not _may_be_half(schema, index):
                reason = reason or f"takes no float16 as {schema.inputs[min(index, len(schema.inputs) - 1)].name}"
            elif constants.get(name, 0) > LARGEST and not (node.op_type == "Clip" and index > 0):
                reason = reason or f"constant {name} reaches {constants[name]:.3g}, over float16's {LARGEST:g}"
        for name in (*node.input, *node.output):
            magnitude = largest.get(name, 0) if types.get(name) == TensorProto.FLOAT else 0
            if magnitude > LARGEST_ACTIVATION:
                reason = reason or f"{name} reaches {magnitude:.3g}, over {LARGEST_ACTIVATION:g}"
            elif 0 < magnitude < SMALLEST_ACTIVATION:
                reason = reason or f"{name} stays under {magnitude:.3g}, where float16 has few bits"
        if reason:
            kept.append(KeptFloat(node.name, node.op_type, reason))
    return tuple(kept)


def _magnitude(tensor: TensorProto) -> float:
    values = numpy_helper.to_array(tensor)
    return float(np.abs(values[np.isfinite(values)]).max(initial=0))


def _lift_constants(graph: onnx.GraphProto) -> None:
    """Turn Constant nodes into initializers, so that one rule serves both."""
    for node in [node for node in graph.node if node.op_type == "Constant"]:
        value = helper.get_node_attr_value(node, node.attribute[0].name)
        tensor = value if isinstance(value, TensorProto) else numpy_helper.from_array(_array(value))
        tensor.name = node.output[0]
        graph.initializer.append(tensor)
        graph.node.remove(node)


def _array(value: object) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    array = np.asarray(value)
    return array.astype(np.float32) if array.dtype.kind == "f" else array


def _types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element type of every tensor."""
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    infos = (*graph.input, *graph.output, *graph.value_info)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    return types | {item.name: item.data_type for item in graph.initializer}


def _schema(model: onnx.ModelProto, node: onnx.NodeProto) -> onnx.defs.OpSchema:
    version = next(entry.version for entry in model.opset_import if entry.domain == node.domain)
    return onnx.defs.get_schema(node.op_type, version, node.domain)


def _allowed(schema: onnx.defs.OpSchema, index: int) -> Collection[str]:
    """Return the types that an operator takes at an input, of which the last may stand for several."""
    kind = schema.inputs[min(index, len(schema.inputs) - 1)].type_str
    constraints = {item.type_param_str: item.allowed_type_strs for item in schema.type_constraints}
    return constraints.get(kind, [kind])


def _takes_half(schema: onnx.defs.OpSchema, index: int) -> bool:
    return "tensor(float16)" in _allowed(schema, index)


def _may_be_half(schema: onnx.defs.OpSchema, index: int) -> bool:
    """Return whether the node may be half: takes half there, or float32 whatever else is half (Resize's scales)."""
    return _takes_half(schema, index) or list(_allowed(schema, index)) == ["tensor(float)"]


def _retype_attributes(node: onnx.NodeProto) -> None:
    """Make a node that names float32 in an attribute (Cast, ConstantOfShape) name float16."""
    if node.op_type == "ConstantOfShape" and not node.attribute:  # zeros in float32, where nothing is said
        node.attribute.append(helper.make_attribute("value", numpy_helper.from_array(np.zeros(1, np.float32))))
    for attribute in node.attribute:
        if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            values = numpy_helper.to_array(attribute.t).astype(np.float16)
            attribute.t.CopyFrom(numpy_helper.from_array(values, attribute.t.name))
