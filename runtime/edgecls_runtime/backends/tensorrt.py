"""TensorRT 10, TensorRT 11 and TensorRT-RTX: a plan, run through NVIDIA's own bindings and nothing else."""

from __future__ import annotations

import contextlib
import logging
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime import preflight
from edgecls_runtime.backends.cuda import Cuda
from edgecls_runtime.backends.tensorrt_log import log_of
from edgecls_runtime.engine_file import BatchProfile
from edgecls_runtime.errors import EdgeclsError, ModelError, ProviderError
from edgecls_runtime.onnx_file import TensorInfo
from edgecls_runtime.output import check_writable, whole_file

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from edgecls_runtime.backends.tensorrt_log import TensorRtLog
    from edgecls_runtime.preflight import Plan

__all__ = ["TensorRtBackend"]

_log = logging.getLogger(__name__)

_CAPTURE_AFTER = 3
"""Runs of one batch size after which it is recorded as a CUDA graph: TensorRT asks for one run before, and a size
that comes once or twice (the rest of a folder) is not worth the milliseconds that recording takes."""


class TensorRtBackend:
    """A plan on the GPU (see `edgecls_runtime.backends.Backend`).

    A batch may have any number of pictures: more than the profile's largest are run in turn, fewer than its smallest
    are filled up with black ones, whose logits are dropped; the engine never sees a batch outside of its profile.

    Each run has a stream, an execution context and buffers of its own; there come to be as many of them as runs at
    the same time, and threads take turns with them. Runs of one batch size in a row become a CUDA graph, which spares a
    small model most of its time at batch 1.
    """

    def __init__(self, plan: Plan, *, cache: str | os.PathLike[str] | None = None) -> None:
        """Check whether the plan can run here, then load it.

        Args:
            plan: that `edgecls_runtime.preflight.read_plan` let pass.
            cache: folder where TensorRT-RTX keeps what it compiles for this GPU, which spares the next start the
                seconds that takes; it is code as the plan is. TensorRT has nothing to keep.

        Raises:
            ModelError: the plan is damaged, or is no picture classifier.
            ProviderError: it was built for another GPU, system or version; or there is no GPU, or no room on it.
            MissingDependencyError: the package that built it, or NVIDIA's bindings, are not installed.
        """
        preflight.check_whole(plan)
        preflight.check_platform(plan)
        modules = preflight.import_flavours(plan)
        for module in modules:
            preflight.check_version(plan, module.__version__)
        cuda = Cuda()
        preflight.check_gpu(plan, cuda.gpu)
        loaded = _load(modules, plan, cuda, cache)
        self._loaded: _Loaded | None = loaded
        self._path = loaded.path
        self.input, self.output = loaded.input, loaded.output
        self.profile = _profile(loaded.engine, loaded.input)
        self.provider = "TensorRT" if loaded.cache is None else "TensorRT-RTX"
        self.engine = f"{loaded.trt.__name__} {loaded.trt.__version__} on {cuda.gpu.name}"
        self._lock = threading.Lock()
        self._idle: list[_Lane] = []
        # Whoever forgets close() gets the memory back with the object; at exit the process gives it back anyway.
        weakref.finalize(self, _close_lanes, self._idle).atexit = False
        with self._lane():
            pass  # there is room for one run: better missed now than at the first picture

    def run(self, batch: NDArray[np.generic]) -> NDArray[np.float32]:
        """Compute logits, float32 [N, ...], of a batch of the input's dtype and shape."""
        logits = np.empty((len(batch), *_axes(self.output)), np.float32)
        with self._lane() as lane:
            for start in range(0, len(batch), self.profile.max):
                stop = start + self.profile.max
                lane.run(batch[start:stop], logits[start:stop], at_least=self.profile.min)
        return logits

    def run_all(self, batch: NDArray[np.generic]) -> list[NDArray[Any]]:
        """Compute every output, the logits first: an engine has no others."""
        return [self.run(batch)]

    def close(self) -> None:
        """Free the GPU's memory; runs in other threads end first, and the last of them frees the rest."""
        with self._lock:
            loaded, self._loaded = self._loaded, None
            idle, self._idle[:] = list(self._idle), []
        _close_lanes(idle)
        if loaded is not None and loaded.cache is not None:
            loaded.cache.write()

    @contextlib.contextmanager
    def _lane(self) -> Iterator[_Lane]:
        """Lend a lane that nobody else has; after an error it is not lent again."""
        with self._lock:
            loaded = self._loaded
            if loaded is None:
                raise ModelError(f"{self._path}: the engine is closed", "Load it again with Classifier.load().")
            lane = self._idle.pop() if self._idle else None
        loaded.cuda.use_in_this_thread()
        if lane is None:
            lane = _Lane(loaded)
        try:
            yield lane
        except BaseException:
            _close_lanes([lane])
            raise
        with self._lock:
            if self._loaded is not None:
                self._idle.append(lane)
                return
        _close_lanes([lane])


@dataclass(frozen=True, kw_only=True)
class _Loaded:
    """An engine in the GPU's memory, and what runs of it share.

    Attributes:
        trt: the package that runs it.
        runtime: that loaded it, and must live as long.
        cache: of TensorRT-RTX; None of TensorRT.
    """

    path: str
    trt: Any
    cuda: Cuda
    input: TensorInfo
    output: TensorInfo
    cache: _Cache | None
    engine: Any
    runtime: Any  # goes after the engine that it loaded
    messages: TensorRtLog
    lock: threading.Lock = field(default_factory=threading.Lock)

    def open_context(self) -> Any:
        """Return an execution context, with its share of GPU memory."""
        with self.lock:
            if self.cache is None:
                context = self.engine.create_execution_context()
            else:
                config = self.engine.create_runtime_config()
                config.cuda_graph_strategy = self.trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
                self.cache.attach(config)
                context = self.engine.create_execution_context(config)
        if context is None:
            need = self.engine.device_memory_size_v2
            raise self.failure(f"a run of it needs {need / 2**20:,.0f} MiB on the GPU beside the weights")
        return context

    def failure(self, what: str) -> EdgeclsError:
        return _failure(self.path, what, self.messages, self.cuda)


class _Lane:
    """What one run needs for itself: a stream, an execution context, and buffers on both sides."""

    def __init__(self, loaded: _Loaded) -> None:
        self._loaded, self._cuda = loaded, loaded.cuda
        # TensorRT-RTX records graphs itself, once the kernels of a shape are compiled: ours would keep its stand-ins.
        self._captures = loaded.cache is None
        self._graph: Any = None
        self._runs = 0
        self._count = self._capacity = 0
        self._on_host: list[NDArray[Any]] = []
        self._on_gpu: list[int] = []
        self._stream = self._cuda.open_stream()
        self._context: Any = None
        try:
            self._context = loaded.open_context()
        except BaseException:
            self.close()
            raise

    def run(self, batch: NDArray[np.generic], logits: NDArray[np.float32], *, at_least: int) -> None:
        count = max(len(batch), at_least)
        if count != self._count:
            self._set_batch(count)
        pictures, found = self._on_host
        pictures[: len(batch)] = batch
        pictures[len(batch) : count] = 0
        if self._graph is not None:
            self._cuda.launch(self._graph, self._stream)
        else:
            self._runs += 1
            if self._captures and self._runs > _CAPTURE_AFTER:
                self._capture()
            else:
                self._enqueue()
        self._cuda.synchronize(self._stream)
        logits[:] = found[: len(batch)]

    def close(self) -> None:
        """Free everything, each thing once."""
        with contextlib.suppress(ProviderError):  # a run that was interrupted is still at work there
            self._cuda.synchronize(self._stream)
        self._drop_graph()
        self._context = None  # before the memory that it points to
        with contextlib.suppress(ProviderError):
            self._free_buffers()
        if self._stream is not None:
            stream, self._stream = self._stream, None
            self._cuda.close_stream(stream)

    def _grow(self, count: int) -> None:
        """Replace the buffers by larger ones."""
        self._free_buffers()
        for info in (self._loaded.input, self._loaded.output):
            shape, dtype = (count, *_axes(info)), np.dtype(info.dtype)
            self._on_host.append(self._cuda.allocate_pinned(shape, dtype))
            self._on_gpu.append(self._cuda.allocate(self._on_host[-1].nbytes))
        for info, address in zip((self._loaded.input, self._loaded.output), self._on_gpu, strict=True):
            if not self._context.set_tensor_address(info.name, address):
                raise self._loaded.failure(f"{info.name} cannot be placed")
        self._capacity = count

    def _free_buffers(self) -> None:
        self._capacity = 0
        while self._on_gpu:
            self._cuda.free(self._on_gpu.pop())
        while self._on_host:
            self._cuda.free_pinned(self._on_host.pop())

    def _set_batch(self, count: int) -> None:
        # A graph is bound to addresses and to its context's state: what it does is undefined once they change.
        self._drop_graph()
        self._runs = 0
        if count > self._capacity:
            self._grow(count)
        if not self._context.set_input_shape(self._loaded.input.name, (count, *_axes(self._loaded.input))):
            raise self._loaded.failure(f"a batch of {count} is refused")
        self._count = count

    def _enqueue(self) -> None:
        """Ask for one run: pictures to the GPU, the engine, logits back."""
        pictures, logits = (array[: self._count] for array in self._on_host)
        self._cuda.upload(self._on_gpu[0], pictures, self._stream)
        if not self._context.execute_async_v3(int(self._stream)):
            raise self._loaded.failure("the run failed")
        self._cuda.download(logits, self._on_gpu[1], self._stream)

    def _capture(self) -> None:
        """Record a run as a graph and launch it; what cannot be recorded goes on as before, the same but slower."""
        try:
            self._cuda.begin_capture(self._stream)
            try:
                self._enqueue()
            except EdgeclsError:
                self._cuda.abandon_capture(self._stream)
                raise
            self._graph = self._cuda.end_capture(self._stream)
        except EdgeclsError as error:
            _log.info("%s: no CUDA graph: %s", self._loaded.path, error.cause)
            self._captures = False
            self._enqueue()
        else:
            self._cuda.launch(self._graph, self._stream)

    def _drop_graph(self) -> None:
        if self._graph is not None:
            graph, self._graph = self._graph, None
            self._cuda.close_graph(graph)


class _Cache:
    """What TensorRT-RTX compiled for this GPU: shared by an engine's contexts, and kept in a folder if there is one."""

    def __init__(self, plan: Plan, trt: Any, folder: str | os.PathLike[str] | None) -> None:
        self._cache: Any = None
        self._kept = b""
        self._file: Path | None = None
        if folder is not None:
            self._file = Path(folder) / f"{plan.sha256[:16]}-{trt.__version__}.rtx-cache"
            check_writable(self._file, force=True)

    def attach(self, config: Any) -> None:
        if self._cache is None:
            cache = config.create_runtime_cache()
            if self._file is not None and self._file.exists():
                self._kept = self._file.read_bytes()
                # It checks GPU, driver and version itself; what does not fit is compiled anew.
                if not cache.deserialize(self._kept):
                    _log.info("%s: is of another GPU, driver or version, and begins anew", self._file)
            self._cache = cache
        config.set_runtime_cache(self._cache)

    def write(self) -> None:
        memory = None if self._file is None or self._cache is None else self._cache.serialize()
        if self._file is None or memory is None or bytes(memory) == self._kept:
            return
        self._kept = bytes(memory)
        with whole_file(self._file, force=True) as part:
            part.write_bytes(self._kept)


def _load(modules: list[Any], plan: Plan, cuda: Cuda, cache: str | os.PathLike[str] | None) -> _Loaded:
    """Deserialize a plan with the package that takes it, and look at what goes in and out."""
    refusals = []
    for trt in modules:
        messages = log_of(trt)
        try:
            runtime = trt.Runtime(messages.logger)
        except TypeError as null:  # what the bindings make of a null pointer
            raise _failure(plan.path, f"{trt.__name__} {trt.__version__} cannot begin", messages, cuda) from null
        # A version-compatible plan brings its own runtime along, as code for this processor. The bytes are those that
        # were built, or the user trusts them.
        runtime.engine_host_code_allowed = plan.has_option("version_compatible") or not plan.is_vouched_for
        engine = runtime.deserialize_cuda_engine(plan.data)
        messages.heed()
        if engine is None:
            error = _failure(plan.path, f"{trt.__name__} {trt.__version__} cannot load it", messages, cuda)
            if isinstance(error, ProviderError):
                raise error
            refusals.append(error.cause.removeprefix(f"{plan.path}: "))
            continue
        is_rtx = hasattr(trt, "CudaGraphStrategy")
        if cache is not None and not is_rtx:
            raise ProviderError(
                f"{plan.path}: TensorRT compiles nothing when it loads an engine: nothing to keep in {cache}",
                "Leave out --engine-cache: it is for TensorRT-RTX, and for ONNX files.",
            )
        names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
        return _Loaded(
            path=plan.path,
            trt=trt,
            cuda=cuda,
            messages=messages,
            runtime=runtime,
            engine=engine,
            input=_only(plan, trt, engine, names, trt.TensorIOMode.INPUT, "input"),
            output=_only(plan, trt, engine, names, trt.TensorIOMode.OUTPUT, "output"),
            cache=_Cache(plan, trt, cache) if is_rtx else None,
        )
    raise ModelError(
        f"{plan.path}: {'; '.join(refusals)}", f"The plan is damaged, or of another version or GPU. {plan.rebuild}"
    )


def _failure(path: str, what: str, messages: TensorRtLog, cuda: Cuda) -> EdgeclsError:
    """Return the error for what TensorRT refused, with its own reason."""
    reason = messages.take()
    if "outofmemory" in reason.lower().replace(" ", ""):
        with contextlib.suppress(ProviderError):
            free = f"{cuda.free_bytes() / 2**20:,.0f} MiB of {cuda.gpu.memory_bytes / 2**20:,.0f} MiB are free"
            return ProviderError(
                f"{path}: the GPU is out of memory: {what}; {free}",
                "Close other programs on the GPU (nvidia-smi lists them), run fewer threads, or build the engine for "
                "smaller batches.",
            )
    return ModelError(f"{path}: {what}: {reason}", "Check the engine with: edgecls verify MODEL.engine")


def _only(plan: Plan, trt: Any, engine: Any, names: list[str], mode: Any, kind: str) -> TensorInfo:
    """Return the engine's one input or output."""
    found = [name for name in names if engine.get_tensor_mode(name) == mode]
    if len(found) != 1:
        raise ModelError(
            f"{plan.path}: is not a picture classifier: {len(found)} {kind}s ({', '.join(found) or 'none'})",
            f"Give an engine with one {kind}: a picture in, logits out.",
        )
    (name,) = found
    if engine.get_tensor_format(name) != trt.TensorFormat.LINEAR:
        raise ModelError(
            f"{plan.path}: {kind} {name} has the format {engine.get_tensor_format(name).name}, not LINEAR",
            "Build it without formats of its own (trtexec's --inputIOFormats and --outputIOFormats).",
        )
    try:
        dtype = np.dtype(trt.nptype(engine.get_tensor_dtype(name))).name
    except TypeError:  # numpy has no such type: bfloat16, fp8
        dtype = engine.get_tensor_dtype(name).name.lower()
    batch, *axes = (int(axis) for axis in engine.get_tensor_shape(name))
    if any(axis < 0 for axis in axes):
        raise ModelError(
            f"{plan.path}: {kind} {name} has the shape {[batch, *axes]}: more than the batch is free",
            "Build it with a fixed picture size.",
        )
    return TensorInfo(name, dtype, ("batch" if batch < 0 else batch, *axes))


def _profile(engine: Any, info: TensorInfo) -> BatchProfile:
    batch = (info.shape or ("batch",))[0]
    if isinstance(batch, int):
        return BatchProfile(min=batch, opt=batch, max=batch)
    smallest, best, largest = (int(shape[0]) for shape in engine.get_tensor_profile_shape(info.name, 0))
    return BatchProfile(min=smallest, opt=best, max=largest)


def _axes(info: TensorInfo) -> tuple[int, ...]:
    """Return the fixed axes behind the batch."""
    return tuple(axis for axis in (info.shape or ())[1:] if isinstance(axis, int))


def _close_lanes(lanes: list[_Lane]) -> None:
    for lane in list(lanes):
        with contextlib.suppress(ProviderError):  # a GPU that failed cannot free, and the error is known
            lane.close()
    lanes.clear()
