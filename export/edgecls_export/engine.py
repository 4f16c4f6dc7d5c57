"""An ONNX file to a TensorRT engine: a plain plan file, and beside it the sidecar that says what it is.

`edgecls_runtime.engine_file` describes the sidecar. Neither torch nor onnx is needed: an engine is best built on the
device that runs it.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls_export.engine_layers import EngineLayer, count_layers
from edgecls_export.engine_options import Builder, EngineOptions, open_builder
from edgecls_export.file_sets import whole_files
from edgecls_export.plan import build_plan
from edgecls_runtime import golden, manifest, onnx_file
from edgecls_runtime.engine_file import ENGINE_SUFFIXES, BatchProfile, EngineSidecar, is_engine, sidecar_path
from edgecls_runtime.errors import ExportError, OutputError
from edgecls_runtime.output import check_writable
from edgecls_runtime.preflight import this_platform

if TYPE_CHECKING:
    from collections.abc import Callable

    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.onnx_file import OnnxHeader

__all__ = ["DEFAULT_BATCH", "EngineReport", "check_engine_target", "engine_from_onnx"]

DEFAULT_BATCH = BatchProfile(min=1, opt=1, max=8)
"""A device answers one picture at a time; kernels are chosen for that, and some more fit in one run."""

_TENSORRT_TARGETS = ("tensorrt", "cuda", "any")


@dataclass(frozen=True)
class EngineReport:
    """What was built, and whether this machine proved it.

    Attributes:
        layers: number of layers of the network by type and dtype, as ``CONVOLUTION float16``.
        engine_layers: what became of them; none where TensorRT does not say.
        proof: what the golden outputs said on this machine's GPU, or why they were not computed.
    """

    path: Path
    sidecar: EngineSidecar
    seconds: float
    layers: dict[str, int]
    engine_layers: tuple[EngineLayer, ...]
    proof: str

    def __str__(self) -> str:
        about, document = self.sidecar, self.sidecar.manifest
        model = "no manifest" if document is None else f"{document.arch} {document.precision}"
        on = about.gpu or f"compute capability {', '.join(about.compute_capabilities)}"
        dtypes: dict[str, int] = {}
        for layer, count in self.layers.items():
            dtypes[layer.split()[1]] = dtypes.get(layer.split()[1], 0) + count
        size = f"{about.plan_bytes / 1e6:.1f} MB, {self.seconds:.1f} s"
        lines = [
            f"{self.path}: {model} for {on} ({about.flavour} {about.version}), {size}",
            f"batch: {about.profile}; layers of the file: {_listed(dtypes)}",
            f"golden outputs: {self.proof}",
        ]
        if about.layers:
            lines.insert(2, f"layers of the engine: {_listed(about.layers)}")
        return "\n".join(lines)


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def engine_from_onnx(
    onnx: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    options: EngineOptions | None = None,
    force: bool = False,
    progress: Callable[[str, float], object] = lambda phase, share: None,  # noqa: ARG005
) -> EngineReport:
    """Build an engine and its sidecar; both appear, or neither.

    Two builds of the same file with the same options need not have the same bytes: built on a GPU kernels are chosen by
    the clock, and ahead of time MobileNetV3 and INT8 files give other bytes each time, too.

    Args:
        onnx: one image in, one tensor of logits out; its types are the engine's.
        target: path of the engine, ``NAME.engine`` or ``NAME.plan``.
        options: of the engine.
        force: overwrite the target.
        progress: called with the name of a phase and the share of the whole that is done, perhaps in another thread.

    Raises:
        OutputError: the target exists, or cannot be written.
        ModelError: the file cannot be read.
        ExportError: it does not suit TensorRT, or TensorRT cannot heed the options.
        ProviderError: there is no GPU, and the build is not ahead of time.
        MissingDependencyError: no TensorRT is installed.
        VerificationError: the engine does not compute the model on this machine's GPU. As always, no file is left.
    """
    started, target, options = time.monotonic(), Path(target), options or EngineOptions()
    check_engine_target(target, force=force)
    builder = open_builder(options)
    header, document = onnx_file.read_header(onnx), manifest.read(onnx)
    _check_model(header, document, str(onnx))
    profile = _profile(header, options.batch, str(onnx))
    digest = _sha256(onnx)
    with whole_files((target, sidecar_path(target)), force=force) as (plan, beside):
        built = build_plan(onnx, plan, builder=builder, options=options, profile=profile, progress=progress)
        sidecar = EngineSidecar(
            flavour=builder.package.flavour,
            version=builder.package.version,
            compute_capabilities=_capabilities(builder, options),
            gpu=None if options.compute_capabilities or builder.gpu is None else builder.gpu.name,
            platform=this_platform(),
            options=_recorded(options) | built.settings,
            profile=profile,
            input_dtype=header.inputs[0].dtype,
            output_dtype=header.outputs[0].dtype,
            onnx=Path(onnx).name,
            onnx_sha256=digest,
            plan_sha256=_sha256(plan),
            plan_bytes=plan.stat().st_size,
            rebuild=_rebuild_command(onnx, target, options),
            manifest=document,
            layers=count_layers(built.engine_layers),
        )
        beside.write_text(sidecar.to_json(), "utf-8")
        proof = _prove(plan, sidecar, builder, target)
    return EngineReport(target, sidecar, time.monotonic() - started, built.layers, built.engine_layers, proof)


def check_engine_target(target: str | os.PathLike[str], *, force: bool) -> None:
    """Refuse a name that is no engine's, and an engine or sidecar that exists (without ``force``).

    Raises:
        OutputError: says which.
    """
    if Path(target).is_dir():
        raise OutputError(f"{target}: is a folder", f"Name a file in it: {Path(target) / 'model.engine'}")
    if not is_engine(target):
        raise OutputError(f"{target}: is not called an engine", f"Let it end in one of: {', '.join(ENGINE_SUFFIXES)}")
    check_writable(target, force=force)
    check_writable(sidecar_path(target), force=force)


def _check_model(header: OnnxHeader, document: Manifest | None, where: str) -> None:
    if document is not None and document.top_k is not None:
        raise ExportError(
            f"{where}: names the best classes itself, and an engine has its logits alone",
            "Embed the preprocess without --embed-top-k, and build from that.",
        )
    if len(header.inputs) != 1 or len(header.outputs) != 1:
        raise ExportError(
            f"{where}: is no classifier: inputs {len(header.inputs)}, outputs {len(header.outputs)}",
            "Give a model of one image in and one tensor of logits out.",
        )
    (image,) = header.inputs
    if image.shape is None or len(image.shape) != 4 or not all(isinstance(axis, int) for axis in image.shape[1:]):
        raise ExportError(
            f"{where}: takes {image}, not [batch, 3, height, width] of a fixed size",
            "Export it with a fixed height and width; the batch alone may be free.",
        )
    if document is not None and document.target not in _TENSORRT_TARGETS:
        raise ExportError(
            f"{where}: was quantized for {document.target}: TensorRT takes no uint8 activations and no int32 bias",
            "Quantize for TensorRT: edgecls export ARCH|CHECKPOINT --tensorrt --int8 makes both files.",
        )


def _profile(header: OnnxHeader, asked: BatchProfile | None, where: str) -> BatchProfile:
    shape = header.inputs[0].shape
    fixed = shape[0] if shape else None
    if not isinstance(fixed, int):
        return asked or DEFAULT_BATCH
    own = BatchProfile(min=fixed, opt=fixed, max=fixed)
    if asked not in (None, own):
        raise ExportError(
            f"{where}: takes {fixed} pictures a run, and no profile of {asked}",
            f"Leave --batch out, or give --batch {fixed}; or export it again without --batch-size.",
        )
    return own


def _capabilities(builder: Builder, options: EngineOptions) -> tuple[str, ...]:
    if options.compute_capabilities or builder.gpu is None:
        return options.compute_capabilities
    return (builder.gpu.compute_capability,)


def _recorded(options: EngineOptions) -> dict[str, str]:
    return {
        name: str(getattr(options, name)).lower()
        for name in ("tf32", "version_compatible", "hardware_compatible", "refittable", "strip_plan")
    }


def _rebuild_command(onnx: str | os.PathLike[str], target: Path, options: EngineOptions) -> str:
    """Return the command that makes the engine again, to be given in the folder where it lies."""
    source = os.path.relpath(onnx, target.parent)
    if options.timing_cache is not None:
        options = replace(options, timing_cache=os.path.relpath(options.timing_cache, target.parent))
    words = shlex.join(["edgecls", "export", source, "--tensorrt"]), options.command_line()
    return " ".join(filter(None, (*words, shlex.join(["--output", target.name, "--force"]))))


def _prove(plan: Path, sidecar: EngineSidecar, builder: Builder, target: Path) -> str:
    """Hold the engine against the golden outputs of its model where this machine has the GPU for it."""
    if sidecar.manifest is None or sidecar.manifest.golden is None:
        return "none: the ONNX file carries no answers to compare with"
    if sidecar.options["strip_plan"] == "true":
        return "not run: the plan holds no weights yet"
    elsewhere = f"prove it on the device: edgecls verify {target}"
    if builder.gpu is None:
        return f"not run here: no GPU; {elsewhere}"
    if builder.gpu.compute_capability not in sidecar.compute_capabilities:
        return f"not run here: {builder.gpu} is another GPU; {elsewhere}"
    found = replace(golden.verify(plan), path=str(target))
    found.require()
    return next(check.found for check in found.checks if check.name == "logits")


def _sha256(path: str | os.PathLike[str]) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
