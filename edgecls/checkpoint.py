"""What training leaves on disk: the weights, and all that is needed to use them.

A checkpoint is a file of ``torch.save``: a dict of plain types and tensors, readable with ``weights_only=True``.

============== ====================================================================================
key            value
============== ====================================================================================
``format``     ``edgecls.checkpoint/1``; any change of the keys below raises the number
``arch``       name of the architecture
``labels``     list of the classes' names, in the order of the outputs
``preprocess`` dict, the fields of `Preprocess`
``state_dict`` dict of tensors by name
...            the other fields of `Checkpoint`, lists and dicts instead of tuples and dataclasses
============== ====================================================================================
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeGuard

import torch
from torch import Tensor

from edgecls import models
from edgecls.fit import check_labels, fit_state_dict
from edgecls.torch_file import contents, is_state_dict, read_torch_file, shortened, write_torch_file
from edgecls_runtime.errors import CheckpointError, ManifestError, ModelError
from edgecls_runtime.manifest import from_document
from edgecls_runtime.preprocess import Preprocess  # noqa: TC001 - from_document resolves the annotations

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from torch import nn

__all__ = ["FORMAT", "Checkpoint", "checkpoint_from_document", "is_checkpoint", "load", "save", "state_dict_sha256"]

FORMAT = "edgecls.checkpoint/1"


@dataclass(frozen=True, kw_only=True, eq=False)
class Checkpoint:
    """Weights, and what is needed to use them.

    Attributes:
        arch: name of the architecture.
        labels: the classes' names, in the order of the outputs.
        preprocess: what turns a picture into the input.
        state_dict: tensors by the names that `models.skeleton` has.
        activation: what turns logits into scores.
        thresholds: for ``sigmoid``, the score from which each label counts; None otherwise.
        weights: where the weights came from: a file name, a name of torchvision's, or ``random``.
        metrics: what was measured, by name (``acc@1`` in percent).
        history: what training measured, a dict an epoch.
        assumptions: what the weights' file did not say, a sentence each; not saved.

    Raises:
        ValueError: the fields contradict one another.
    """

    arch: str
    labels: tuple[str, ...] = field(repr=False)
    preprocess: Preprocess
    state_dict: dict[str, Tensor] = field(repr=False)
    activation: Literal["softmax", "sigmoid"] = "softmax"
    thresholds: tuple[float, ...] | None = None
    weights: str = "random"
    metrics: dict[str, float] = field(default_factory=dict)
    history: tuple[dict[str, float], ...] = field(default=(), repr=False)
    assumptions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.labels:
            raise ValueError("labels: is empty")
        for index, label in enumerate(self.labels):
            if not label or not label.isprintable():  # labels are printed: no escape codes, no line breaks
                raise ValueError(f"labels[{index}]: {label!r} is empty or holds a control character")
        if (self.thresholds is not None) != (self.activation == "sigmoid"):
            raise ValueError(f"thresholds: go with activation sigmoid alone (activation is {self.activation})")
        if self.thresholds is not None and len(self.thresholds) != len(self.labels):
            raise ValueError(f"thresholds: has {len(self.thresholds)} values for {len(self.labels)} labels")
        if not all(isinstance(text, str) and text.isprintable() for text in (self.weights, *self.metrics)):
            raise ValueError("weights or metrics: a name is no text, or holds a control character")

    def __str__(self) -> str:
        metrics = ", ".join(f"{name} {value:g}" for name, value in self.metrics.items()) or "no metrics"
        return (
            f"{self.arch}, {len(self.labels)} labels ({shortened(list(self.labels))}), {self.activation}, "
            f"weights {self.weights}, {metrics}"
        )

    def build(self) -> nn.Module:
        """Return the model, in eval mode, on the CPU, with a copy of the weights.

        Raises:
            ModelError: there is no such architecture.
            CheckpointError: the weights do not fit it.
        """
        return models.assemble(
            self.arch, self.state_dict, num_classes=len(self.labels), image_size=self.preprocess.crop_size[0]
        )


def state_dict_sha256(state_dict: Mapping[str, Tensor]) -> str:
    """Return the SHA-256, in hex, over a state dict; it depends neither on the device nor on the order.

    For every tensor, in the order of their names: the JSON list of name, dtype (``torch.float32``) and shape, a
    line feed, and the values, row-major, in the machine's byte order (little-endian wherever PyTorch is released).
    """
    digest = hashlib.sha256()
    for name in sorted(state_dict):
        tensor = state_dict[name].detach().cpu()
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode() + b"\n")
        # Not every dtype has a counterpart in numpy (bfloat16), every dtype has bytes.
        digest.update(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def save(checkpoint: Checkpoint, path: str | os.PathLike[str]) -> None:
    """Write a checkpoint, whole or not at all, over whatever was there.

    Raises:
        OutputError: the file cannot be written.
    """
    fields = {item.name: getattr(checkpoint, item.name) for item in dataclasses.fields(checkpoint)}
    del fields["assumptions"]
    tensors = {name: tensor.detach().cpu() for name, tensor in fields.pop("state_dict").items()}
    plain = json.loads(json.dumps(fields | {"preprocess": dataclasses.asdict(checkpoint.preprocess)}))
    write_torch_file({"format": FORMAT, **plain, "state_dict": tensors}, path)


def load(path: str | os.PathLike[str]) -> Checkpoint:
    """Read a checkpoint that `save` wrote.

    Raises:
        CheckpointError: it cannot be read, or its weights do not fit its architecture and labels.
    """
    path = Path(path)
    document = read_torch_file(path)
    if not is_checkpoint(document):
        raise CheckpointError(
            f"{path}: is not a checkpoint of edgecls ({contents(document)})",
            f"If it holds a state dict, name its architecture: edgecls export ARCH --weights {path}",
        )
    return checkpoint_from_document(document, path)


def is_checkpoint(document: object) -> TypeGuard[dict[str, Any]]:
    """Return whether what a file holds is a checkpoint of edgecls, of whatever format version."""
    return isinstance(document, dict) and str(document.get("format")).startswith("edgecls.checkpoint/")


def checkpoint_from_document(document: dict[str, Any], path: Path) -> Checkpoint:
    """Check what a checkpoint's file holds, field by field.

    Raises:
        CheckpointError: says which field is wrong; or the weights do not fit architecture and labels.
    """
    if document["format"] != FORMAT:
        raise CheckpointError(
            f"{path}: is of format {document['format']!r}; this edgecls reads {FORMAT!r}",
            "Install the edgecls that wrote it, or train again.",
        )
    damaged = "The file was damaged, or not written by edgecls: train again, or save it again."
    if not is_state_dict(document.get("state_dict")):
        raise CheckpointError(f"{path}: state_dict: is missing, or not tensors by name", damaged)
    try:
        # Assumptions are made on reading, never read.
        fields = {name: value for name, value in document.items() if name not in ("format", "assumptions")}
        checkpoint: Checkpoint = from_document(Checkpoint, fields, str(path))
    except ManifestError as error:
        raise CheckpointError(error.cause, damaged) from error
    except (TypeError, RecursionError) as error:  # an ill-typed value too odd to be shown
        raise CheckpointError(f"{path}: is damaged: {error}", damaged) from error
    try:
        models.check_arch(checkpoint.arch)
    except ModelError as error:
        raise CheckpointError(f"{path}: arch: {error.cause}", error.remedy) from error
    classes, tensors = fit_state_dict(path, checkpoint.arch, checkpoint.state_dict, checkpoint.preprocess)
    check_labels(path, classes, checkpoint.labels)
    return dataclasses.replace(checkpoint, state_dict=tensors)
