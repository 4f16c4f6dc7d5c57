"""Turn the weights that a user names into a checkpoint: published ones, random ones, files of one's own or of others.

`load_weights` also reads what others save: a state dict of torchvision's, bare or under ``state_dict``,
``model_state_dict`` or ``model`` (next to anything else), its names with or without the ``module.`` of
DataParallel and the ``_orig_mod.`` of ``torch.compile``. No file's code is ever run.
"""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from edgecls import models, published
from edgecls.checkpoint import Checkpoint, checkpoint_from_document, is_checkpoint
from edgecls.fit import check_labels, fit_state_dict
from edgecls.torch_file import contents, is_state_dict, printable, read_torch_file
from edgecls_runtime.errors import CheckpointError

if TYPE_CHECKING:
    import os

    from edgecls_runtime.preprocess import Preprocess

__all__ = ["load_weights", "resolve"]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.")
_IMAGENET_LABELS = "labels: ImageNet's 1,000 classes in torchvision's order"


def load_weights(
    path: str | os.PathLike[str],
    *,
    arch: str,
    labels: tuple[str, ...] | None = None,
    preprocess: Preprocess | None = None,
    unnamed: bool = False,
) -> Checkpoint:
    """Read a checkpoint, or a state dict of torchvision's (the module says in which wrappings).

    What a state dict does not say is taken from torchvision's published weights if the file is one of theirs,
    by its SHA-256; else it is assumed, and `Checkpoint.assumptions` says so.

    Args:
        path: the file.
        arch: the architecture.
        labels: the classes' names, instead of the file's; ImageNet's for 1,000 classes if nobody names any.
        preprocess: instead of the file's; the preset of the first published weights if nobody names any.
        unnamed: call classes that nobody names ``class 0``, ``class 1``, ...: for those who need the weights alone.

    Raises:
        ModelError: there is no such architecture.
        CheckpointError: the file cannot be read, does not fit the architecture or the labels, or leaves the labels
            of other than 1,000 classes open.
    """
    models.check_arch(arch)
    path = Path(path)
    document = read_torch_file(path)
    if not is_checkpoint(document):
        return _from_state_dict(_unwrap(document, path), path, arch, labels, preprocess, unnamed)
    checkpoint = checkpoint_from_document(document, path)
    if checkpoint.arch != arch:
        raise CheckpointError(f"{path}: is a checkpoint of {checkpoint.arch}, not of {arch}", f"Use {checkpoint.arch}.")
    labels = checkpoint.labels if labels is None else labels
    check_labels(path, len(checkpoint.labels), labels)
    return _replaced(checkpoint, path, labels=labels, preprocess=preprocess or checkpoint.preprocess)


def resolve(
    arch: str,
    weights: str,
    *,
    labels: tuple[str, ...] | None = None,
    preprocess: Preprocess | None = None,
    unnamed: bool = False,
    progress: bool = False,
) -> Checkpoint:
    """Turn what a user names into a checkpoint.

    Args:
        arch: the architecture.
        weights: ``default`` for torchvision's recommended weights, ``none`` for random ones, a name of
            torchvision's (``IMAGENET1K_V1``, with or without its class), else a file.
        labels: as for `load_weights`; with random weights they also say how many classes there are.
        preprocess: as for `load_weights`; with random weights that of the recommended weights if None.
        unnamed: as for `load_weights`.
        progress: show a download's progress on stderr.

    Raises:
        ModelError: there is no such architecture.
        CheckpointError: the weights cannot be fetched or read, or do not fit.
    """
    default = published.default_pretrained(arch)
    if weights == "none":
        assumptions = ["weights: random, seed 0: right for parity and speed, but the answers mean nothing"]
        if labels is None:
            labels = default.labels
            assumptions.append(_IMAGENET_LABELS)
        if not labels:
            raise CheckpointError("there are no labels", "Name the classes, one a line: --labels FILE")
        preprocess = preprocess or default.preprocess
        model = models.build(arch, num_classes=len(labels), image_size=preprocess.crop_size[0])
        return Checkpoint(
            arch=arch,
            labels=labels,
            preprocess=preprocess,
            state_dict=dict(model.state_dict()),
            assumptions=tuple(assumptions),
        )
    named = {"default": default}
    for one in published.pretrained(arch):
        named |= {one.name: one, one.name.rpartition(".")[2]: one}
    path = published.fetch(named[weights], progress=progress) if weights in named else Path(weights)
    return load_weights(path, arch=arch, labels=labels, preprocess=preprocess, unnamed=unnamed)


def _unwrap(document: object, path: Path) -> dict[str, Tensor]:
    """Find the state dict in what others save."""
    found = document
    for wrapper in _WRAPPERS:
        if isinstance(document, dict) and isinstance(document.get(wrapper), dict):
            found = document[wrapper]
            break
    if isinstance(found, dict):
        for name, value in found.items():
            if isinstance(value, Tensor) and value.is_quantized:
                raise CheckpointError(
                    f"{path}: is quantized already ({printable(str(name))} is {value.dtype})",
                    "Give the float weights that it was made of: edgecls export ... --int8 quantizes them.",
                )
    if not is_state_dict(found):
        raise CheckpointError(
            f"{path}: holds no state dict but {contents(found)}",
            f"Save model.state_dict(), bare or in a dict under one of: {', '.join(_WRAPPERS)}.",
        )
    state_dict = dict(found)
    while prefix := next((prefix for prefix in _PREFIXES if all(name.startswith(prefix) for name in state_dict)), ""):
        state_dict = {name.removeprefix(prefix): tensor for name, tensor in state_dict.items()}
    return state_dict


def _from_state_dict(
    state_dict: dict[str, Tensor],
    path: Path,
    arch: str,
    labels: tuple[str, ...] | None,
    preprocess: Preprocess | None,
    unnamed: bool,
) -> Checkpoint:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    every = published.pretrained(arch)
    match = next((weights for weights in every if digest.startswith(weights.sha256_prefix)), None)
    likely = match or every[0]
    assumptions = []
    if preprocess is None:
        preprocess = likely.preprocess
        if match is None:
            assumed = f"preprocess: that of {likely.name}: {preprocess}"
            assumptions.append("; ".join([assumed, *_other_presets(every, preprocess)]))
    classes, tensors = fit_state_dict(path, arch, models.canonical_state_dict(arch, state_dict), preprocess)
    if labels is None:
        if classes != len(likely.labels) and not unnamed:
            raise CheckpointError(
                f"{path}: has {classes:,} classes, and does not say which", "Name them, one a line: --labels FILE"
            )
        if classes == len(likely.labels):
            labels = likely.labels
            if match is None:
                assumptions.append(_IMAGENET_LABELS)
        else:
            labels = tuple(f"class {index}" for index in range(classes))
    check_labels(path, classes, labels)
    as_published = match is not None and preprocess == match.preprocess
    checkpoint = Checkpoint(
        arch=arch,
        labels=likely.labels,
        preprocess=preprocess,
        state_dict=tensors,
        weights=path.name if match is None else match.name,
        metrics=likely.metrics if as_published else {},
        assumptions=tuple(assumptions),
    )
    return _replaced(checkpoint, path, labels=labels)


def _other_presets(every: tuple[published.PretrainedWeights, ...], preprocess: Preprocess) -> list[str]:
    """Say of the weights whose preset is another one where it differs."""
    ours = dataclasses.asdict(preprocess)
    return [
        f"{weights.name} has {', '.join(f'{name} {value}' for name, value in theirs.items() if value != ours[name])}"
        for weights in every
        if (theirs := dataclasses.asdict(weights.preprocess)) != ours
    ]


def _replaced(checkpoint: Checkpoint, path: Path, **changes: Any) -> Checkpoint:
    try:
        return dataclasses.replace(checkpoint, **changes)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}", "Give other labels: --labels FILE") from error
