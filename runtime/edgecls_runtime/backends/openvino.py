"""OpenVINO, on the CPU."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.errors import MissingDependencyError, ModelError, ProviderError
from edgecls_runtime.onnx_file import TensorInfo

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from edgecls_runtime.backends.settings import SessionSettings

__all__ = ["OpenVinoBackend", "import_openvino"]

_DTYPES = {"f32": "float32", "f16": "float16", "f64": "float64", "u8": "uint8"}
_CONVERTER = "openvino.tools.ovc"


def import_openvino() -> Any:
    """Return the openvino package, without the converter that reports its own import to its makers.

    ``import openvino`` imports ``openvino.tools.ovc`` if it can, which writes an identity into the home folder and
    sends it over the network. It copes where the converter is missing, and nothing here needs it; whoever wants it
    afterwards can import it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    hidden = "openvino" not in sys.modules and _CONVERTER not in sys.modules
    if hidden:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # Python's own mark for "cannot be imported"
    try:
        import openvino
    except ImportError as error:
        raise MissingDependencyError(
            f"openvino: cannot be imported ({error})", "Install it with: pip install 'edgecls[openvino]'"
        ) from error
    finally:
        if hidden:
            del sys.modules[_CONVERTER]
    return openvino


class _Thread(threading.local):
    """What a thread has of its own: an infer request, the batch that it reads, and the logits that it writes."""

    request: Any = None
    batch: NDArray[np.generic] | None = None
    logits: Any = None


class OpenVinoBackend:
    """A model that OpenVINO compiled for the CPU (see `edgecls_runtime.backends.Backend`).

    Each thread has an infer request of its own; OpenVINO runs them one after the other on the same threads.
    """

    def __init__(self, path: str | os.PathLike[str], *, threads: int | None, settings: SessionSettings) -> None:
        openvino = import_openvino()
        where = os.fspath(path)
        # Left alone, OpenVINO computes in bfloat16 or half where the CPU has them, whatever the file says.
        precision = settings.inference_precision or "f32"
        options: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        if threads is not None:
            options["INFERENCE_NUM_THREADS"] = threads
        try:
            compiled = self._compiled = openvino.Core().compile_model(where, "CPU", options)
        except Exception as error:  # plain RuntimeErrors of its C++ side, but a subclass would do as well
            raise ModelError(
                f"{where}: openvino {_version(openvino)} cannot load it: {_reason(error)}",
                "The file is damaged, or wants another openvino: export it again, or run it with --provider cpu.",
            ) from error
        _check_granted(compiled, precision, threads)
        self._tensor = openvino.Tensor
        self._thread = _Thread()
        self._process = os.getpid()
        self.provider = f"OpenVINO {' '.join(compiled.get_property('EXECUTION_DEVICES'))}"
        self.engine = f"openvino {_version(openvino)} in {precision}"
        (self.input,) = map(_tensor_info, compiled.inputs)  # one: the caller has read the file's header
        self.output = _tensor_info(compiled.outputs[0])
        self._outputs = len(compiled.outputs)

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Compute logits, float32 [N, ...], of a batch of the input's dtype and shape."""
        return np.asarray(self.run_all(batch)[0], np.float32)

    def run_all(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        """Compute every output, the logits first."""
        thread = self._thread
        batch = np.ascontiguousarray(batch)
        if os.getpid() != self._process:  # its threads are not there, and it would wait for them for ever
            raise ModelError(
                f"{self.engine}: the model was loaded before this process was forked",
                "Load it in the child, or start processes by spawn.",
            )
        # Next to a run, which leaves the caches to its own data, each call of Python or of OpenVINO's API costs twenty
        # times what it does in a loop. So a batch that is written over by the next pictures is given once.
        is_new = batch is not thread.batch
        try:
            request = thread.request
            if request is None:
                request = thread.request = self._compiled.create_infer_request()
            if is_new:
                request.set_input_tensor(self._tensor(batch, shared_memory=True))
                if thread.batch is None or len(batch) != len(thread.batch):
                    thread.logits = np.empty((len(batch), *(self.output.shape or ())[1:]), self.output.dtype)
                    request.set_output_tensor(0, self._tensor(thread.logits, shared_memory=True))
                thread.batch = batch
            # Not `infer`, which lists all outputs, as `output_tensors` does: 2 % of MobileNetV2's time, each of them.
            request.start_async()
            request.wait()
            others = [request.get_output_tensor(index).data for index in range(1, self._outputs)]
            return [output.copy() for output in (thread.logits, *others)]  # the next answer is written over these
        except Exception as error:
            thread.__dict__.clear()  # whatever the request was given by now, the next run has one of its own
            raise ModelError(
                f"{self.engine} on {self.provider}: the run failed: {_reason(error)}",
                "Check the model with: edgecls verify MODEL --provider openvino",
            ) from error

    def close(self) -> None:
        """Free the compiled model."""
        self._compiled = None
        self._thread = _Thread()


def _check_granted(compiled: Any, precision: str, threads: int | None) -> None:
    """Refuse what OpenVINO granted otherwise than asked: it says nothing."""
    granted = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if granted != precision:
        raise ProviderError(
            f"provider openvino: asked to compute in {precision}, this CPU computes in {granted}",
            f"Ask for --inference-precision {granted}.",
        )
    count = compiled.get_property("INFERENCE_NUM_THREADS")
    if threads is not None and count != threads:
        raise ProviderError(
            f"provider openvino: asked for {threads} threads, got {count}",
            f"OpenVINO takes no more threads than CPUs: ask for --threads {count}.",
        )


def _version(openvino: Any) -> str:
    """Return `2026.4.1` of `2026.4.1-22982-e213a147257-releases/2026/4`."""
    return str(openvino.__version__).partition("-")[0]


def _tensor_info(port: Any) -> TensorInfo:
    dtype = port.element_type.get_type_name()
    shape = port.partial_shape
    axes = tuple(axis.get_length() if axis.is_static else None for axis in shape) if shape.rank.is_static else None
    return TensorInfo(port.any_name, _DTYPES.get(dtype, dtype), axes)


def _reason(error: Exception) -> str:
    """Return the line of an OpenVINO exception that says something: the last, after those with places in its source."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
