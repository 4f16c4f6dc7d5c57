"""Where a training begins: weights of another training, a head for the new classes, and what of it may learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from edgecls import models, weights

if TYPE_CHECKING:
    from edgecls_runtime.preprocess import Preprocess

__all__ = ["Start", "adjust_layers", "freeze_backbone", "head_of", "start_from", "train_mode"]

_NORMALIZATIONS = (nn.modules.batchnorm._BatchNorm,)


@dataclass(frozen=True)
class Start:
    """A model to train.

    Attributes:
        model: with an output for each label, in eval mode, on the CPU.
        preprocess: that its weights are used to.
        weights: where they came from.
        notes: what was assumed or replaced, a sentence each.
    """

    model: nn.Module
    preprocess: Preprocess
    weights: str
    notes: tuple[str, ...]


def start_from(
    arch: str,
    named: str,
    labels: tuple[str, ...],
    *,
    preprocess: Preprocess | None = None,
    image_size: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> Start:
    """Load weights, and give the model a new last layer unless it knows these very labels already.

    Args:
        arch: the architecture.
        named: ``default``, ``none``, a name of torchvision's, or a file, as `weights.resolve` takes it.
        labels: the classes to learn.
        preprocess: instead of that of the weights.
        image_size: pixels; crop to this square instead, and resize in the proportion 256 : 224.
        seed: of whatever is initialized at random.
        progress: show a download's progress on stderr.

    Raises:
        ModelError: there is no such architecture.
        CheckpointError: the weights cannot be fetched or read, or do not fit.
    """
    if named == "none":
        start = weights.resolve(arch, "none", labels=labels, preprocess=preprocess)
        resized = _resized(start.preprocess, image_size)
        model = models.build(arch, num_classes=len(labels), image_size=resized.crop_size[0], seed=seed)
        return Start(model, resized, "random", (*_size_note(resized, image_size), f"weights: random (seed {seed})"))
    start = weights.resolve(arch, named, preprocess=preprocess, unnamed=True, progress=progress)
    resized = _resized(start.preprocess, image_size)
    assumptions = (*start.assumptions, *_size_note(resized, image_size))
    if start.labels == labels:
        notes = (*assumptions, f"weights: {start.weights}, with its head for these {len(labels)} labels")
        return Start(start.build(), resized, start.weights, notes)
    # The labels assumed for a bare state dict go with the head that is about to be replaced.
    notes = tuple(item for item in assumptions if not item.startswith("labels:"))
    size = start.preprocess.crop_size[0]
    model = models.build(arch, num_classes=len(labels), image_size=size, seed=seed)
    new = models.head_tensors(arch, image_size=size)
    model.load_state_dict({name: value for name, value in start.state_dict.items() if name not in new}, strict=False)
    notes += (f"weights: {start.weights}, with a new last layer for {len(labels)} classes ({', '.join(new)})",)
    return Start(model, resized, start.weights, notes)


def _resized(preprocess: Preprocess, image_size: int | None) -> Preprocess:
    if image_size is None:
        return preprocess
    return preprocess.replace(resize_size=round(image_size * 256 / 224), crop_size=(image_size, image_size))


def _size_note(resized: Preprocess, image_size: int | None) -> tuple[str, ...]:
    if image_size is None:
        return ()
    return (f"image size {image_size}: resize shorter side to {resized.resize_size}, crop {image_size}x{image_size}",)


def head_of(arch: str, *, image_size: int | None = None) -> str:
    """Return the name of the model's child that classifies: ``classifier``, ``fc``, ``heads``, ``head``."""
    return models.head_tensors(arch, image_size=image_size)[0].partition(".")[0]


def freeze_backbone(model: nn.Module, head: str, *, frozen: bool) -> None:
    """Let nothing but the head learn, or let everything learn again."""
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(not frozen or name.startswith(f"{head}."))


def train_mode(model: nn.Module, head: str, *, frozen: bool) -> None:
    """Put the model into training mode; what is frozen stays in eval mode.

    A frozen batch norm that went on averaging the new pictures' statistics would not be frozen.
    """
    model.train()
    if frozen:
        for name, child in model.named_children():
            child.train(name == head)


def adjust_layers(model: nn.Module, *, dropout: float | None = None, batchnorm_momentum: float | None = None) -> None:
    """Set the probability of every dropout layer and the momentum of every batch norm, where given."""
    for module in model.modules():
        if dropout is not None and isinstance(module, nn.Dropout):
            module.p = dropout
        if batchnorm_momentum is not None and isinstance(module, _NORMALIZATIONS):
            module.momentum = batchnorm_momentum
