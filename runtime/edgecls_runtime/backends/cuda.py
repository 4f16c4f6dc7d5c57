"""The few CUDA calls that running a plan takes, through NVIDIA's own bindings; every failure becomes an error here."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from edgecls_runtime.errors import MissingDependencyError, ProviderError

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Cuda", "Gpu"]

_DEVICE = 0  # of those that CUDA_VISIBLE_DEVICES leaves
_WITHOUT_DRIVER = (
    "cudaErrorInsufficientDriver",
    "cudaErrorNoDevice",
    "cudaErrorStubLibrary",
    "cudaErrorSystemDriverMismatch",
    "cudaErrorInitializationError",
)


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A graphics card.

    Attributes:
        name: in the driver's words.
        compute_capability: as ``8.9``.
        memory_bytes: all that it has.
    """

    name: str
    compute_capability: str
    memory_bytes: int

    def __str__(self) -> str:
        return f"{self.name} (compute capability {self.compute_capability}, {self.memory_bytes / 2**30:.0f} GiB)"


class Cuda:
    """CUDA's runtime on one GPU: memory, streams, graphs. Safe to call from several threads.

    Attributes:
        gpu: that everything runs on.

    Raises:
        MissingDependencyError: NVIDIA's bindings are not installed.
        ProviderError: there is no GPU, or its driver is too old.
    """

    def __init__(self) -> None:
        try:
            from cuda.bindings import runtime as cudart
        except ImportError as error:
            raise MissingDependencyError(
                f"provider tensorrt: cuda-bindings cannot be imported ({error})",
                "Install it with: pip install 'edgecls[tensorrt]'  (or 'edgecls[tensorrt-rtx]')",
            ) from error
        self._cudart: Any = cudart
        self._find_driver()
        self.use_in_this_thread()
        properties = self._call("reading the GPU's properties", cudart.cudaGetDeviceProperties(_DEVICE))
        name = properties.name
        self.gpu = Gpu(
            name=(name.decode("utf-8", "replace") if isinstance(name, bytes) else name).rstrip("\0"),
            compute_capability=f"{properties.major}.{properties.minor}",
            memory_bytes=int(properties.totalGlobalMem),
        )

    def use_in_this_thread(self) -> None:
        """Make the GPU the one that this thread's calls mean."""
        self._call("choosing the GPU", self._cudart.cudaSetDevice(_DEVICE))

    def free_bytes(self) -> int:
        """Return how much of the GPU's memory nobody holds."""
        free, _ = self._call("asking for free GPU memory", self._cudart.cudaMemGetInfo())
        return int(free)

    def allocate(self, size_bytes: int) -> int:
        """Return the address of fresh GPU memory.

        Raises:
            ProviderError: there is not so much.
        """
        return int(self._call(f"allocating {size_bytes:,} bytes on the GPU", self._cudart.cudaMalloc(size_bytes)))

    def free(self, address: int) -> None:
        """Give back what `allocate` returned, once the GPU is done with it."""
        self._call("freeing GPU memory", self._cudart.cudaFree(address))

    def allocate_pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """Return an array in page-locked memory, which the GPU copies from and to on its own; give it to `free_pinned`.

        Raises:
            ProviderError: the system has no more of it.
        """
        size = int(np.prod(shape)) * dtype.itemsize
        address = self._call(f"page-locking {size:,} bytes", self._cudart.cudaMallocHost(size))
        memory = (ctypes.c_byte * size).from_address(int(address))
        array: NDArray[Any] = np.frombuffer(memoryview(memory), dtype).reshape(shape)
        return array

    def free_pinned(self, array: NDArray[Any]) -> None:
        """Give back what `allocate_pinned` returned; the array may not be touched after."""
        self._call("freeing page-locked memory", self._cudart.cudaFreeHost(array.ctypes.data))

    def open_stream(self) -> Any:
        """Return a stream that waits for no other."""
        flags = self._cudart.cudaStreamNonBlocking
        return self._call("opening a stream", self._cudart.cudaStreamCreateWithFlags(flags))

    def close_stream(self, stream: Any) -> None:
        """Give back a stream."""
        self._call("closing a stream", self._cudart.cudaStreamDestroy(stream))

    def synchronize(self, stream: Any) -> None:
        """Wait until all that was asked of a stream is done."""
        self._call("waiting for the GPU", self._cudart.cudaStreamSynchronize(stream))

    def upload(self, address: int, array: NDArray[Any], stream: Any) -> None:
        """Ask for a copy of a pinned array to the GPU; the array may not change until the stream is synchronized."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyHostToDevice
        done = self._cudart.cudaMemcpyAsync(address, array.ctypes.data, array.nbytes, kind, stream)
        self._call("copying to the GPU", done)

    def download(self, array: NDArray[Any], address: int, stream: Any) -> None:
        """Ask for a copy from the GPU into a pinned array, which is there once the stream is synchronized."""
        kind = self._cudart.cudaMemcpyKind.cudaMemcpyDeviceToHost
        done = self._cudart.cudaMemcpyAsync(array.ctypes.data, address, array.nbytes, kind, stream)
        self._call("copying from the GPU", done)

    def begin_capture(self, stream: Any) -> None:
        """Record what is asked of a stream from now on instead of doing it."""
        # Thread-local: another thread may allocate meanwhile, which a global capture would forbid.
        mode = self._cudart.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("beginning a capture", self._cudart.cudaStreamBeginCapture(stream, mode))

    def end_capture(self, stream: Any) -> Any:
        """Return what was recorded as a graph that `launch` repeats, to be given to `close_graph`.

        Raises:
            ProviderError: something was asked for that cannot be recorded.
        """
        graph = self._call("ending a capture", self._cudart.cudaStreamEndCapture(stream))
        try:
            return self._call("instantiating a graph", self._cudart.cudaGraphInstantiate(graph, 0))
        finally:
            self._call("freeing a graph", self._cudart.cudaGraphDestroy(graph))

    def abandon_capture(self, stream: Any) -> None:
        """End a capture that failed, and forget the error that it left."""
        error, graph = self._cudart.cudaStreamEndCapture(stream)
        if int(error) == 0:
            self._cudart.cudaGraphDestroy(graph)
        self._cudart.cudaGetLastError()

    def launch(self, graph: Any, stream: Any) -> None:
        """Do again what was recorded."""
        self._call("launching a graph", self._cudart.cudaGraphLaunch(graph, stream))

    def close_graph(self, graph: Any) -> None:
        """Give back what `end_capture` returned."""
        self._call("freeing a graph", self._cudart.cudaGraphExecDestroy(graph))

    def _find_driver(self) -> None:
        error, count = self._cudart.cudaGetDeviceCount()
        if int(error) == 0 and count:
            return
        name = error.name if int(error) else "no device is visible"
        if int(error) and name not in _WITHOUT_DRIVER:
            self._call("looking for a GPU", (error,))
        _, serves = self._cudart.cudaDriverGetVersion()  # 0 without a driver
        _, wanted = self._cudart.cudaRuntimeGetVersion()
        if serves and serves // 1000 < wanted // 1000:
            raise ProviderError(
                f"provider tensorrt: the GPU driver serves CUDA {_version(serves)}, cuda-bindings wants "
                f"{_version(wanted)} ({name})",
                f"Upgrade the driver, or: pip install 'cuda-bindings=={serves // 1000}.*'",
            )
        raise ProviderError(
            f"provider tensorrt: there is no NVIDIA GPU or no driver for it here ({name})",
            "Run the engine on a machine with the GPU that it was built for; nvidia-smi lists what a machine has.",
        )

    def _call(self, doing: str, result: tuple[Any, ...]) -> Any:
        """Return what a CUDA call returned behind its error code: nothing, a value, or a tuple of them."""
        error, *values = result
        if int(error) == 0:
            return values[0] if len(values) == 1 else tuple(values)
        _, text = self._cudart.cudaGetErrorString(error)
        reason = text.decode() if isinstance(text, bytes) else text
        self._cudart.cudaGetLastError()  # or the next call that asks would be told of this one
        if error == self._cudart.cudaError_t.cudaErrorMemoryAllocation:
            raise ProviderError(
                f"provider tensorrt: {doing} failed: {reason}",
                "Close other programs on the GPU (nvidia-smi lists them), or use fewer threads or smaller batches.",
            )
        raise ProviderError(
            f"provider tensorrt: {doing} failed: {reason} ({error.name})",
            "Restart the program; if it fails again, check the GPU and its driver: nvidia-smi -q",
        )


def _version(number: int) -> str:
    """Return CUDA's 13050 as 13.5."""
    return f"{number // 1000}.{number % 1000 // 10}"
