"""The order of the steps: convert, manifest, parity, golden outputs, verify, rename into place.

A picture's way is the same in all of them, `edgecls_runtime.preprocess`. The file is written beside its target
under a temporary name, and only a file that passed every gate gets the target's name. Several precisions share one
conversion from PyTorch, and appear together or not at all.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
import tempfile
import time
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from edgecls_export import drawn, fp32, parity
from edgecls_export.embedding import embed_preprocess
from edgecls_export.file_sets import check_no_engine, whole_files
from edgecls_export.golden_outputs import golden_from_reference
from edgecls_export.precision import Fp16, Fp32, Workshop
from edgecls_export.provenance import calibration_of, parity_of, to_document
from edgecls_runtime import golden, manifest, onnx_file, output
from edgecls_runtime.classifier import Classifier
from edgecls_runtime.errors import ExportError, ManifestError, OutputError
from edgecls_runtime.manifest import Manifest, Source

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from edgecls_export.embedding import Embedding
    from edgecls_export.parity import Reference
    from edgecls_export.precision import Precision
    from edgecls_runtime.manifest import Activation
    from edgecls_runtime.preprocess import ImageSource, Preprocess

__all__ = ["ExportReport", "ModelCard", "export_all", "export_onnx"]

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
    """What an export made and proved.

    Attributes:
        notes: what its user should know.
    """

    path: Path
    manifest: Manifest
    size_bytes: int
    seconds: float
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        document = self.manifest
        shaped = "" if document.target == "any" else f" for {document.target}"
        size = f"{self.size_bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        lines = [f"{self.path}: {document.arch} {document.precision}{shaped}, {size}", f"parity: {parity_of(document)}"]
        if document.calibration:
            lines.append(f"calibration: {calibration_of(document)}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def export_onnx(
    model: torch.nn.Module,
    target: str | os.PathLike[str],
    card: ModelCard,
    *,
    precision: Precision | None = None,
    embedding: Embedding | None = None,
    batch_size: int | None = None,
    opset: int = fp32.DEFAULT_OPSET,
    images: Iterable[tuple[str, ImageSource]] | None = None,
    image_set: str = "given pictures",
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    counted: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> ExportReport:
    """Export any classifier to one ONNX file, proven against PyTorch.

    Args:
        model: float32 [N, 3, H, W] to logits float32 [N, classes]; on any device, left as it was.
        target: path of the file.
        card: what the model does not say about itself.
        precision: of the file; float32 if None.
        embedding: what the graph does beyond the network; None leaves normalization and best classes to its user.
        batch_size: fixed number of pictures a run; None leaves it free.
        opset: version of the default operator set.
        images: names and pictures for the parity gate; if None those that a precision brings for calibration, else
            `edgecls_export.drawn`.
        image_set: what ``images`` are, in words.
        force: overwrite the target.
        progress: called with the name of each step as it begins.
        counted: called with the number of pictures done and their total, within a step that takes long.

    Raises:
        OutputError: the target exists, or cannot be written.
        ExportError: torch cannot convert the model, or it does not fit its card.
        ParityError: the artifact does not agree with PyTorch. As with every error, no file is left.
    """
    (report,) = export_all(
        model,
        [(target, precision or Fp32())],
        card,
        embedding=embedding,
        batch_size=batch_size,
        opset=opset,
        images=images,
        image_set=image_set,
        force=force,
        progress=progress,
        counted=counted,
    )
    return report


def export_all(
    model: torch.nn.Module,
    outputs: Sequence[tuple[str | os.PathLike[str], Precision]],
    card: ModelCard,
    *,
    embedding: Embedding | None = None,
    batch_size: int | None = None,
    opset: int = fp32.DEFAULT_OPSET,
    images: Iterable[tuple[str, ImageSource]] | None = None,
    image_set: str = "given pictures",
    force: bool = False,
    progress: Callable[[str], None] = lambda _: None,
    counted: Callable[[int, int], None] = lambda done, of: None,  # noqa: ARG005
) -> tuple[ExportReport, ...]:
    """Export a classifier in several precisions, each file proven against PyTorch; all of them appear, or none.

    Args:
        model: as for `export_onnx`.
        outputs: path and precision of each file.
        card: what the model does not say about itself.
        embedding: as for `export_onnx`, for all of them.
        batch_size: as for `export_onnx`.
        opset: as for `export_onnx`.
        images: names and pictures for the parity gates.
        image_set: what ``images`` are, in words.
        force: overwrite the targets.
        progress: called with the name of each step as it begins, after the file's name if there are several.
        counted: as for `export_onnx`.

    Raises:
        OutputError: a target exists, is named twice, or cannot be written.
        ExportError: as for `export_onnx`.
        ParityError: likewise.
    """
    started = time.monotonic()
    targets = [Path(target) for target, _ in outputs]
    places = [target.resolve() for target in targets]
    for target in targets:
        if places.count(target.resolve()) > 1:
            raise OutputError(f"{target}: is named for two precisions", "Give each a file of its own.")
        check_no_engine(target)
        output.check_writable(target, force=force)
    if embedding is not None:
        embedding.check(len(card.labels))
        if any(isinstance(precision, Fp16) and precision.io_fp16 for _, precision in outputs):
            raise ExportError(
                "io_fp16: makes the input float16, and an embedded preprocess takes uint8 pixels", "Choose one of them."
            )
    document = _document(card, batch_size=batch_size, opset=opset)
    if images is None:
        images, image_set = _parity_pictures([precision for _, precision in outputs])
    pictures, reports = list(images), []
    with contextlib.ExitStack() as stack:
        reference = stack.enter_context(_inference(model))
        temporaries = stack.enter_context(whole_files(targets, force=force))
        _check_card(model, reference, card)
        folder = Path(stack.enter_context(_folder_beside(targets[0])))
        progress("convert")
        graph = folder / "fp32.onnx"
        fp32.onnx_from_torch(model, graph, crop_size=card.preprocess.crop_size, batch_size=batch_size, opset=opset)
        document = replace(document, graph_sha256=onnx_file.graph_sha256(graph))
        for (_, precision), target, temporary in zip(outputs, targets, temporaries, strict=True):
            step = progress if len(targets) == 1 else _prefixed(progress, target.name)
            workshop = Workshop(
                graph=graph,
                folder=folder,
                preprocess=card.preprocess,
                images=[image for _, image in pictures],
                progress=step,
                counted=counted,
            )
            converted, notes = _convert(document, precision, workshop)
            made = folder / "converted.onnx"
            if embedding is not None:
                step("embed")
                converted = embed_preprocess(made, made, converted, embedding)
            step("parity")
            manifest.write(converted, made, temporary)
            with Classifier.load(temporary) as classifier:
                agreement = parity.compare(
                    reference, classifier, pictures, preprocess=card.preprocess, image_set=image_set
                )
                parity.require(agreement, converted.precision)
                step("golden outputs")
                if precision.name == "fp32":
                    answers = golden_from_reference(reference, converted, card.preprocess)
                else:
                    answers = golden_from_reference(classifier.run, converted)
            converted = replace(converted, parity=to_document(agreement), golden=answers)
            manifest.write(converted, made, temporary)
            made.unlink()
            step("verify")
            replace(golden.verify(temporary), path=str(target)).require()
            size, seconds = temporary.stat().st_size, time.monotonic() - started
            reports.append(ExportReport(target, converted, size, seconds, notes))
    return tuple(reports)


def _convert(document: Manifest, precision: Precision, workshop: Workshop) -> tuple[Manifest, tuple[str, ...]]:
    """Write ``converted.onnx`` into the workshop's folder; return its manifest and what its user should know."""
    made = workshop.folder / "converted.onnx"
    converted = precision.convert(workshop, made)
    changed = replace(
        document,
        precision=precision.name,
        target=converted.target,
        graph_sha256=onnx_file.graph_sha256(made),
        calibration=None if converted.calibration is None else to_document(converted.calibration),
        float_layers=converted.float_layers,
    )
    return changed, converted.notes


def _parity_pictures(precisions: Sequence[Precision]) -> tuple[list[tuple[str, ImageSource]], str]:
    """Return pictures as the model meets them if there are such, and where they are from; else drawn ones."""
    for precision in precisions:
        if not isinstance(precision, Fp32) and precision.images is not None:
            given = precision.images
            some = enumerate(given.sources[:PARITY_IMAGES], start=1)
            named = [(str(image) if isinstance(image, (str, Path)) else f"picture {n}", image) for n, image in some]
            return named, f"{given.origin}, to calibrate on"
    pictures: list[tuple[str, ImageSource]] = [*drawn.draw_pictures(PARITY_IMAGES)]
    return pictures, f"drawn by edgecls {importlib.metadata.version('edgecls')}"


def _folder_beside(target: Path) -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix=f".{target.name}.", suffix=".part", dir=target.parent)


def _prefixed(progress: Callable[[str], None], name: str) -> Callable[[str], None]:
    return lambda step: progress(f"{name}: {step}")


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


def _document(card: ModelCard, *, batch_size: int | None, opset: int) -> Manifest:
    """Return the manifest as far as it is known before the conversion, and as its reader would take it."""
    if batch_size is not None and batch_size < 1:
        raise ExportError(f"batch_size: is {batch_size}", "Give 1 or more; None leaves it free.")
    try:
        document = Manifest(
            arch=card.arch,
            precision="fp32",
            labels=tuple(card.labels),
            activation=card.activation,
            thresholds=None if card.thresholds is None else tuple(card.thresholds),
            preprocess=card.preprocess,
            batch_size=batch_size,
            opset=opset,
            graph_sha256="",
            source=card.source,
            metrics=dict(card.metrics),
            tools=_tools(),
        )
        return Manifest.from_json(document.to_json(), where="the model's card")
    except ManifestError as error:
        raise ExportError(error.cause, "Correct the ModelCard.") from error
    except (TypeError, ValueError) as error:  # of what JSON does not know: a number of numpy's own, NaN
        raise ExportError(
            f"the model's card: {error}", "Give labels as str, and numbers as finite int or float."
        ) from error


def _check_card(model: torch.nn.Module, reference: Reference, card: ModelCard) -> None:
    """Run the model once before the long steps: does it take the crop, does it return a logit for each label?"""
    if card.preprocess.input_layout != "NCHW-float":
        raise ExportError(
            f"the preprocess has input_layout {card.preprocess.input_layout}, and PyTorch takes NCHW-float",
            "Leave input_layout out; --embed-preprocess makes a file that takes pixels.",
        )
    shape = (1, 3, *card.preprocess.crop_size)
    try:
        logits = reference(np.zeros(shape, np.float32))
    except ExportError:
        raise
    except Exception as error:  # of a foreign forward: its own assertions, too
        raise ExportError(
            f"the model does not take float32 {list(shape)}: {fp32.reason(error)}", _remedy(model)
        ) from error
    if logits.shape != (1, len(card.labels)):
        raise ExportError(
            f"the model returns {list(logits.shape)} for one picture, and there are {len(card.labels)} labels",
            "Give one label for each output, in its order.",
        )
    if not np.isfinite(logits).all():
        weights = (*model.named_parameters(), *model.named_buffers())
        broken = [name for name, tensor in weights if not torch.isfinite(tensor).all()]
        raise ExportError(
            f"the model returns logits from {logits.min()} to {logits.max()} for an input of zeros",
            f"Its weights are broken: {broken[0]} holds NaN or infinity."
            if broken
            else "Export one that returns numbers.",
        )


def _remedy(model: torch.nn.Module) -> str:
    for name, parameter in model.named_parameters():
        if parameter.is_meta:
            return f"Load the weights: {name} is on the device meta, which has none."
        if parameter.is_floating_point() and parameter.dtype != torch.float32:
            return f"Give model.float(): {name} is {parameter.dtype}."
    return "Give the preprocess that the model was trained with."


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
