"""What lies beside a TensorRT engine: ``NAME.engine.json``.

The engine itself stays a plain plan file, which trtexec and C++ programs load. A plan says nothing about itself to
those who have not deserialized it, and deserializing runs code that it brings along. So all that must be known before
stands in the sidecar: what the model is, where the plan can run, and the digest by which it is the plan that was built.
"""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgecls_runtime.backends import ENGINE_SUFFIXES, is_engine
from edgecls_runtime.errors import ManifestError, ModelError
from edgecls_runtime.manifest import MAX_MANIFEST_BYTES, Manifest, from_document

__all__ = ["ENGINE_SUFFIXES", "SIDECAR_VERSION", "BatchProfile", "EngineSidecar", "is_engine", "read", "sidecar_path"]

SIDECAR_VERSION = "1.0"

Flavour = Literal["tensorrt", "tensorrt_rtx"]
"""The import package that built the plan, and alone can run it."""


@dataclass(frozen=True, kw_only=True)
class BatchProfile:
    """How many pictures a run may have: at least, best, at most."""

    min: int
    opt: int
    max: int

    def __post_init__(self) -> None:
        if not 1 <= self.min <= self.opt <= self.max:
            raise ValueError(f"batch {self.min}, {self.opt}, {self.max} does not rise from at least 1")

    def __str__(self) -> str:
        return f"{self.max}" if self.min == self.max else f"{self.min} to {self.max} (best {self.opt})"


@dataclass(frozen=True, kw_only=True)
class EngineSidecar:
    """What a plan is and where it can run.

    Attributes:
        flavour: the import package that built it.
        version: of that package, as ``major.minor.patch[.build]``.
        compute_capabilities: GPU generations that it was built for, as ``8.9``.
        gpu: name of the GPU that it was built on; None if it was built ahead of time, without one.
        platform: operating system and processor, as ``linux-x86_64``.
        options: of the build, by name (``tf32``, ``version_compatible``, ``workspace_mib``, ...), as text.
        profile: number of pictures a run.
        input_dtype, output_dtype: numpy's names.
        onnx: name of the file that it was built from.
        onnx_sha256: of that file's bytes.
        plan_sha256: of the plan's bytes.
        plan_bytes: size of the plan.
        rebuild: the command that builds it again.
        manifest: of the ONNX file; None if that was a foreign one.
        layers: number of layers of the engine, by TensorRT's name of their kind and the dtypes that they take, as
            ``gemm int8``; empty where TensorRT does not say.
    """

    flavour: Flavour
    version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    platform: str
    options: dict[str, str]
    profile: BatchProfile
    input_dtype: str
    output_dtype: str
    onnx: str
    onnx_sha256: str
    plan_sha256: str
    plan_bytes: int
    rebuild: str
    manifest: Manifest | None
    layers: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the document that `from_json` reads."""
        document: dict[str, Any] = {"sidecar_version": SIDECAR_VERSION, **dataclasses.asdict(self)}
        document["manifest"] = None if self.manifest is None else json.loads(self.manifest.to_json())
        return json.dumps(document, ensure_ascii=False, indent=2, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str, *, where: str = "sidecar") -> EngineSidecar:
        """Read a document strictly.

        Raises:
            ManifestError: says which field is wrong, and what was found there.
        """
        try:
            document = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _bad(f"{where}: is not valid JSON: {error}") from error
        if not isinstance(document, dict):
            raise _bad(f"{where}: is not an object")
        version = document.pop("sidecar_version", None)
        if not isinstance(version, str) or version.partition(".")[0] != SIDECAR_VERSION.partition(".")[0]:
            raise ManifestError(
                f"{where}: is of sidecar_version {version!r}; this edgecls reads {SIDECAR_VERSION}",
                "Build the engine again with this edgecls, or install the edgecls that built it.",
            )
        inner = document.pop("manifest", None)
        manifest = None if inner is None else Manifest.from_json(json.dumps(inner), where=f"{where}: manifest")
        newer = version != SIDECAR_VERSION
        # The manifest has a reader of its own, for its own version.
        sidecar: EngineSidecar = from_document(cls, {**document, "manifest": None}, where, ignore_unknown=newer)
        return dataclasses.replace(sidecar, manifest=manifest)


def sidecar_path(path: str | os.PathLike[str]) -> Path:
    """Return where an engine's sidecar lies: ``NAME.engine.json`` for ``NAME.engine``."""
    return Path(f"{os.fspath(path)}.json")


def read(path: str | os.PathLike[str]) -> EngineSidecar:
    """Read the sidecar of an engine.

    Raises:
        ModelError: there is none, or it cannot be read.
        ManifestError: it is damaged.
    """
    beside = sidecar_path(path)
    try:
        with beside.open("rb") as file:
            text = file.read(MAX_MANIFEST_BYTES + 1)
    except FileNotFoundError as error:
        raise ModelError(
            f"{beside}: is missing, and without it nobody knows what {path} is",
            "Copy it from where the engine was built, or build again: edgecls export MODEL.onnx --tensorrt; "
            "an engine of another maker that you trust runs with --trust (and --labels, --preprocess).",
        ) from error
    except OSError as error:
        raise ModelError(f"{beside}: cannot be read: {error.strerror or error}", "Check the path.") from error
    if len(text) > MAX_MANIFEST_BYTES:
        raise _bad(f"{beside}: is over the limit of {MAX_MANIFEST_BYTES:,} bytes")
    try:
        return EngineSidecar.from_json(text.decode("utf-8"), where=str(beside))
    except UnicodeDecodeError as error:
        raise _bad(f"{beside}: is not UTF-8 ({error})") from error


def _bad(cause: str) -> ManifestError:
    return ManifestError(cause, "The file was damaged or edited by hand: build the engine again.")
