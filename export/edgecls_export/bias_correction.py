"""Take out of each bias what quantization adds to the mean of its layer's outputs.

Rounding weights and clipping activations shifts the mean of every output channel, and the shifts add up from layer to
layer. Each layer's own share is measured on pictures, ``mean(quantized(x) - float(x))`` with the float32 graph's
activations as ``x`` on both sides, and subtracted from its bias. As every layer's shift is taken out where it arises,
one pass over the pictures does for all layers, whatever their order.

Source: Nagel, van Baalen, Blankevoort, Welling 2019, Data-Free Quantization Through Weight Equalization and Bias
Correction (arXiv 1906.04721), section 4.2 and appendix D (empirical bias correction); Finkelstein, Almog, Grobman 2019,
Fighting Quantization Bias With Bias (arXiv 1906.03193). Both include the clipping and rounding of the layers before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from edgecls_export.activations import ObservedGraph, preprocessed
from edgecls_export.graph import attribute, constants, set_constant
from edgecls_export.twins import add_reduction, with_twins

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import onnx
    from numpy.typing import NDArray

    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["correct_biases", "measure_shifts"]

_SHIFT = "_shift_of_mean"


def measure_shifts(
    model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    images: Sequence[ImageSource],
    preprocess: Preprocess,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> dict[str, NDArray[np.float32]]:
    """Return what quantization adds to the mean of each output channel of each quantized Conv and Gemm.

    Args:
        model: the float32 graph.
        quantized: what `edgecls_export.int8.int8_from_fp32` made of it.
        images: pictures; a hundred or two are enough for a mean.
        preprocess: what turns them into the input.
        progress: called with the number of pictures done and their total.

    Returns:
        float32 [channels] by the name of the node.

    Raises:
        ImageError: a picture cannot be read.
    """
    with with_twins(model, quantized) as twins:
        if not twins:
            return {}
        for twin in twins:
            add_reduction(model, "ReduceMean", twin.difference, f"{twin.node}{_SHIFT}", axes=range(2, twin.rank))
        names = [f"{twin.node}{_SHIFT}" for twin in twins]
        graph = ObservedGraph(model, names)
    sums, rows = {name: np.zeros(1) for name in names}, dict.fromkeys(names, 0)
    for batch in preprocessed(images, preprocess, batch_size=graph.batch_size, progress=progress):
        for name, shift in graph.run(batch).items():
            sums[name] = sums[name] + shift.sum(axis=0, dtype=np.float64)
            rows[name] += len(shift)
    return {name.removesuffix(_SHIFT): (sums[name] / rows[name]).astype(np.float32) for name in names}


def correct_biases(model: onnx.ModelProto, shifts: Mapping[str, NDArray[np.float32]]) -> None:
    """Subtract each shift from its node's bias in the float32 graph, which is to be quantized once more."""
    values = constants(model)
    for node in model.graph.node:
        if node.name not in shifts:
            continue
        before = values[node.input[2]] if len(node.input) > 2 and node.input[2] else np.zeros(1, np.float32)
        share = cast("float", attribute(node, "beta", 1.0)) if node.op_type == "Gemm" else 1.0
        bias = f"{node.name}_corrected_bias"
        set_constant(model, bias, (before - shifts[node.name] / np.float32(share)).astype(np.float32))
        node.input[:] = [*node.input[:2], bias]
    used = {name for node in model.graph.node for name in node.input}
    for item in [item for item in model.graph.initializer if item.name not in used]:
        model.graph.initializer.remove(item)
