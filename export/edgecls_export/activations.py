"""Run an ONNX graph with its inner tensors visible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from edgecls_runtime.backends.onnxruntime import EXACT_INTEGERS, import_onnxruntime
from edgecls_runtime.preprocess import load

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["ObservedGraph", "float_tensors", "largest_magnitudes", "preprocessed", "tensor_types"]

_ERRORS_ONLY = 3  # ONNX Runtime's log level


class ObservedGraph:
    """A graph on ONNX Runtime's CPU provider that returns the tensors asked for. The model may be freed after.

    Args:
        model: with one input.
        tensors: names of its inner tensors, of its output, or of its input.
    """

    def __init__(self, model: onnx.ModelProto, tensors: Sequence[str]) -> None:
        onnxruntime = import_onnxruntime()
        self._input = model.graph.input[0].name
        outputs = list(model.graph.output)
        there = {info.name for info in outputs} | {self._input}
        axis = model.graph.input[0].type.tensor_type.shape.dim[0]
        self.batch_size = axis.dim_value or None
        self.tensors = tuple(tensors)
        self._by_picture = {self._input}
        for node in model.graph.node:
            if not self._by_picture.isdisjoint(node.input):
                self._by_picture.update(node.output)
        self._inner = tuple(name for name in tensors if name != self._input)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _ERRORS_ONLY
        options.add_session_config_entry(*EXACT_INTEGERS)
        # Not a copy of the model with more outputs: large ones would take their weights' memory once more.
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in tensors if name not in there)
        content = model.SerializeToString()
        del model.graph.output[len(outputs) :]
        self._session: Any = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    def run(self, batch: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        """Return the tensors by name, for pictures float32 [N, 3, H, W].

        A graph of a fixed batch size takes at most so many; the batch is filled up with its first picture, and the
        rows that belong to the filling are cut off what depends on the input.
        """
        count, size = len(batch), self.batch_size
        if size is not None and count < size:
            batch = np.concatenate([batch, np.repeat(batch[:1], size - count, axis=0)])
        values = self._session.run(list(self._inner), {self._input: batch}) if self._inner else []
        found = dict(zip(self._inner, values, strict=True))
        if self._input in self.tensors:
            found[self._input] = batch
        if size is not None and count < size:
            # A graph may take its pictures apart along the first axis: several rows each.
            whole = [name for name, value in found.items() if value.ndim and len(value) % size == 0]
            cut = self._by_picture.intersection(whole)
            found |= {name: found[name][: len(found[name]) * count // size] for name in cut}
        return found


def float_tensors(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of the input and of every tensor that a node makes, where they are float32."""
    types, graph = tensor_types(model), model.graph
    constants = {item.name for item in graph.initializer}
    constants |= {name for node in graph.node if node.op_type == "Constant" for name in node.output}
    made = [graph.input[0].name, *(name for node in graph.node for name in node.output)]
    return tuple(name for name in made if types.get(name) == onnx.TensorProto.FLOAT and name not in constants)


def tensor_types(model: onnx.ModelProto) -> dict[str, int]:
    """Return the element types (`onnx.TensorProto.FLOAT`, ...) of the tensors whose type is known, by name."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    infos = (*graph.input, *graph.value_info, *graph.output)
    return {info.name: info.type.tensor_type.elem_type for info in infos if info.type.tensor_type.elem_type}


def preprocessed(
    images: Sequence[ImageSource],
    preprocess: Preprocess,
    *,
    batch_size: int | None = None,
    progress: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> Iterator[NDArray[np.float32]]:
    """Yield pictures as a graph takes them, float32 [N, 3, H, W]: one at a time, or as many as its fixed batch holds.

    Raises:
        ImageError: a picture cannot be read.
    """
    step = batch_size or 1
    for start in range(0, len(images), step):
        yield np.stack([load(image, preprocess) for image in images[start : start + step]])
        progress(min(start + step, len(images)), len(images))


def largest_magnitudes(
    source: str | os.PathLike[str],
    images: Sequence[ImageSource],
    preprocess: Preprocess,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> dict[str, float]:
    """Return the largest magnitude of every float tensor of a graph over some pictures.

    Raises:
        ImageError: a picture cannot be read.
    """
    model = onnx.load(source)
    graph = ObservedGraph(model, float_tensors(model))
    del model
    largest: dict[str, float] = {}
    for batch in preprocessed(images, preprocess, batch_size=graph.batch_size, progress=progress):
        for name, values in graph.run(batch).items():
            largest[name] = max(largest.get(name, 0.0), float(np.abs(values).max(initial=0)))
    return largest
