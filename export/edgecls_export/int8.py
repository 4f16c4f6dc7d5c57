"""An ONNX graph in float32 to one in 8-bit integers: explicit Q/DQ, static ranges, one weight scale a channel.

ONNX Runtime's quantizer places the Q/DQ nodes; the ranges come from `edgecls_export.calibration`, and the scheme from
the table below, because no single file is best for every engine.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from edgecls_export.activations import tensor_types
from edgecls_export.calibrators import Percentile
from edgecls_export.graph import (
    attribute,
    check_float32,
    check_names,
    constants,
    consumers,
    name_nodes,
    producers,
    set_constant,
)
from edgecls_export.integer_graph import float_head, fold_factors, integer_friendly, is_factor
from edgecls_runtime.errors import ExportError, MissingDependencyError

if TYPE_CHECKING:
    import os
    from collections.abc import Collection, Mapping

    from edgecls_export.calibrators import Calibrator

__all__ = ["SCHEMES", "Int8Report", "Scheme", "int8_from_fp32", "prepare"]


@dataclass(frozen=True, kw_only=True)
class Scheme:
    """How an engine wants its integers.

    Attributes:
        symmetric: activations are int8 with zero point 0; otherwise uint8 with a zero point of their own.
        reduce_range: weights take 7 bits.
        integer_bias: the bias is int32 in the scale of the products; otherwise it stays float.
        operators: types of the nodes to quantize.
        quantize_outputs: whether Conv and Gemm get a Q/DQ pair behind them as well as in front.
        method: how ranges are chosen unless the caller says otherwise.
        lower: rewrite what the engine has no integer kernel for into what it has, and leave the front in float
            where integers do not pay (`edgecls_export.integer_graph`).
        reason: why so.
    """

    symmetric: bool
    reduce_range: bool
    integer_bias: bool
    operators: tuple[str, ...]
    quantize_outputs: bool
    method: Calibrator
    lower: bool
    reason: str


_WEIGHTED = ("Conv", "Gemm", "MatMul")

_NEXT_TO_NOTHING = 1e-12

_CPU_OPERATORS = (
    *_WEIGHTED,
    *("Clip", "Relu", "Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool"),
    *("Reshape", "Flatten", "Transpose", "Concat"),
)

_CPU = Scheme(
    symmetric=False,
    reduce_range=False,
    integer_bias=True,
    operators=_CPU_OPERATORS,
    quantize_outputs=True,
    method=Percentile(99.999),
    lower=True,
    reason="uint8 activations and int8 weights are what x86's VNNI and ONNX Runtime's kernels multiply. An asymmetric "
    "range ends where ReLU or Clip does, so both vanish into the convolution before them; a symmetric one would keep "
    "them, and twice to four times the time.",
)

_TENSORRT = Scheme(
    symmetric=True,
    reduce_range=False,
    integer_bias=False,
    operators=_WEIGHTED,
    quantize_outputs=False,
    method=Percentile(99.99),
    lower=False,
    reason="TensorRT wants zero points of 0 and a float bias (it refuses DequantizeLinear of int32), and Q/DQ before "
    "the inputs of weighted layers alone: it fuses Conv, activation and the Add of a residual whose other input is "
    "quantized, where a Q/DQ pair behind the Conv would break that up and round once more. Behind a ReLU half of a "
    "symmetric range lies idle, so clipping more pays: MobileNetV2's mean cosine on 200 photos is 0.992 at 99.99 % and "
    "0.989 at 99.999 %. "
    "https://docs.nvidia.com/deeplearning/tensorrt/latest/inference-library/work-quantized-types.html",
)

SCHEMES: dict[str, Scheme] = {
    "cpu": _CPU,
    "cpu-any": Scheme(
        **{
            **{name: getattr(_CPU, name) for name in Scheme.__dataclass_fields__},
            "reduce_range": True,
            "reason": "As cpu, with weights of 7 bits: on x86 without VNNI two products of uint8 and int8 are added in "
            "16 bits, which saturate for weights of 8 bits, or in 32 bits at half the speed.",
        }
    ),
    "tensorrt": _TENSORRT,
    "cuda": _TENSORRT,
}
"""By target."""


@dataclass(frozen=True)
class Int8Report:
    """What a quantization did.

    Attributes:
        target: whose scheme.
        quantized: names of the nodes with weights that compute in integers.
        kept: names of those that stay in float.
        front: those of the kept ones that would be no quicker in integers.
    """

    target: str
    quantized: tuple[str, ...]
    kept: tuple[str, ...]
    front: tuple[str, ...] = ()

    def __str__(self) -> str:
        kept = f", in float: {', '.join(self.kept)}" if self.kept else ""
        return f"{len(self.quantized)} layers in 8-bit integers for {self.target}{kept}"


def prepare(source: str | os.PathLike[str], target: str | os.PathLike[str], *, scheme: str) -> None:
    """Write a float32 graph as the same function in the operators that a scheme quantizes well.

    Calibration and `int8_from_fp32` both take what this wrote.

    Raises:
        ExportError: the source is not a plain float32 graph.
    """
    model = onnx.load(source)
    check_float32(model, str(source))
    name_nodes(model)
    _unshare(model)
    if SCHEMES[scheme].lower:
        model = integer_friendly(model, float_head(model))
    onnx.checker.check_model(model)
    onnx.save_model(model, target)


def int8_from_fp32(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    ranges: Mapping[str, tuple[float, float]],
    *,
    scheme: str,
    exclude: Collection[str] = (),
) -> Int8Report:
    """Write a float32 ONNX file as one of 8-bit integers.

    Args:
        source: one ONNX file in float32, best after `prepare`.
        target: file to write, written over.
        ranges: (low, high) of every activation, by tensor name (`edgecls_export.calibration.calibrate`).
        scheme: one of `SCHEMES`.
        exclude: names of nodes that shall stay in float.

    Raises:
        ExportError: the source is not a plain float32 graph, an activation has no range, or ``exclude`` names no node.
        MissingDependencyError: onnxruntime is not installed.
    """
    model = onnx.load(source)
    check_float32(model, str(source))
    name_nodes(model)
    check_names(model, exclude)
    weighted = [node.name for node in model.graph.node if _has_weight(model, node)]
    how = SCHEMES[scheme]
    shapes = _of_integers(model)
    _check_ranges(model, how, ranges, shapes, str(source))
    factors = [node.name for node in model.graph.node if is_factor(node)]
    head = float_head(model) if how.lower else frozenset()
    if how.integer_bias:
        _fill_zero_channels(model)
    quantized = _quantize(model, how, ranges, (*exclude, *factors, *head, *shapes))
    fold_factors(quantized)
    del quantized.metadata_props[:]  # the quantizer's notes to itself
    _free_output(quantized)
    onnx.checker.check_model(quantized)
    onnx.save_model(quantized, target)
    dequantized = {node.output[0] for node in quantized.graph.node if node.op_type == "DequantizeLinear"}
    integer = {node.name for node in quantized.graph.node if dequantized.issuperset(node.input[:2])}
    return Int8Report(
        target=scheme,
        quantized=tuple(name for name in weighted if name in integer),
        kept=tuple(name for name in weighted if name not in integer),
        front=tuple(name for name in weighted if name in head),
    )


def _quantize(
    model: onnx.ModelProto, scheme: Scheme, ranges: Mapping[str, tuple[float, float]], exclude: tuple[str, ...]
) -> onnx.ModelProto:
    try:
        from onnxruntime.quantization import CalibrationMethod, QuantType
        from onnxruntime.quantization.calibrate import TensorsData
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    except ImportError as error:
        raise MissingDependencyError(
            f"quantization: onnxruntime cannot be imported ({error})",
            "Install it with: pip install 'edgecls[cpu]', or 'edgecls[gpu]' for CUDA",
        ) from error
    options: dict[str, Any] = {
        "ActivationSymmetric": scheme.symmetric,
        "WeightSymmetric": True,
        "QuantizeBias": scheme.integer_bias,
        "OpTypesToExcludeOutputQuantization": [] if scheme.quantize_outputs else list(scheme.operators),
    }
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        model,
        per_channel=True,
        reduce_range=scheme.reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QInt8 if scheme.symmetric else QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),  # the name of the container's format, no method
        nodes_to_quantize=[],
        nodes_to_exclude=list(exclude),
        op_types_to_quantize=list(scheme.operators),
        extra_options=options,
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    result: onnx.ModelProto = quantizer.model.model
    return result


def _unshare(model: onnx.ModelProto) -> None:
    """Give each layer constants of its own: of weights that two share, the quantizer writes one name twice."""
    values, taken = constants(model), set[str]()
    for node in model.graph.node:
        for index, name in enumerate(node.input):
            if node.op_type not in _WEIGHTED or name not in values:
                continue
            if name in taken:
                node.input[index] = f"{name}_of_{node.name}"
                set_constant(model, node.input[index], values[name])
            taken.add(name)


def _fill_zero_channels(model: onnx.ModelProto) -> None:
    """Fill the weights of output channels that have none but zeros, as pruning leaves, with next to nothing.

    The quantizer gives zeros a scale of 1, in which a bias is rounded away; a small one it fits to the bias.
    """
    values = constants(model)
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or node.input[1] not in values:
            continue
        weights = values[node.input[1]]
        by_row = node.op_type == "Conv" or attribute(node, "transB", 0)
        zero = ~(weights if by_row else weights.T).any(axis=tuple(range(1, weights.ndim)))
        if zero.any():
            weights = weights.copy()
            (weights if by_row else weights.T)[zero] = _NEXT_TO_NOTHING
            set_constant(model, node.input[1], weights)


def _has_weight(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    names = {item.name for item in model.graph.initializer}
    return node.op_type in _WEIGHTED and node.input[1] in names


def _of_integers(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of the nodes that make no floats: the arithmetic of shapes, as of a class token's batch.

    Where a type is not known, it may be float: then a range is asked for.
    """
    unknown = onnx.TensorProto.FLOAT
    types = tensor_types(model)
    return frozenset(
        node.name
        for node in model.graph.node
        if all(types.get(name, unknown) != onnx.TensorProto.FLOAT for name in node.output)
    )


def _check_ranges(
    model: onnx.ModelProto,
    scheme: Scheme,
    ranges: Mapping[str, tuple[float, float]],
    exclude: Collection[str],
    where: str,
) -> None:
    known = {*ranges, *(item.name for item in model.graph.initializer)}
    for node in model.graph.node:
        if node.op_type in scheme.operators and node.name not in exclude and node.input[0] not in known:
            raise ExportError(
                f"{where}: there is no range for {node.input[0]!r}, the input of {node.name}",
                "The ranges belong to another graph: calibrate this one.",
            )


def _free_output(model: onnx.ModelProto) -> None:
    """Leave the logits in float: rounding them to 256 values helps nobody, and the kernels return float for free."""
    graph = model.graph
    (logits,) = (info.name for info in graph.output)
    made = producers(graph.node)
    dequantize = made[logits]
    quantize = made.get(dequantize.input[0]) if dequantize.op_type == "DequantizeLinear" else None
    if quantize is None or quantize.op_type != "QuantizeLinear" or len(consumers(graph.node)[quantize.output[0]]) > 1:
        return
    last = made[quantize.input[0]]
    if last.op_type not in ("Gemm", "MatMul", "Conv") or len(consumers(graph.node)[last.output[0]]) > 1:
        return
    graph.node.remove(quantize)
    graph.node.remove(dequantize)
    last.output[0] = logits
    used = {name for node in graph.node for name in node.input}
    for item in [item for item in graph.initializer if item.name not in used]:
        graph.initializer.remove(item)
