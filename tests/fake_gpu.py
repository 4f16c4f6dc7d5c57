"""A GPU that is none: CUDA's runtime and TensorRT played by numpy and ONNX Runtime, strict about how they are used.

What is asked of a stream happens when the stream is synchronized, not before. Memory is real memory, so addresses can
be used as such; what is freed is filled with noise. Whatever NVIDIA calls undefined is listed in `FakeGpu.violations`.
"""

from __future__ import annotations

import enum
import json
import sys
import threading
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

MAGIC = b"fake plan of "


class CudaError(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorIllegalAddress = 700
    cudaErrorStreamCaptureInvalidated = 901


class _Kind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class _CaptureMode(enum.IntEnum):
    cudaStreamCaptureModeGlobal = 0
    cudaStreamCaptureModeThreadLocal = 1


class Handle(int):
    """What the bindings return for a stream or graph: an object that is an integer where one is asked for."""


@dataclass
class Stream:
    pending: list[Any] = field(default_factory=list)
    captured: list[Any] | None = None
    is_invalidated: bool = False


@dataclass
class FakeGpu:
    """State of the card and what was done with it; an instance is also the module ``cuda.bindings.runtime``."""

    name: str = "NVIDIA Fake 4090"
    major: int = 8
    minor: int = 9
    memory_bytes: int = 2**30
    driver: int = 13000
    runtime: int = 13000
    device_count: tuple[CudaError, int | None] = (CudaError.cudaSuccess, 1)
    fail: dict[str, CudaError] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    device: dict[int, np.ndarray] = field(default_factory=dict)
    pinned: dict[int, np.ndarray] = field(default_factory=dict)
    streams: dict[int, Stream] = field(default_factory=dict)
    graphs: dict[int, list[Any]] = field(default_factory=dict)
    executables: dict[int, list[Any]] = field(default_factory=dict)
    contexts: list[Any] = field(default_factory=list)
    ran: list[int] = field(default_factory=list)
    _graveyard: list[np.ndarray] = field(default_factory=list)
    _next: int = 1
    _lock: Any = field(default_factory=threading.RLock)

    cudaError_t = CudaError
    cudaMemcpyKind = _Kind
    cudaStreamCaptureMode = _CaptureMode
    cudaStreamNonBlocking = 1

    @property
    def leaks(self) -> dict[str, int]:
        """What is still held, by kind; empty if all was given back."""
        held = {name: len(getattr(self, name)) for name in ("device", "pinned", "streams", "graphs", "executables")}
        return {name: count for name, count in held.items() if count}

    def _answer(self, name: str, *values: Any) -> tuple[Any, ...]:
        self.calls.append(name)
        if name in self.fail:
            return (self.fail[name], *(None for _ in values))
        return (CudaError.cudaSuccess, *values)

    def _handle(self) -> Handle:
        self._next += 1
        return Handle(self._next)

    # The calls, under CUDA's own names.

    def cudaGetDeviceCount(self) -> Any:
        return self.device_count

    def cudaDriverGetVersion(self) -> Any:
        return CudaError.cudaSuccess, self.driver

    def cudaRuntimeGetVersion(self) -> Any:
        return CudaError.cudaSuccess, self.runtime

    def cudaSetDevice(self, device: int) -> Any:
        return self._answer("cudaSetDevice")

    def cudaGetDeviceProperties(self, device: int) -> Any:
        found = types.SimpleNamespace(
            name=self.name.encode() + b"\0", major=self.major, minor=self.minor, totalGlobalMem=self.memory_bytes
        )
        return self._answer("cudaGetDeviceProperties", found)

    def cudaMemGetInfo(self) -> Any:
        free = self.memory_bytes - sum(array.nbytes for array in self.device.values())
        return self._answer("cudaMemGetInfo", free, self.memory_bytes)

    def cudaGetErrorString(self, error: CudaError) -> Any:
        return CudaError.cudaSuccess, {2: b"out of memory"}.get(int(error), b"something failed")

    def cudaGetLastError(self) -> Any:
        return (CudaError.cudaSuccess,)

    def cudaMalloc(self, size: int) -> Any:
        with self._lock:
            if size > self.cudaMemGetInfo()[1]:
                return CudaError.cudaErrorMemoryAllocation, None
            array = np.full(size, 0xA5, np.uint8)
            if "cudaMalloc" not in self.fail:
                self.device[array.ctypes.data] = array
            return self._answer("cudaMalloc", array.ctypes.data)

    def cudaMallocHost(self, size: int) -> Any:
        with self._lock:
            array = np.full(size, 0x5A, np.uint8)
            if "cudaMallocHost" not in self.fail:
                self.pinned[array.ctypes.data] = array
            return self._answer("cudaMallocHost", array.ctypes.data)

    def _free(self, held: dict[int, np.ndarray], address: int, name: str) -> Any:
        with self._lock:
            array = held.pop(address, None)
            if array is None:
                self.violations.append(f"{name} of what is not held")
            else:
                array[:] = 0xEE
                self._graveyard.append(array)
            return self._answer(name)

    def cudaFree(self, address: int) -> Any:
        return self._free(self.device, address, "cudaFree")

    def cudaFreeHost(self, address: int) -> Any:
        return self._free(self.pinned, address, "cudaFreeHost")

    def cudaStreamCreateWithFlags(self, flags: int) -> Any:
        with self._lock:
            handle = self._handle()
            self.streams[handle] = Stream()
            return self._answer("cudaStreamCreateWithFlags", handle)

    def cudaStreamDestroy(self, stream: Handle) -> Any:
        if self.streams.pop(stream, None) is None:
            self.violations.append("a stream is closed that is not open")
        return self._answer("cudaStreamDestroy")

    def cudaStreamSynchronize(self, stream: Handle) -> Any:
        state = self._stream(stream)
        if state.captured is not None:
            self.violations.append("a capturing stream is synchronized")
        pending, state.pending = state.pending, []
        for work in pending:
            work()
        return self._answer("cudaStreamSynchronize")

    def cudaMemcpyAsync(self, to: int, source: int, size: int, kind: _Kind, stream: Handle) -> Any:
        def copy() -> None:
            upward = kind is _Kind.cudaMemcpyHostToDevice
            target = self.memory(self.device if upward else self.pinned, to, size)
            target[:] = self.memory(self.pinned if upward else self.device, source, size)

        self.ask(stream, copy)
        return self._answer("cudaMemcpyAsync")

    def cudaStreamBeginCapture(self, stream: Handle, mode: _CaptureMode) -> Any:
        if mode is not _CaptureMode.cudaStreamCaptureModeThreadLocal:
            self.violations.append("a capture that other threads' allocations break")
        self._stream(stream).captured = []
        return self._answer("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream: Handle) -> Any:
        state = self._stream(stream)
        if state.captured is None:
            self.violations.append("a capture ends that never began")
        captured, state.captured = state.captured, None
        if state.is_invalidated:
            state.is_invalidated = False
            return CudaError.cudaErrorStreamCaptureInvalidated, None
        handle = self._handle()
        self.graphs[handle] = captured or []
        return self._answer("cudaStreamEndCapture", handle)

    def cudaGraphInstantiate(self, graph: Handle, flags: int) -> Any:
        handle = self._handle()
        if "cudaGraphInstantiate" not in self.fail:
            self.executables[handle] = list(self.graphs[graph])
        return self._answer("cudaGraphInstantiate", handle)

    def cudaGraphDestroy(self, graph: Handle) -> Any:
        if self.graphs.pop(graph, None) is None:
            self.violations.append("a graph is freed that is not held")
        return self._answer("cudaGraphDestroy")

    def cudaGraphLaunch(self, graph: Handle, stream: Handle) -> Any:
        for work in self.executables[graph]:
            self.ask(stream, work)
        return self._answer("cudaGraphLaunch")

    def cudaGraphExecDestroy(self, graph: Handle) -> Any:
        if self.executables.pop(graph, None) is None:
            self.violations.append("a graph is freed that is not held")
        return self._answer("cudaGraphExecDestroy")

    # For the engine.

    def ask(self, stream: int, work: Any) -> None:
        state = self._stream(stream)
        (state.pending if state.captured is None else state.captured).append(work)

    def memory(self, held: dict[int, np.ndarray], address: int, size: int) -> np.ndarray:
        array = held.get(address)
        if array is None or len(array) < size:
            self.violations.append("memory is used that is not held")
            return np.zeros(size, np.uint8)
        return array[:size]

    def _stream(self, stream: int) -> Stream:
        if stream not in self.streams:
            self.violations.append("a stream is used that is not open")
            return Stream()
        return self.streams[stream]


class Context:
    """An IExecutionContext."""

    def __init__(self, engine: Engine) -> None:
        self._engine, self._gpu = engine, engine.gpu
        self._addresses: dict[str, int] = {}
        self._batch = 0
        self._version = 0
        self._fresh = True
        self._running: set[int] = set()

    def set_tensor_address(self, name: str, address: int) -> bool:
        self._version += 1
        self._addresses[name] = address
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        smallest, _, largest = self._engine.plan["profile"]
        if not smallest <= shape[0] <= largest:
            self._gpu.violations.append(f"a batch of {shape[0]} outside of the profile reaches the engine")
            return False
        self._version += 1
        self._batch, self._fresh = shape[0], True
        return True

    def execute_async_v3(self, stream: int) -> bool:
        capturing = self._gpu.streams[stream].captured is not None
        if self._engine.refuses_to_run or (capturing and self._engine.refuses_capture):
            self._gpu.streams[stream].is_invalidated = capturing
            self._engine.complain("ERROR", "IExecutionContext::enqueueV3: Error Code 1: no such kernel")
            return False
        if capturing and self._fresh:
            self._gpu.violations.append("a capture without a run of that shape before")
        self._fresh = False
        batch, addresses, version = self._batch, dict(self._addresses), self._version

        def work() -> None:
            if version != self._version:
                self._gpu.violations.append("a graph is launched whose context has changed")
            if self._running:
                self._gpu.violations.append("a context is used by two threads at once")
            self._running.add(threading.get_ident())
            try:
                self._engine.compute(batch, addresses)
            finally:
                self._running.clear()

        self._gpu.ask(stream, work)
        return True


class Engine:
    """An ICudaEngine that runs the ONNX file in its plan."""

    device_memory_size_v2 = 3 * 2**20
    num_io_tensors = 2

    def __init__(self, gpu: FakeGpu, trt: Any, plan: dict[str, Any], onnx: bytes, logger: Any) -> None:
        import onnxruntime

        self.gpu, self.trt, self.plan, self._logger = gpu, trt, plan, logger
        self._session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        (self._input,), (self._output,) = self._session.get_inputs(), self._session.get_outputs()
        self.refuses_to_run = plan.get("refuses_to_run", False)
        self.refuses_capture = plan.get("refuses_capture", False)

    def complain(self, severity: str, text: str) -> None:
        self._logger.log(self.trt.ILogger.Severity[severity], text)

    def get_tensor_name(self, index: int) -> str:
        return (self._input.name, self._output.name)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return self.trt.TensorIOMode.INPUT if name == self._input.name else self.trt.TensorIOMode.OUTPUT

    def get_tensor_format(self, name: str) -> Any:
        return self.trt.TensorFormat[self.plan.get("format", "LINEAR")]

    def get_tensor_dtype(self, name: str) -> Any:
        own = self.plan.get("input_dtype") if name == self._input.name else None
        return self.trt.DataType[own or self.plan.get("dtype", "FLOAT")]

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        tensor = self._input if name == self._input.name else self._output
        return (self.plan.get("batch", -1), *tensor.shape[1:])

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        return [(batch, *self._input.shape[1:]) for batch in self.plan["profile"]]

    def create_runtime_config(self) -> Any:
        return RuntimeConfig()

    def create_execution_context(self, config: Any = None) -> Context | None:
        if self.plan.get("no_room"):
            self.complain("ERROR", "[defaultAllocator.cpp] Error Code 1: OutOfMemory (Requested size was 3145728)")
            return None
        if self.trt.__name__ == "tensorrt_rtx" and config is None:
            self.gpu.violations.append("TensorRT-RTX without a runtime config")
        context = Context(self)
        context.config = config  # type: ignore[attr-defined]
        self.gpu.contexts.append(context)
        return context

    def compute(self, batch: int, addresses: dict[str, int]) -> None:
        taken, dtype = (
            np.dtype(self.trt.nptype(self.get_tensor_dtype(tensor.name))) for tensor in (self._input, self._output)
        )
        shape = (batch, *self._input.shape[1:])
        pictures = self.gpu.memory(self.gpu.device, addresses[self._input.name], int(np.prod(shape)) * taken.itemsize)
        feed = pictures.view(taken).reshape(shape)
        feed = feed if self._input.type == "tensor(uint8)" else feed.astype(np.float32)
        (logits,) = self._session.run(None, {self._input.name: feed})
        flat = logits.astype(dtype).reshape(-1).view(np.uint8)
        self.gpu.memory(self.gpu.device, addresses[self._output.name], len(flat))[:] = flat
        self.gpu.ran.append(batch)


class RuntimeConfig:
    """An IRuntimeConfig of TensorRT-RTX."""

    cuda_graph_strategy: Any = None
    cache: Any = None

    def create_runtime_cache(self) -> RuntimeCache:
        return RuntimeCache()

    def set_runtime_cache(self, cache: RuntimeCache) -> bool:
        self.cache = cache
        return True


class RuntimeCache:
    """An IRuntimeCache of TensorRT-RTX."""

    def __init__(self) -> None:
        self.kernels = b"kernels for this GPU"

    def deserialize(self, blob: bytes) -> bool:
        return blob == self.kernels

    def serialize(self) -> bytes:
        return self.kernels


def make_tensorrt(gpu: FakeGpu, name: str = "tensorrt", version: str = "10.13.3.9") -> types.ModuleType:
    """Return a module that stands in for ``tensorrt`` or ``tensorrt_rtx``."""
    trt: Any = types.ModuleType(name)
    trt.__version__ = version

    class ILogger:
        Severity = enum.Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    class Runtime:
        engine_host_code_allowed = False

        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, data: bytes) -> Engine | None:
            head, _, onnx = data.partition(b"\n")
            if not head.startswith(MAGIC + name.encode() + b" {"):
                self._logger.log(
                    ILogger.Severity.ERROR,
                    "IRuntime::deserializeCudaEngine: Error Code 1: Serialization\n (magicTag assertion failed)",
                )
                self._logger.log(ILogger.Severity.ERROR, "who noticed")
                return None
            plan = json.loads(head.removeprefix(MAGIC + name.encode()))
            gpu.host_code_allowed = self.engine_host_code_allowed  # type: ignore[attr-defined]
            return Engine(gpu, trt, plan, onnx, self._logger)

    trt.ILogger, trt.Runtime = ILogger, Runtime
    trt.TensorIOMode = enum.Enum("TensorIOMode", ["NONE", "INPUT", "OUTPUT"])
    trt.TensorFormat = enum.Enum("TensorFormat", ["LINEAR", "HWC8"])
    trt.DataType = enum.Enum("DataType", ["FLOAT", "HALF", "BF16", "UINT8"])
    if name == "tensorrt_rtx":
        trt.CudaGraphStrategy = enum.Enum("CudaGraphStrategy", ["DISABLED", "WHOLE_GRAPH_CAPTURE"])

    def nptype(dtype: Any) -> Any:
        if dtype.name == "BF16":
            raise TypeError("Could not resolve TensorRT datatype to an equivalent numpy datatype.")
        return {"FLOAT": np.float32, "HALF": np.float16, "UINT8": np.uint8}[dtype.name]

    trt.nptype = nptype
    return trt  # type: ignore[no-any-return]


def install(monkeypatch: Any, gpu: FakeGpu, *packages: types.ModuleType) -> None:
    """Put the card, and these packages of TensorRT alone, where an import finds them."""
    bindings = types.ModuleType("cuda.bindings")
    bindings.runtime = gpu  # type: ignore[attr-defined]
    cuda = types.ModuleType("cuda")
    cuda.bindings = bindings  # type: ignore[attr-defined]
    modules = {"cuda": cuda, "cuda.bindings": bindings, "cuda.bindings.runtime": gpu}
    for name in ("tensorrt", "tensorrt_rtx"):
        modules[name] = next((module for module in packages if module.__name__ == name), None)  # type: ignore[assignment]
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)


def write_engine(
    path: Path,
    onnx: Path,
    *,
    flavour: str = "tensorrt",
    profile: tuple[int, int, int] = (1, 4, 8),
    sidecar: dict[str, Any] | None = None,
    **plan: Any,
) -> Path:
    """Write a plan that the stand-in runs, and its sidecar (``sidecar`` replaces fields of it)."""
    head = json.dumps({"profile": profile, **plan}).encode()
    path.write_bytes(MAGIC + flavour.encode() + b" " + head + b"\n" + onnx.read_bytes())
    write_sidecar(path, onnx, flavour=flavour, profile=profile, **(sidecar or {}))
    return path


def write_sidecar(path: Path, onnx: Path, *, profile: tuple[int, int, int], **replaced: Any) -> None:
    """Write the sidecar of a plan."""
    import hashlib

    from edgecls_runtime import manifest
    from edgecls_runtime.engine_file import BatchProfile, EngineSidecar, sidecar_path
    from edgecls_runtime.preflight import this_platform

    fields: dict[str, Any] = {
        "flavour": "tensorrt",
        "version": "10.13.3.9",
        "compute_capabilities": ("8.9",),
        "gpu": None,
        "platform": this_platform(),
        "options": {},
        "profile": BatchProfile(min=profile[0], opt=profile[1], max=profile[2]),
        "input_dtype": "float32",
        "output_dtype": "float32",
        "onnx": onnx.name,
        "onnx_sha256": hashlib.sha256(onnx.read_bytes()).hexdigest(),
        "plan_sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "plan_bytes": path.stat().st_size,
        "rebuild": "edgecls export tiny.onnx --tensorrt",
        "manifest": manifest.read(onnx),
    }
    sidecar_path(path).write_text(EngineSidecar(**(fields | replaced)).to_json(), "utf-8")
