"""An architecture as a table: layers, output shapes, parameters, multiply-adds.

>>> summarize("alexnet").parameters
61100840
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torchinfo

from edgecls.models import check_arch, skeleton
from edgecls.published import default_pretrained
from edgecls_runtime.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from torch import nn


__all__ = ["LayerRow", "Summary", "summarize"]


@dataclass(frozen=True, kw_only=True)
class LayerRow:
    """A layer of a `Summary`, with all that lies in it.

    Attributes:
        name: path in the model, ``features.0``.
        kind: its class.
        output_shape: empty if the layer was not called by itself.
        parameters: count; 0 where the layer's weights were counted in an earlier row.
        multiply_adds: count for one picture.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    parameters: int
    multiply_adds: int


@dataclass(frozen=True, kw_only=True)
class Summary:
    """An architecture's layers, from top to bottom; prints itself as a table.

    Attributes:
        arch: name.
        input_size: [1, 3, H, W].
        parameters: count.
        trainable_parameters: those that training changes.
        multiply_adds: for one picture: torchinfo's count (weights times positions, biases included), except
            that linear layers over many positions count each of them. What attention layers compute is not in
            it (a third of a Vision Transformer), nor are activations and pooling.
        layers: in the order of execution, containers before what they hold.
    """

    arch: str
    input_size: tuple[int, ...]
    parameters: int
    trainable_parameters: int
    multiply_adds: int
    layers: tuple[LayerRow, ...]

    def __str__(self) -> str:
        rows = [("layer", "kind", "output", "parameters", "multiply-adds")]
        for layer in self.layers:
            parents, _, name = layer.name.rpartition(".")
            indent = "  " * (parents.count(".") + 1 if parents else 0)
            shape = _by(layer.output_shape) or "-"
            rows.append((indent + name, layer.kind, shape, f"{layer.parameters:,}", _scaled(layer.multiply_adds)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        aligned = ("<", "<", "<", ">", ">")
        table = [
            "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, aligned, widths, strict=True)).rstrip()
            for row in rows
        ]
        table.insert(1, "-" * max(map(len, table)))
        attention = any("Attention" in layer.kind for layer in self.layers)
        return "\n".join(
            [
                f"{self.arch}, input {_by(self.input_size)}",
                "",
                *table,
                table[1],
                f"parameters     {self.parameters:,} ({self.trainable_parameters:,} trainable)",
                f"multiply-adds  {_scaled(self.multiply_adds)}" + (", not counting attention" if attention else ""),
            ]
        )


def summarize(
    model: str | nn.Module, *, num_classes: int = 1000, input_size: tuple[int, int, int, int] | None = None
) -> Summary:
    """Count the parameters and multiply-adds of every layer.

    Args:
        model: an architecture's name (nothing is allocated or computed), or a model, which runs once.
        num_classes: outputs of the head, for a name.
        input_size: [1, 3, H, W] in pixels; that of the architecture's default preset, or 224x224 for a model,
            if None.

    Raises:
        ModelError: there is no such architecture, or it does not run at that size.
    """
    if isinstance(model, str):
        arch = model
        check_arch(arch)
        size = input_size or (1, 3, *default_pretrained(arch).preprocess.crop_size)
        model = skeleton(arch, num_classes=num_classes, image_size=size[2])
    else:
        arch = type(model).__name__
        size = input_size or (1, 3, 224, 224)
    first = next(model.parameters())
    picture = torch.zeros(size, dtype=first.dtype, device=first.device)
    try:
        statistics = torchinfo.summary(model, input_data=picture, device=first.device, mode="eval", verbose=0)
    except RuntimeError as error:
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise ModelError(
            f"{arch} does not run on an input of {_by(size)}: {reason}",
            "Give [1, 3, H, W], large enough: 224x224 suits most, torchvision's own size suits the architecture.",
        ) from error
    finally:
        torchinfo.torchinfo.clear_cached_forward_pass()  # else it keeps the model, weights and all
    root, *layers = statistics.summary_list
    return Summary(
        arch=arch,
        input_size=size,
        parameters=statistics.total_params,
        trainable_parameters=statistics.trainable_params,
        multiply_adds=_multiply_adds(root),
        layers=tuple(_rows(layers)),
    )


def _rows(layers: Iterable[Any]) -> Iterator[LayerRow]:
    """Turn torchinfo's layers, which know their depth and their own name, into rows with whole paths."""
    path: list[str] = []
    for layer in layers:
        path[layer.depth - 1 :] = [layer.var_name]
        yield LayerRow(
            name=".".join(path),
            kind=layer.class_name,
            output_shape=tuple(layer.output_size),
            parameters=0 if layer.is_recursive else layer.num_params,
            multiply_adds=_multiply_adds(layer),
        )


def _multiply_adds(layer: Any) -> int:
    if not layer.is_leaf_layer:
        # torchinfo's `children` are all the layers below, at any depth.
        return sum(_multiply_adds(child) for child in layer.children if child.is_leaf_layer)
    count: int = layer.macs
    if "Linear" in layer.class_name:
        count *= math.prod(layer.output_size[1:-1])
    return count


def _by(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def _scaled(count: int) -> str:
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "K")):
        if count >= factor:
            return f"{count / factor:.2f} {unit}"
    return str(count)
