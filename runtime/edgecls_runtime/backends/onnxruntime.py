"""ONNX Runtime, on its CPU, CUDA and TensorRT providers."""

from __future__ import annotations

import contextlib
import os
import re
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.errors import MissingDependencyError, ModelError, ProviderError
from edgecls_runtime.onnx_file import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecls_runtime.backends.settings import SessionSettings

__all__ = ["EXACT_INTEGERS", "OnnxRuntimeBackend", "import_onnxruntime"]

EXACT_INTEGERS = ("session.x64quantprecision", "1")
"""A session's entry without which integers saturate on x86 that has no VNNI.

ONNX Runtime's quick kernels there add pairs of products of uint8 and int8 in 16 bits: on an AMD Zen 3 MobileNetV2's
logits fell to a mean cosine of 0.94 with float32's, where exact sums give 0.996. With it it takes kernels that
are half as quick, on such CPUs alone, and for weights of 8 bits alone (``--target cpu-any`` makes them of 7).
"""

_PROVIDERS: dict[str, dict[str, dict[str, str]]] = {
    "cpu": {"CPUExecutionProvider": {}},
    # TF32 rounds the inputs of float32 products to 10 bits of mantissa and is on by default: FP32 parity fails with it.
    "cuda": {"CUDAExecutionProvider": {"use_tf32": "0"}},
    # Whichever the wheel has.
    "tensorrt": {"TensorrtExecutionProvider": {}, "NvTensorRTRTXExecutionProvider": {}},
}
_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(uint8)": "uint8",
}
_FATAL_ONLY = 4  # ONNX Runtime's log level; what goes wrong reaches the caller as an exception


def import_onnxruntime() -> Any:
    """Return the onnxruntime package, of whichever wheel is installed, told not to report its use to its makers.

    By its own switch, which there is only after the import; that has begun such a report's session by then (a file
    ``.ses`` in the folder for temporary files).

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
    onnxruntime.disable_telemetry_events()
    return onnxruntime


class OnnxRuntimeBackend:
    """A model in an ONNX Runtime session (see `edgecls_runtime.backends.Backend`)."""

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        provider: str,
        threads: int | None,
        settings: SessionSettings,
        engine_cache: str | os.PathLike[str] | None = None,
    ) -> None:
        onnxruntime = import_onnxruntime()
        where = os.fspath(path)
        available = onnxruntime.get_available_providers()
        name = next((name for name in _PROVIDERS[provider] if name in available), None)
        if name is None:
            raise ProviderError(
                f"provider {provider}: onnxruntime {onnxruntime.__version__} here has only {', '.join(available)}",
                "Install the GPU wheel in its place: pip uninstall onnxruntime && pip install 'edgecls[gpu]'",
            )
        provider_options = dict(_PROVIDERS[provider][name])
        options = onnxruntime.SessionOptions()
        options.log_severity_level = _FATAL_ONLY
        options.add_session_config_entry(*EXACT_INTEGERS)
        _place(options, threads, settings)
        if provider != "cpu":
            onnxruntime.preload_dlls()  # CUDA and cuDNN from the nvidia-* wheels, without importing torch
            # Otherwise a node without GPU kernel, or the GPU as a whole, goes to the CPU with no more than a log line.
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        if provider == "tensorrt":
            _prepare_tensorrt()
            provider_options |= _tensorrt_options(name, where, engine_cache)
        try:
            # Its Python face would print that it falls back, and try the CPU.
            session = onnxruntime.InferenceSession(
                where, options, providers=[(name, provider_options)], enable_fallback=0
            )
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
        (self.input,) = map(_tensor_info, session.get_inputs())  # one: the caller has read the file's header
        self._outputs = [output.name for output in session.get_outputs()]
        self.output = _tensor_info(session.get_outputs()[0])

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Compute logits, float32 [N, ...], of a batch of the input's dtype and shape."""
        return np.asarray(self.run_all(batch)[0], np.float32)

    def run_all(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        """Compute every output, the logits first."""
        try:
            return list(self._session.run(self._outputs, {self.input.name: batch}))
        except Exception as error:
            raise ModelError(
                f"{self.engine} on {self.provider}: the run failed: {_first_line(error)}",
                "Check the model with: edgecls verify MODEL",
            ) from error

    def close(self) -> None:
        """Free the session."""
        self._session = None


def _prepare_tensorrt() -> None:
    """Do what TensorRT's provider has no option for, before it loads TensorRT's libraries."""
    from importlib import import_module

    with contextlib.suppress(ImportError):
        import_module("tensorrt_libs")  # of the tensorrt wheels: it loads the libraries from where pip put them
    # The only switch for TF32 that reaches TensorRT through this provider; a user's own setting stays.
    os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")


def _tensorrt_options(name: str, where: str, cache: str | os.PathLike[str] | None) -> dict[str, str]:
    """Return the provider's options: the types that the file was made for, and where to keep engines."""
    if name == "NvTensorRTRTXExecutionProvider":  # takes the types from the graph
        return {} if cache is None else {"nv_runtime_cache_path": os.fspath(cache)}
    from edgecls_runtime import manifest as manifests

    manifest = manifests.read(where)
    precision = "fp32" if manifest is None else manifest.precision
    options = {} if precision == "fp32" else {f"trt_{precision}_enable": "1"}
    if cache is not None:
        for kind in ("engine", "timing"):
            options |= {f"trt_{kind}_cache_enable": "1", f"trt_{kind}_cache_path": os.fspath(cache)}
    return options


def _place(options: Any, threads: int | None, settings: SessionSettings) -> None:
    """Set what decides which CPUs a session keeps busy, and when."""
    if settings.cpus is not None:
        if threads is None:
            threads = len(settings.cpus) + 1
        if len(settings.cpus) != threads - 1:
            raise ProviderError(
                f"cpus: {len(settings.cpus)} CPUs for {threads} threads",
                f"Name as many as there are threads besides the caller's own ({threads - 1}), or leave cpus out.",
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
    if provider != "cpu" and any(word in reason for word in ("CUDA", "TensorRT", "fallback")):
        remedy = "Check the GPU driver and its CUDA libraries with: edgecls doctor"
        if provider == "tensorrt":
            remedy += "; TensorRT itself comes with: pip install 'edgecls[tensorrt]'  (ONNX Runtime wants TensorRT 10)"
        return ProviderError(f"provider {provider}: {reason}", remedy)
    if "bad_alloc" in reason:
        return ModelError(f"{where}: there is not enough memory to load it", "Free some, or take a smaller model.")
    return ModelError(
        f"{where}: onnxruntime cannot load it: {reason}",
        "The file is damaged, or wants a newer onnxruntime: export it again, or upgrade onnxruntime.",
    )


def _first_line(error: Exception) -> str:
    """Return what an ONNX Runtime exception says, without its `[ONNXRuntimeError] : 7 : INVALID_PROTOBUF :` head."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    # Some begin with the place in its source: /onnxruntime_src/.../file.cc:729 void function(arguments) What it is.
    place = r"^(?:Load model from .* failed:)?\S+\.(?:cc|h):\d+ .*?\) (?=[A-Z])"
    return re.sub(place, "", text.rsplit(" : ", 1)[-1])
