"""Inference engines: one file each, all with the same small face."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from edgecls_runtime.backends.settings import SessionSettings
from edgecls_runtime.cpus import default_threads
from edgecls_runtime.errors import ProviderError

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

    from edgecls_runtime.onnx_file import TensorInfo

__all__ = ["PROVIDERS", "Backend", "SessionSettings", "open_backend"]

PROVIDERS = ("cpu", "cuda", "openvino")
"""Where a model can run, each strictly: what was asked for, or a `ProviderError`."""


class Backend(Protocol):
    """A loaded model: one image tensor in, one tensor of logits out. Safe to call from several threads.

    Attributes:
        provider: that really runs it, in the engine's own words.
        engine: name and version of the engine.
        input: of the model; an int is a fixed axis.
        output: likewise.
    """

    provider: str
    engine: str
    input: TensorInfo
    output: TensorInfo

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Compute logits, float32 [N, ...], of a batch [N, 3, H, W] in the input's dtype."""
        ...

    def close(self) -> None:
        """Free the engine's memory; `run` may not be called after."""
        ...


def open_backend(
    path: str | os.PathLike[str],
    *,
    provider: str = "cpu",
    threads: int | None = None,
    settings: SessionSettings | None = None,
) -> Backend:
    """Load a model into the engine that serves a provider.

    Args:
        path: of an ONNX file.
        provider: one of `PROVIDERS`.
        threads: for one run; None for one a physical core, or fewer where this process may not use all of them.
        settings: what else there is to choose; None for the defaults.

    Raises:
        ModelError: the engine cannot load the model.
        ProviderError: the provider is unknown, not there, or has no such setting.
        MissingDependencyError: its package is not installed.
    """
    if provider not in PROVIDERS:
        raise ProviderError(f"provider {provider!r}: is unknown", f"Choose one of: {', '.join(PROVIDERS)}")
    settings = settings or SessionSettings()
    settings.check(provider)
    if threads is None and settings.cpus is None:
        threads = default_threads()
    if provider == "openvino":
        from edgecls_runtime.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(path, threads=threads, settings=settings)
    from edgecls_runtime.backends.onnxruntime import OnnxRuntimeBackend

    return OnnxRuntimeBackend(path, provider=provider, threads=threads, settings=settings)
