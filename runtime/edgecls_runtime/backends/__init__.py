"""Inference engines: one file each, all with the same small face."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from edgecls_runtime.backends.settings import Placement, SessionSettings
from edgecls_runtime.cpus import default_threads
from edgecls_runtime.errors import ProviderError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from edgecls_runtime.onnx_file import TensorInfo
    from edgecls_runtime.preflight import Plan

__all__ = [
    "ENGINE_SUFFIXES",
    "PROVIDERS",
    "Backend",
    "SessionSettings",
    "default_provider",
    "is_engine",
    "open_backend",
]

PROVIDERS = ("cpu", "cuda", "openvino", "tensorrt")
"""Where a model can run, each strictly: what was asked for, or a `ProviderError`."""

ENGINE_SUFFIXES = (".engine", ".plan")


class Backend(Protocol):
    """A loaded model: one image tensor in, logits out. Safe to call from several threads.

    Attributes:
        provider: that really runs it, in the engine's own words.
        engine: name and version of the engine.
        input: of the model; an int is a fixed axis.
        output: the logits; likewise.
    """

    provider: str
    engine: str
    input: TensorInfo
    output: TensorInfo

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Compute logits, float32 [N, ...], of a batch of the input's dtype and shape."""
        ...

    def run_all(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        """Compute every output, the logits first."""
        ...

    def close(self) -> None:
        """Free the engine's memory; `run` may not be called after."""
        ...


def is_engine(path: str | os.PathLike[str]) -> bool:
    """Return whether a file is called an engine: nothing in a plan's bytes is documented to tell."""
    return os.path.splitext(path)[1] in ENGINE_SUFFIXES


def default_provider(path: str | os.PathLike[str]) -> str:
    """Return where a file runs if nobody says: an engine on TensorRT, all else on the CPU."""
    return "tensorrt" if is_engine(path) else "cpu"


def open_backend(
    path: str | os.PathLike[str],
    placement: Placement | None = None,
    *,
    plan: Plan | None = None,
    engine_cache: str | os.PathLike[str] | None = None,
) -> Backend:
    """Load a model into the engine that serves a provider.

    Args:
        path: of an ONNX file, or of a TensorRT engine.
        placement: where and how it runs; None for the defaults on its `default_provider`.
        plan: the engine's, as `edgecls_runtime.preflight.read_plan` let it pass; None reads it.
        engine_cache: folder where TensorRT keeps what it compiled for this GPU from an ONNX file, and TensorRT-RTX
            also from an engine; it is executable code, as engines are. None keeps nothing.

    Raises:
        ModelError: the engine cannot load the model.
        ProviderError: the provider is unknown, not there, has no such setting, or cannot run such a file.
        MissingDependencyError: its package is not installed.
    """
    placement = placement or Placement(provider=default_provider(path))
    provider, threads, settings = placement.provider, placement.threads, placement.settings
    if provider not in PROVIDERS:
        raise ProviderError(f"provider {provider!r}: is unknown", f"Choose one of: {', '.join(PROVIDERS)}")
    settings.check(provider)
    if engine_cache is not None and provider != "tensorrt":
        raise ProviderError(
            f"provider {provider}: compiles nothing to keep in {engine_cache}", "Leave out --engine-cache."
        )
    if is_engine(path):
        return _open_engine(path, placement, plan, engine_cache)
    if threads is None and settings.cpus is None:
        threads = default_threads()
    if provider == "openvino":
        from edgecls_runtime.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(path, threads=threads, settings=settings)
    from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, provider=provider, threads=threads, settings=settings, engine_cache=engine_cache)


def _open_engine(
    path: str | os.PathLike[str],
    placement: Placement,
    plan: Plan | None,
    engine_cache: str | os.PathLike[str] | None,
) -> Backend:
    if placement.provider != "tensorrt":
        raise ProviderError(
            f"provider {placement.provider}: cannot run {path}, which is a TensorRT engine",
            "Leave out --provider, or give the ONNX file that the engine was built from.",
        )
    if placement.threads is not None:
        raise ProviderError(f"{path}: is a TensorRT engine, which has no CPU threads to choose", "Leave out --threads.")
    from edgecls_runtime.backends.tensorrt import TensorRtBackend
    from edgecls_runtime.preflight import read_plan

    return TensorRtBackend(plan or read_plan(path), cache=engine_cache)
