"""The order of the steps: convert, manifest, parity, golden outputs, verify, rename into place.

A picture's way is the same in all of them, `edgecls_runtime.preprocess`. The file is written beside its target
under a temporary name, and only a file that passed every gate gets the target's name.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgecls_export import drawn, fp32, parity
from edgecls_runtime import golden, manifest, onnx_file, output
from edgecls_runtime.classifier import Classifier
from edgecls_runtime.errors import ExportError
from edgecls_runtime.manifest import Manifest, Source

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from edgecls_export.parity import Reference
    from edgecls_runtime.manifest import Activation
    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["ExportReport", "ModelCard", "export_onnx"]

PARITY_IMAGES = 64


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What an `nn.Module` does not say about itself.

    Attributes:
        labels: the classes' names, in the order of the outputs.
        preprocess: what turns a picture into the input.
        arch: name of the architecture.
        source: where the weights came from.
        activation: what turns logits into scores.
        thresholds: for ``sigmoid``, the score from which each label counts.
        metrics: what training measured, by name.
    """

    labels: Sequence[str]
    preprocess: Preprocess
    arch: str
    source: Source
    activation: Activation = "softmax"
    thresholds: Sequence[float] | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ExportReport:
    """What an export made and proved."""

    path: Path
    manifest: Manifest
    size_bytes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.path}: {self.manifest.arch} {self.manifest.precision}, {self.size_bytes / 1e6:.1f} MB, "
            f"{self.seconds:.1f} s\nparity: {self.manifest.parity}"
        )


def export_onnx(
    model: torch.nn.Module,
    target: str | os.PathLike[str],
    card: ModelCard,
    *,
    batch_size: int | None = None,
    opset: int = fp32.DEFAULT_OPSET,
    images: Iterable[tuple[str, ImageSource]] | None = None,
    image_set: str = "given pictures",
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> ExportReport:
    """Export any classifier to one ONNX file, proven against PyTorch.

    Args:
        model: float32 [N, 3, H, W] to logits float32 [N, classes]; on any device, left as it was.
        target: path of the file.
        card: what the model does not say about itself.
        batch_size: fixed number of pictures a run; None leaves it free.
        opset: version of the default operator set.
        images: names and pictures for the parity gate; `edgecls_export.drawn` otherwise.
        image_set: what ``images`` are, in words.
        force: overwrite the target.
        progress: called with the name of each step as it begins.

    Raises:
        OutputError: the target exists, or cannot be written.
        ExportError: torch cannot convert the model, or it does not fit its card.
        ParityError: the artifact does not agree with PyTorch. As with every error, no file is left.
    """
    started = time.monotonic()
    target = Path(target)
    output.check_writable(target, force=force)
    if images is None:
        images = drawn.draw_pictures(PARITY_IMAGES)
        image_set = f"drawn by edgecls {importlib.metadata.version('edgecls')}"
    with _inference(model) as reference, output.whole_file(target, force=force) as temporary:
        _check_card(reference, card)
        progress("convert")
        graph = temporary.with_suffix(".graph")
        try:
            fp32.onnx_from_torch(model, graph, crop_size=card.preprocess.crop_size, batch_size=batch_size, opset=opset)
            document = Manifest(
                arch=card.arch,
                precision="fp32",
                labels=tuple(card.labels),
                activation=card.activation,
                thresholds=None if card.thresholds is None else tuple(card.thresholds),
                preprocess=card.preprocess,
                batch_size=batch_size,
                opset=opset,
                graph_sha256=onnx_file.graph_sha256(graph),
                source=card.source,
                metrics=dict(card.metrics),
                tools=_tools(),
            )
            progress("parity")
            manifest.write(document, graph, temporary)
            with Classifier.load(temporary) as classifier:
                agreement = parity.compare(
                    reference, classifier, images, preprocess=card.preprocess, image_set=image_set
                )
            parity.require(agreement, document.precision)
            progress("golden outputs")
            document = replace(document, parity=agreement, golden=golden.golden_from_reference(reference, document))
            manifest.write(document, graph, temporary)
        finally:
            graph.unlink(missing_ok=True)
        progress("verify")
        replace(golden.verify(temporary), path=str(target)).require()
        size = temporary.stat().st_size
    return ExportReport(target, document, size, time.monotonic() - started)


@contextlib.contextmanager
def _inference(model: torch.nn.Module) -> Iterator[Reference]:
    """Put a model into eval mode, TF32 off, and lend it as a function of arrays; leave all as it was."""
    modes = {module: module.training for module in model.modules()}
    tf32 = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    device = next((tensor.device for tensor in model.parameters()), torch.device("cpu"))

    def reference(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits = model(torch.from_numpy(batch).to(device))
        if not isinstance(logits, torch.Tensor):
            raise ExportError(
                f"the model returns {type(logits).__name__}, not one tensor of logits",
                "Wrap it in a module that returns its logits alone.",
            )
        return np.asarray(logits.float().cpu().numpy())

    try:
        model.eval()
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
        yield reference
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = tf32
        for module, training in modes.items():
            module.training = training


def _check_card(reference: Reference, card: ModelCard) -> None:
    """Run the model once before the long steps: does it take the crop, does it return a logit for each label?"""
    shape = (1, 3, *card.preprocess.crop_size)
    try:
        logits = reference(np.zeros(shape, np.float32))
    except RuntimeError as error:
        raise ExportError(
            f"the model does not take float32 {list(shape)}: {str(error).splitlines()[0]}",
            "Give the preprocess that the model was trained with.",
        ) from error
    if logits.shape != (1, len(card.labels)):
        raise ExportError(
            f"the model returns {list(logits.shape)} for one picture, and there are {len(card.labels)} labels",
            "Give one label for each output, in its order.",
        )


def _tools() -> dict[str, str]:
    packages = (
        "edgecls",
        "torch",
        "torchvision",
        "onnx",
        "onnxscript",
        "onnxruntime",
        "onnxruntime-gpu",
        "pillow",
        "numpy",
    )
    versions = {"python": platform.python_version()}
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
