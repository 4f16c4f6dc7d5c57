"""ONNX Runtime, on its CPU and CUDA providers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.errors import MissingDependencyError, ModelError, ProviderError
from edgecls_runtime.onnx_file import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecls_runtime.backends.settings import SessionSettings

__all__ = ["OnnxRuntimeBackend", "import_onnxruntime"]

_PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    # TF32 rounds the inputs of float32 products to 10 bits of mantissa and is on by default: FP32 parity fails with it.
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}
_FATAL_ONLY = 4  # ONNX Runtime's log level; what goes wrong reaches the caller as an exception


def import_onnxruntime() -> Any:
    """Return the onnxruntime package, of whichever wheel is installed.

    Raises:
        MissingDependencyError: none is.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            f"onnxruntime: cannot be imported ({error})",
            "Install it with: pip install 'edgecls[cpu]', or 'edgecls[gpu]' for CUDA",
        ) from error
    return onnxruntime


class OnnxRuntimeBackend:
    """A model in an ONNX Runtime session (see `edgecls_runtime.backends.Backend`)."""

    def __init__(
        self, path: str | os.PathLike[str], *, provider: str, threads: int | None, settings: SessionSettings
    ) -> None:
        onnxruntime = import_onnxruntime()
        where = os.fspath(path)
        name, provider_options = _PROVIDERS[provider]
        available = onnxruntime.get_available_providers()
        if name not in available:
            raise ProviderError(
                f"provider {provider}: onnxruntime {onnxruntime.__version__} here has only {', '.join(available)}",
                "Install the GPU wheel in its place: pip uninstall onnxruntime && pip install 'edgecls[gpu]'",
            )
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        _place(options, threads, settings)
        if provider == "cuda":
            onnxruntime.preload_dlls()  # CUDA and cuDNN from the nvidia-* wheels, without importing torch
            # Otherwise a node without CUDA kernel, or CUDA as a whole, goes to the CPU with no more than a log line.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        try:
            session = onnxruntime.InferenceSession(where, options, providers=[(name, provider_options)])
        except Exception as error:  # its exceptions have no common base short of this
            raise _load_error(where, provider, error) from error
        got = session.get_providers()
        if got[0] != name:
            raise ProviderError(
                f"provider {provider}: asked for {name}, got {got[0]}",
                "Check the GPU driver and its CUDA libraries with: edgecls doctor",
            )
        self._session: Any = session
        self.provider: str = got[0]
        self.engine = f"onnxruntime {onnxruntime.__version__}"
        (self.input,) = map(_tensor_info, session.get_inputs())  # one each: the caller has read the file's header
        (self.output,) = map(_tensor_info, session.get_outputs())

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Compute logits, float32 [N, ...], of a batch [N, 3, H, W] in the input's dtype."""
        try:
            (logits,) = self._session.run([self.output.name], {self.input.name: batch})
        except Exception as error:
            raise ModelError(
                f"{self.engine} on {self.provider}: the run failed: {_first_line(error)}",
                "Check the model with: edgecls verify MODEL",
            ) from error
        return np.asarray(logits, np.float32)

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _place(options: Any, threads: int | None, settings: SessionSettings) -> None:
    """Set what decides which CPUs a session keeps busy, and when."""
    if settings.cpus is not None:
        if threads is None:
            threads = len(settings.cpus) + 1
        if len(settings.cpus) != threads - 1:
            raise ProviderError(
                f"cpus: {len(settings.cpus)} CPUs for {threads} threads",
                f"Name {threads - 1}: one for each thread but the caller's own.",
            )
        # Groups by semicolons, one for each thread of the pool; ONNX Runtime counts CPUs from 1.
        affinities = ";".join(str(cpu + 1) for cpu in settings.cpus)
        options.add_session_config_entry("session.intra_op_thread_affinities", affinities)
    if threads is not None:
        options.intra_op_num_threads = threads
    # A thread that slept takes longer to wake than most nodes take to compute; but ONNX Runtime's own default, to go on
    # spinning after a run, takes the cores from the caller, from other sessions and from the battery.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if settings.spinning is False else "1")
    options.add_session_config_entry("session.force_spinning_stop", "0" if settings.spinning else "1")


def _tensor_info(tensor: Any) -> TensorInfo:
    shape = tuple(axis if isinstance(axis, (int, str)) else None for axis in tensor.shape)
    return TensorInfo(tensor.name, _DTYPES.get(tensor.type, tensor.type), shape)


def _load_error(where: str, provider: str, error: Exception) -> ModelError | ProviderError:
    reason = _first_line(error)
    if provider == "cuda" and ("CUDA" in reason or "fallback" in reason):
        return ProviderError(
            f"provider cuda: {reason}", "Check the GPU driver and its CUDA libraries with: edgecls doctor"
        )
    return ModelError(
        f"{where}: onnxruntime cannot load it: {reason}",
        "The file is damaged, or wants a newer onnxruntime: export it again, or upgrade onnxruntime.",
    )


def _first_line(error: Exception) -> str:
    """Return what an ONNX Runtime exception says, without its `[ONNXRuntimeError] : 7 : INVALID_PROTOBUF :` head."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return text.rsplit(" : ", 1)[-1]
