"""Does a state dict fit an architecture? If not: what differs, and which one would it fit?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from edgecls import models
from edgecls.torch_file import shortened
from edgecls_runtime.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from torch import Tensor

    from edgecls_runtime.preprocess import Preprocess

__all__ = ["check_labels", "fit_state_dict"]

# A number of classes that no layer but the head can have by chance: a prime, where channels are multiples of 8.
_MARK = 1009


def fit_state_dict(
    path: Path, arch: str, state_dict: Mapping[str, Tensor], preprocess: Preprocess
) -> tuple[int, dict[str, Tensor]]:
    """Return the number of classes, and the tensors in the model's order and dtypes; refuse what does not fit."""
    template = _template(arch, preprocess.crop_size[0])
    mismatch = _mismatch(template, state_dict)
    if mismatch:
        raise CheckpointError(f"{path}: does not fit {arch}: {mismatch}", _advice(template, state_dict))
    return _classes(template, state_dict), {
        name: _finite(f"{path}: {name}", state_dict[name].detach(), expected.dtype)
        for name, expected in template.items()
    }


def check_labels(path: Path, classes: int, labels: tuple[str, ...]) -> None:
    """Refuse labels that are more or fewer than the classes.

    Raises:
        CheckpointError: says how many there are of each.
    """
    if len(labels) != classes:
        raise CheckpointError(
            f"{path}: has {classes:,} classes, but there are {len(labels):,} labels",
            "Give as many labels as classes, in the order of the outputs: --labels FILE",
        )


def _finite(where: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    plain = tensor.device.type == "cpu" and tensor.layout == torch.strided and not tensor.is_quantized
    if not plain or tensor.is_floating_point() != dtype.is_floating_point:
        raise CheckpointError(
            f"{where}: holds {tensor.dtype} ({tensor.layout}, {tensor.device}), not plain {dtype} values",
            "Give the float weights, before any quantization.",
        )
    tensor = tensor.to(dtype)
    # The extremes are NaN if any value is; asking every value takes ten times as long (VGG-16: 3 s).
    if tensor.numel() and not all(torch.isfinite(extreme) for extreme in torch.aminmax(tensor)):
        bad = tensor.numel() - int(torch.isfinite(tensor).sum())
        raise CheckpointError(
            f"{where}: {bad:,} of {tensor.numel():,} values are NaN or infinite",
            "The training that wrote it diverged, or the file is damaged: use an earlier checkpoint.",
        )
    return tensor


def _template(arch: str, image_size: int | None = None) -> dict[str, Tensor]:
    return dict(models.skeleton(arch, num_classes=_MARK, image_size=image_size).state_dict())


def _classes(template: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> int:
    """Return how many outputs the head has: the length of that side which is ``_MARK`` long in the template."""
    for name, expected in template.items():
        if _MARK in expected.shape and name in state_dict and state_dict[name].ndim == expected.ndim:
            return state_dict[name].shape[expected.shape.index(_MARK)]
    return _MARK


def _mismatch(template: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> str:
    """Say what is missing, unexpected or of another shape; nothing if all fits, with any number of classes."""
    classes = _classes(template, state_dict)
    wanted = {
        name: tuple(classes if side == _MARK else side for side in tensor.shape) for name, tensor in template.items()
    }
    found = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    differences = {
        "missing": [name for name in wanted if name not in found],
        "unexpected": [name for name in found if name not in wanted],
        "of another shape": [
            f"{name} is {_by(found[name])}, not {_by(shape)}"
            for name, shape in wanted.items()
            if found.get(name, shape) != shape
        ],
    }
    return "; ".join(f"{len(items)} {kind} ({shortened(items)})" for kind, items in differences.items() if items)


def _advice(template: Mapping[str, Tensor], state_dict: Mapping[str, Tensor]) -> str:
    positions = "encoder.pos_embedding"
    if positions in template and positions in state_dict and template[positions].shape != state_dict[positions].shape:
        return "A Vision Transformer fits one picture size: say with --preprocess which crop_size it was trained at."
    suitable = _suitable_archs(state_dict)
    if suitable:
        return f"It fits {', '.join(suitable)}."
    return "It fits none of the architectures that `edgecls models --all` lists."


def _suitable_archs(state_dict: Mapping[str, Tensor]) -> list[str]:
    """Return the architectures that fit exactly; all others are only asked if no first-class one does."""
    first, others = models.FIRST_CLASS, models.arch_names()[len(models.FIRST_CLASS) :]
    for names in (first, others):
        suitable = [
            name for name in names if not _mismatch(_template(name), models.canonical_state_dict(name, state_dict))
        ]
        if suitable:
            return suitable
    return []


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a scalar"
