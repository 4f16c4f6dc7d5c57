"""Which layers lose most in 8-bit integers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgecls_export.activations import ObservedGraph, preprocessed
from edgecls_export.twins import add_reduction, with_twins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import onnx

    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["LayerNoise", "rank_by_noise"]


@dataclass(frozen=True)
class LayerNoise:
    """How much of a layer's output is quantization noise.

    Attributes:
        node: name of the layer.
        sqnr_db: signal to quantization noise ratio, ``10 log10(sum x² / sum (x - quantized x)²)``, in decibels.
    """

    node: str
    sqnr_db: float

    def __str__(self) -> str:
        return f"{self.node} {self.sqnr_db:.1f} dB"


def rank_by_noise(
    model: onnx.ModelProto,
    quantized: onnx.ModelProto,
    images: Sequence[ImageSource],
    preprocess: Preprocess,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> tuple[LayerNoise, ...]:
    """Return the quantized layers, the noisiest first; equal ones in the order of the graph.

    Each layer is fed with the float32 graph's activations, so that it is judged by its own noise alone.

    Args:
        model: the float32 graph.
        quantized: what `edgecls_export.int8.int8_from_fp32` made of it.
        images: pictures; some dozens are enough for a sum over so many values.
        preprocess: what turns them into the input.
        progress: called with the number of pictures done and their total.

    Raises:
        ImageError: a picture cannot be read.
    """
    with with_twins(model, quantized) as twins:
        if not twins:
            return ()
        for twin in twins:
            every = range(1, twin.rank)
            add_reduction(model, "ReduceSumSquare", twin.output, f"{twin.node}_signal", axes=every)
            add_reduction(model, "ReduceSumSquare", twin.difference, f"{twin.node}_noise", axes=every)
        graph = ObservedGraph(model, [f"{twin.node}_{kind}" for twin in twins for kind in ("signal", "noise")])
    sums: dict[str, float] = {}
    for batch in preprocessed(images, preprocess, batch_size=graph.batch_size, progress=progress):
        for name, value in graph.run(batch).items():
            sums[name] = sums.get(name, 0.0) + float(value.sum())
    ranked = [
        LayerNoise(twin.node, _decibels(sums[f"{twin.node}_signal"], sums[f"{twin.node}_noise"])) for twin in twins
    ]
    return tuple(sorted(ranked, key=lambda layer: layer.sqnr_db))


def _decibels(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal else -math.inf
