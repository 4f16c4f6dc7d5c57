"""The layers of a finished engine, as TensorRT itself lists them: what became of a file's nodes, and in which types.

It is the text of ``IEngineInspector``, which wants the engine in a GPU's memory. TensorRT-RTX also writes it to its log
at the end of a build with ``ProfilingVerbosity.DETAILED``, and so on machines without a GPU, too.
"""

from __future__ import annotations

import collections
import re
from dataclasses import dataclass

__all__ = ["EngineLayer", "count_layers", "read_layers"]

_LAYER = re.compile(
    r"Name: (?P<name>.*?), LayerType: (?P<kind>.*?), Inputs: \[(?P<inputs>.*?)\], Constants: \[(?P<constants>.*?)\], "
    r"Outputs: \[(?P<outputs>.*?)\], TacticName: .*?, StreamId: -?\d+, Metadata:(?P<nodes>(?: ?\[ONNX Layer: .*?\])*)"
)
_DTYPES = {"float": "float32", "half": "float16"}


@dataclass(frozen=True)
class EngineLayer:
    """One layer: a kernel, or several that are compiled on the device.

    Attributes:
        name: TensorRT's.
        kind: likewise: ``correlation`` (a convolution), ``gemm``, ``kgen`` (a kernel of several small operations), ...
        inputs: dtypes of what flows in, sorted, each once.
        constants: of weights, biases, scales.
        outputs: of what flows out.
        nodes: names of the file's nodes that it computes.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    constants: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[str, ...]


def read_layers(text: str) -> tuple[EngineLayer, ...]:
    """Return the layers that TensorRT lists in a text of one line; none if it is not as known."""
    return tuple(
        EngineLayer(
            name=found["name"],
            kind=found["kind"],
            inputs=_dtypes(found["inputs"]),
            constants=_dtypes(found["constants"]),
            outputs=_dtypes(found["outputs"]),
            nodes=tuple(re.findall(r"\[ONNX Layer: (.*?)\]", found["nodes"])),
        )
        for found in _LAYER.finditer(text)
    )


def count_layers(layers: tuple[EngineLayer, ...]) -> dict[str, int]:
    """Return the number of layers by kind and dtypes that flow in, as ``correlation int8``; the most frequent first.

    Those without tensors, which compute shapes on the CPU, do not count.
    """
    named = (f"{layer.kind} {'+'.join(layer.inputs)}" for layer in layers if layer.inputs)
    return dict(collections.Counter(named).most_common())


def _dtypes(tensors: str) -> tuple[str, ...]:
    found = {name.lower() for name in re.findall(r"Datatype: (\w+)", tensors)}
    return tuple(sorted(_DTYPES.get(name, name) for name in found))
