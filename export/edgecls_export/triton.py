"""A model repository for NVIDIA's Triton Inference Server, for those who outgrow one machine.

``REPOSITORY/NAME`` holds ``config.pbtxt``, ``labels.txt`` and ``1/model.onnx`` or ``1/model.plan``. Triton takes
tensors, not pictures: the preprocess that its clients must apply stands in the configuration, as a parameter.

https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md; the fields:
https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgecls_export.file_sets import check_new_folder, whole_folder
from edgecls_runtime import engine_file, manifest, onnx_file
from edgecls_runtime.errors import ExportError, OutputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from edgecls_runtime.engine_file import BatchProfile, Flavour
    from edgecls_runtime.manifest import Manifest
    from edgecls_runtime.onnx_file import OnnxHeader, TensorInfo

__all__ = ["DEFAULT_MAX_BATCH", "TritonModel", "check_flavour", "check_repository", "triton_from_onnx"]

DEFAULT_MAX_BATCH = 32
"""How many requests Triton may join at most where neither the file nor anybody says."""

_DTYPES = {"float32": "TYPE_FP32", "float16": "TYPE_FP16", "uint8": "TYPE_UINT8", "int64": "TYPE_INT64"}
_OURS = {"config.pbtxt", "labels.txt", "1"}


@dataclass(frozen=True)
class TritonModel:
    """A model in a repository.

    Attributes:
        path: its folder.
        platform: Triton's name of the engine.
        max_batch_size: that Triton may make; 0 if the model takes a fixed number of pictures, which requests must hold.
        files: in the folder.
    """

    path: Path
    platform: str
    max_batch_size: int
    files: tuple[str, ...]

    def __str__(self) -> str:
        batch = f"up to {self.max_batch_size} a batch" if self.max_batch_size else "a fixed batch"
        return f"{self.path}: {self.platform}, {batch}: {', '.join(self.files)}"


def triton_from_onnx(
    onnx: str | os.PathLike[str],
    repository: str | os.PathLike[str],
    *,
    engine: str | os.PathLike[str] | None = None,
    batch: BatchProfile | None = None,
    force: bool = False,
) -> TritonModel:
    """Put a model into a repository, whole or not at all; the repository is made if it is not there.

    Args:
        onnx: file to serve, whose name the model gets.
        repository: folder of models.
        engine: to serve instead, built from that file; the model gets its name.
        batch: pictures a run for an ONNX file that leaves them free; an engine has its own.
        force: replace a model of that name.

    Raises:
        OutputError: the model exists, or the folder cannot be written.
        ModelError: a file cannot be read.
        ExportError: Triton could not serve it: an engine of another file or of TensorRT-RTX, or of a batch that neither
            is fixed nor begins with 1.
    """
    target = Path(repository) / Path(engine or onnx).stem
    check_repository(repository, [target.name], force=force)
    header, document = onnx_file.read_header(onnx), manifest.read(onnx)
    if engine is not None:
        batch = _engine_batch(engine, onnx)
    axis = header.inputs[0].shape[0] if header.inputs and header.inputs[0].shape else None
    fixed, largest = _batch(axis, batch, str(engine or onnx))
    platform = "onnxruntime_onnx" if engine is None else "tensorrt_plan"
    config = _config(target.name, platform, header, document, fixed, largest, batch)
    with _repository(Path(repository)), whole_folder(target, force=force) as folder:
        (folder / "1").mkdir()
        shutil.copyfile(engine or onnx, folder / "1" / ("model.onnx" if engine is None else "model.plan"))
        (folder / "config.pbtxt").write_text(config, "utf-8")
        if document is not None:
            (folder / "labels.txt").write_text("".join(f"{label}\n" for label in document.labels), "utf-8")
        files = tuple(sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()))
    return TritonModel(target, platform, 0 if fixed else largest, files)


def check_repository(repository: str | os.PathLike[str], names: list[str], *, force: bool) -> None:
    """Refuse models that exist (without ``force``), and such that hold more than `triton_from_onnx` writes.

    Raises:
        OutputError: says which.
    """
    repository = Path(repository)
    if not os.path.lexists(repository):
        check_new_folder(repository, force=force)
        return
    if not repository.is_dir():
        raise OutputError(f"{repository}: is a file, not a folder", "Choose another folder for --triton.")
    for name in names:
        check_new_folder(repository / name, force=force)
        found = {path.name for path in (repository / name).iterdir()} if (repository / name).is_dir() else set()
        if found - _OURS:
            raise OutputError(
                f"{repository / name}: holds {', '.join(sorted(found - _OURS))}, which would be lost",
                "Choose another --triton, or remove the model yourself.",
            )


def check_flavour(flavour: Flavour) -> None:
    """Refuse an engine that Triton cannot serve.

    Raises:
        ExportError: it is one of TensorRT-RTX.
    """
    if flavour != "tensorrt":
        raise ExportError(
            f"--triton: Triton runs plans of tensorrt, not of {flavour}",
            "Serve the ONNX file: leave --tensorrt out; or build with --flavour tensorrt.",
        )


def _engine_batch(engine: str | os.PathLike[str], onnx: str | os.PathLike[str]) -> BatchProfile:
    sidecar = engine_file.read(engine)
    check_flavour(sidecar.flavour)
    for path, expected in ((onnx, sidecar.onnx_sha256), (engine, sidecar.plan_sha256)):
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != expected:
            raise ExportError(
                f"{path}: is not what {engine_file.sidecar_path(engine)} says (SHA-256 {found[:12]}, "
                f"expected {expected[:12]})",
                f"Build the engine again: {sidecar.rebuild}",
            )
    return sidecar.profile


def _batch(axis: int | str | None, asked: BatchProfile | None, where: str) -> tuple[int | None, int]:
    """Return the fixed number of pictures a run (None if free), and the largest."""
    if isinstance(axis, int):
        if asked is not None and (asked.min, asked.max) != (axis, axis):
            raise ExportError(
                f"{where}: takes {axis} pictures a run, and no batches of {asked}",
                f"Leave --batch out, or give --batch {axis}; or export it again without --batch-size.",
            )
        return axis, axis
    if asked is None:
        return None, DEFAULT_MAX_BATCH
    if asked.min == asked.max and asked.max > 1:
        return asked.max, asked.max
    if asked.min > 1:
        raise ExportError(
            f"{where}: takes {asked} pictures a run, and Triton makes batches from 1 on",
            f"Let the smallest be 1: --batch 1,{asked.opt},{asked.max}; or fix it: --batch {asked.max}",
        )
    return None, asked.max


def _config(
    name: str,
    platform: str,
    header: OnnxHeader,
    document: Manifest | None,
    fixed: int | None,
    largest: int,
    batch: BatchProfile | None,
) -> str:
    """Return ``config.pbtxt``: protobuf's text format of ``ModelConfig``."""
    cpu = document is not None and document.target.startswith("cpu")
    kind = "KIND_GPU" if platform == "tensorrt_plan" else "KIND_CPU" if cpu else "KIND_AUTO"
    labels = 'label_filename: "labels.txt"' if document is not None else None
    lines = [
        f"name: {_text(name)}",
        f"platform: {_text(platform)}",
        f"max_batch_size: {0 if fixed else largest}",
        *_tensor("input", header.inputs[0], fixed),
        *_tensor("output", header.outputs[0], fixed, labels),
        *(line for info in header.outputs[1:] for line in _tensor("output", info, fixed)),
        f"instance_group [ {{ count: 1 kind: {kind} }} ]",
    ]
    if fixed is None and largest > 1:
        # Kernels of a plan are chosen for these sizes; for all else Triton advises to name none.
        sizes = sorted({batch.opt, batch.max} - {1}) if batch is not None else []
        preferred = f" preferred_batch_size: [ {', '.join(map(str, sizes))} ]" if sizes else ""
        lines.append(f"dynamic_batching {{{preferred} }}")
    if document is not None:
        facts = {
            "preprocess": json.dumps(dataclasses.asdict(document.preprocess)),
            "activation": document.activation,
            "graph_sha256": document.graph_sha256,
        }
        lines += [
            f"parameters {{ key: {_text(key)} value {{ string_value: {_text(value)} }} }}"
            for key, value in facts.items()
        ]
    return "\n".join(lines) + "\n"


def _tensor(role: str, info: TensorInfo, fixed: int | None, extra: str | None = None) -> Iterator[str]:
    if info.dtype not in _DTYPES or info.shape is None:
        raise ExportError(f"{role} {info}: is no tensor of pictures or logits", "Give an exported classifier.")
    free = [axis if isinstance(axis, int) else -1 for axis in info.shape[1:]]
    dims = free if fixed is None else [fixed, *free]
    yield f"{role} ["
    yield "  {"
    yield f"    name: {_text(info.name)}"
    yield f"    data_type: {_DTYPES[info.dtype]}"
    yield f"    dims: [ {', '.join(map(str, dims))} ]"
    if extra:
        yield f"    {extra}"
    yield "  }"
    yield "]"


def _text(value: str) -> str:
    """Quote a string: JSON's escapes of printable text are protobuf's, too."""
    return json.dumps(value, ensure_ascii=False)


@contextlib.contextmanager
def _repository(path: Path) -> Iterator[None]:
    """Make the folder if it is not there; if what follows fails, it goes again."""
    made = not path.exists()
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be made: {error.strerror}", "Choose another folder for --triton.") from error
    try:
        yield
    except BaseException:
        if made:
            path.rmdir()
        raise
