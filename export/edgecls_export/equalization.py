"""Cross-layer equalization: let two layers in a row share out the size of each channel between them.

Where Conv, ReLU, Conv follow one another, channel ``i`` of the first may be divided by ``s_i`` and the second's weights
of that channel multiplied by it: ``relu(x / s) = relu(x) / s`` for every ``s > 0``, so the function stays. With
``s_i = sqrt(r1_i * r2_i) / r2_i``, where ``r`` is the largest weight of a channel on either side, both have the range
``sqrt(r1_i * r2_i)``, and no channel is lost in the scale of a larger one.

Source: Nagel, van Baalen, Blankevoort, Welling 2019 (arXiv 1906.04721), section 4.1.

A Clip that ends at 6 (ReLU6) does not let a factor pass: the paper replaces it by ReLU, which changes the function, so
such pairs are left alone and counted. MobileNetV2 consists of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnx

from edgecls_export.graph import attribute, constants, consumers, set_constant

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["Equalization", "equalize"]

_PASSES_A_FACTOR = frozenset(["Relu", "LeakyRelu", "MaxPool", "AveragePool", "GlobalAveragePool"])

_SWEEPS = 40
"""Chains of pairs need several; every pair is settled long before."""

_SETTLED = 1e-3
"""Relative change of a factor from which a sweep is the last."""


_DEAD = 1e-6
"""Share of a layer's largest weight under which a channel has none to speak of: 8 bits tell 1 of 127 from 0."""


@dataclass(frozen=True)
class Equalization:
    """What an equalization did.

    Attributes:
        pairs: names of the layers that were equalized, two by two.
        clipped: number of pairs left alone because a Clip with an upper end lies between them.
        largest_factor: largest of all factors, or of their reciprocals.
    """

    pairs: tuple[tuple[str, str], ...]
    clipped: int
    largest_factor: float

    def __str__(self) -> str:
        return (
            f"{len(self.pairs)} pairs of layers equalized (factors up to {self.largest_factor:.3g}), "
            f"{self.clipped} left alone because of a Clip between them"
        )


def equalize(model: onnx.ModelProto) -> tuple[onnx.ModelProto, Equalization]:
    """Return a float32 graph that computes the same with equalized weights, and what was done."""
    result = onnx.ModelProto()
    result.CopyFrom(model)
    values = constants(result)
    pairs, clipped = _pairs(result, values)
    weights = {
        name: values[name].astype(np.float64) for pair in pairs for node in pair for name in node.input[1:] if name
    }
    totals = [np.ones(len(weights[first.input[1]])) for first, _ in pairs]
    for _ in range(_SWEEPS):
        moved = 0.0
        for index, (first, second) in enumerate(pairs):
            factor = _factor(weights, first, second)
            _divide(weights, first, factor)
            _multiply(weights, second, factor)
            totals[index] = totals[index] * factor
            moved = max(moved, float(np.abs(np.log(factor)).max()))
        if moved < _SETTLED:
            break
    for name, value in weights.items():
        set_constant(result, name, value.astype(np.float32))
    largest = max((float(np.exp(np.abs(np.log(total)).max())) for total in totals), default=1.0)
    return result, Equalization(tuple((first.name, second.name) for first, second in pairs), clipped, largest)


def _pairs(
    model: onnx.ModelProto, values: Mapping[str, NDArray[Any]]
) -> tuple[list[tuple[onnx.NodeProto, onnx.NodeProto]], int]:
    taken = consumers(model.graph.node)
    outputs = {info.name for info in model.graph.output}
    own = {name for name, nodes in taken.items() if len(nodes) == 1 and name not in outputs}
    pairs, clipped = [], 0
    for first in model.graph.node:
        if first.op_type != "Conv" or not own.issuperset(name for name in first.input[1:] if name):
            continue
        if not set(first.input[1:]) - {""} <= set(values):
            continue
        name, ends = first.output[0], False
        while name in own and (
            (node := taken[name][0]).op_type in _PASSES_A_FACTOR or _is_clip_from_zero(node, values)
        ):
            ends = ends or (node.op_type == "Clip" and _upper_end(node, values) < float(np.finfo(np.float32).max))
            name = node.output[0]
        if name not in own or (second := taken[name][0]).op_type != "Conv" or second.input[1] not in own & set(values):
            continue
        if second.input[0] != name or not _factors_fit(values[first.input[1]], values[second.input[1]], second):
            continue
        if ends:
            clipped += 1
        else:
            pairs.append((first, second))
    return pairs, clipped


def _is_clip_from_zero(node: onnx.NodeProto, values: Mapping[str, NDArray[Any]]) -> bool:
    return (
        node.op_type == "Clip"
        and len(node.input) > 1
        and node.input[1] in values
        and float(values[node.input[1]]) == 0.0
        and (len(node.input) < 3 or not node.input[2] or node.input[2] in values)
    )


def _upper_end(node: onnx.NodeProto, values: Mapping[str, NDArray[Any]]) -> float:
    return float(values[node.input[2]]) if len(node.input) > 2 and node.input[2] else float("inf")


def _factors_fit(first: NDArray[Any], second: NDArray[Any], node: onnx.NodeProto) -> bool:
    """Return whether the second layer takes all channels together, or each by itself."""
    group, channels = cast("int", attribute(node, "group", 1)), len(first)
    return (group == 1 and second.shape[1] == channels) or (group == channels and second.shape[1] == 1)


def _by_input(weights: Mapping[str, NDArray[np.float64]], node: onnx.NodeProto, channels: int) -> NDArray[np.float64]:
    """View a layer's weights as [input channels, the rest]."""
    values = weights[node.input[1]]
    if attribute(node, "group", 1) == channels and values.shape[1] == 1:
        return values.reshape(channels, -1)  # rows of one input channel lie together
    return values.swapaxes(0, 1).reshape(channels, -1)


def _factor(
    weights: Mapping[str, NDArray[np.float64]], first: onnx.NodeProto, second: onnx.NodeProto
) -> NDArray[np.float64]:
    before = weights[first.input[1]]
    range_1 = np.abs(before.reshape(len(before), -1)).max(axis=1)
    range_2 = np.abs(_by_input(weights, second, len(before))).max(axis=1)
    # A dead channel stays as it is: of weights that are next to nothing the factor would ruin the bias.
    alive = (range_1 > _DEAD * range_1.max()) & (range_2 > _DEAD * range_2.max())
    return np.where(alive, np.sqrt(range_1 * range_2) / np.where(alive, range_2, 1), 1.0)


def _divide(weights: dict[str, NDArray[np.float64]], node: onnx.NodeProto, factor: NDArray[np.float64]) -> None:
    for name in node.input[1:]:
        if name:
            weights[name] = weights[name] / factor.reshape(-1, *[1] * (weights[name].ndim - 1))


def _multiply(weights: dict[str, NDArray[np.float64]], node: onnx.NodeProto, factor: NDArray[np.float64]) -> None:
    values = weights[node.input[1]]
    if attribute(node, "group", 1) == len(factor) and values.shape[1] == 1:
        each = np.repeat(factor, len(values) // len(factor)).reshape(-1, 1, 1, 1)
    else:
        each = factor.reshape(1, -1, 1, 1)
    weights[node.input[1]] = values * each
