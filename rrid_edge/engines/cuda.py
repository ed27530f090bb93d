"""CUDA without torch: a thin layer over NVIDIA's ``cuda-bindings`` that raises typed errors.

The calls used here have the same signatures in ``cuda-bindings`` 12.9 and 13. Addresses and handles are plain integers,
as TensorRT expects them.
"""

from __future__ import annotations

import ctypes
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from rrid_edge.errors import GpuFaultError, MissingDependencyError, RridEdgeError, UsageError
from rrid_edge.machine.advice import bindings, driver_check, driver_update, import_failure
from rrid_edge.machine.facts import installed_version, numbers
from rrid_edge.machine.gpu import CudaVersion, cuda_version, driver_cuda, this_gpu

_NO_GPU_ERRORS = frozenset({"cudaErrorNoDevice", "cudaErrorStubLibrary"})
_OLD_DRIVER = "cudaErrorInsufficientDriver"


@dataclass(frozen=True)
class Device:
    """The GPU in use (device 0; ``CUDA_VISIBLE_DEVICES`` chooses another).

    Attributes:
        name: name reported by CUDA.
        compute_capability: for example ``8.7``.
        multiprocessors: number of multiprocessors in use. A Jetson's power mode or a share of MPS can leave some out.
    """

    name: str
    compute_capability: str
    multiprocessors: int


def import_cuda_runtime() -> Any:  # noqa: ANN401 - the package has no types
    """NVIDIA's ``cuda.bindings.runtime``.

    Raises:
        MissingDependencyError: it is not installed or cannot be imported.
    """
    # CUDA reads this at its start. Lazy loading of kernels saves hundreds of MiB on a Jetson.
    os.environ.setdefault("CUDA_MODULE_LOADING", "LAZY")
    try:
        from cuda.bindings import runtime
    except ImportError as error:
        raise import_failure(error, "cuda-bindings", "gpu", "using an NVIDIA GPU") from error
    return runtime


class Cuda:
    """The CUDA runtime of this process. Create it before TensorRT, which crashes the process where no GPU is usable.

    Raises:
        MissingDependencyError: no package, no driver, one that is too old for the package, or no GPU.
    """

    def __init__(self) -> None:
        self._runtime = import_cuda_runtime()
        try:
            error, count = self._runtime.cudaGetDeviceCount()
        except RuntimeError as failure:  # cuda-bindings 12 raises where libcuda.so.1 is absent
            raise _no_gpu(str(failure)) from failure
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise self._unusable(error.name)
        if not count:
            raise _no_gpu("0 devices")

    def device(self) -> Device:
        """Name, compute capability and size of device 0."""
        properties = self._take("reading the GPU's properties", self._runtime.cudaGetDeviceProperties(0))
        name = properties.name.split(b"\0", 1)[0].decode("utf-8", "replace")
        return Device(name, f"{properties.major}.{properties.minor}", int(properties.multiProcessorCount))

    def select_device(self) -> None:
        """Make device 0 the device of the calling thread. Each thread calls this once before it uses CUDA."""
        self._take("choosing the GPU", self._runtime.cudaSetDevice(0))

    def free_memory_bytes(self) -> int:
        """Device memory that is free now."""
        free, _total = self._take("reading the free memory", self._runtime.cudaMemGetInfo())
        return int(free)

    def allocate(self, size_bytes: int) -> int:
        """Address of new device memory.

        Raises:
            UsageError: not enough device memory.
        """
        return int(self._take(f"allocating {_mib(size_bytes)}", self._runtime.cudaMalloc(size_bytes)))

    def free(self, address: int) -> None:
        """Free device memory."""
        self._take("freeing device memory", self._runtime.cudaFree(address))

    def allocate_host(self, size_bytes: int) -> int:
        """Address of new pinned host memory, which the device copies directly.

        Raises:
            UsageError: not enough host memory.
        """
        purpose = f"allocating {_mib(size_bytes)} of pinned host memory"
        return int(self._take(purpose, self._runtime.cudaMallocHost(size_bytes)))

    def free_host(self, address: int) -> None:
        """Free pinned host memory."""
        self._take("freeing pinned host memory", self._runtime.cudaFreeHost(address))

    def create_stream(self) -> int:
        """Handle of a new stream that does not synchronise with the default stream."""
        made = self._runtime.cudaStreamCreateWithFlags(self._runtime.cudaStreamNonBlocking)
        return int(self._take("making a stream", made))

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""
        self._take("destroying a stream", self._runtime.cudaStreamDestroy(stream))

    def synchronize(self, stream: int) -> None:
        """Wait until a stream's work is done. Errors of that work are raised here."""
        self._take("running on the GPU", self._runtime.cudaStreamSynchronize(stream))

    def create_event(self) -> int:
        """Handle of a new event without timing."""
        made = self._runtime.cudaEventCreateWithFlags(self._runtime.cudaEventDisableTiming)
        return int(self._take("making an event", made))

    def destroy_event(self, event: int) -> None:
        """Destroy an event."""
        self._take("destroying an event", self._runtime.cudaEventDestroy(event))

    def record(self, event: int, stream: int) -> None:
        """Record an event after the work that is now in a stream."""
        self._take("recording an event", self._runtime.cudaEventRecord(event, stream))

    def wait(self, stream: int, event: int) -> None:
        """Make later work of a stream wait for an event, without blocking the CPU."""
        self._take("waiting for an event", self._runtime.cudaStreamWaitEvent(stream, event, 0))

    def copy_to_device(self, device: int, host: int, size_bytes: int, stream: int) -> None:
        """Copy from pinned host memory to the device, in the stream's order."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._take("copying to the GPU", self._runtime.cudaMemcpyAsync(device, host, size_bytes, kind, stream))

    def copy_to_host(self, host: int, device: int, size_bytes: int, stream: int) -> None:
        """Copy from the device to pinned host memory, in the stream's order."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._take("copying from the GPU", self._runtime.cudaMemcpyAsync(host, device, size_bytes, kind, stream))

    def capture(self, stream: int, enqueue: Callable[[], bool]) -> int | None:
        """Capture the work that ``enqueue`` submits to a stream as an executable graph.

        Args:
            stream: the stream that ``enqueue`` uses; it must be idle.
            enqueue: submits the work; returns False if it was refused.

        Returns:
            Handle of the graph, or None if the work cannot be captured. The stream is usable in both cases.
        """
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._take("beginning a capture", self._runtime.cudaStreamBeginCapture(stream, mode))
        accepted = False
        try:
            accepted = enqueue()
        finally:
            # Always end the capture: otherwise every later call on this stream fails.
            error, graph = self._runtime.cudaStreamEndCapture(stream)
        success = self._runtime.cudaError_t.cudaSuccess
        executable = None
        if accepted and error == success:
            error, executable = self._runtime.cudaGraphInstantiate(graph, 0)
        if graph is not None and int(graph):
            self._runtime.cudaGraphDestroy(graph)
        if not accepted or error != success or executable is None:
            self._runtime.cudaGetLastError()  # clears the error for the next call
            return None
        return int(executable)

    def launch(self, graph: int, stream: int) -> None:
        """Replay a captured graph on a stream."""
        self._take("launching a CUDA graph", self._runtime.cudaGraphLaunch(graph, stream))

    def destroy_graph(self, graph: int) -> None:
        """Destroy an executable graph."""
        self._take("destroying a CUDA graph", self._runtime.cudaGraphExecDestroy(graph))

    def _unusable(self, reason: str) -> MissingDependencyError:
        """The error where CUDA does not start. It says the same of an old driver and of none at all."""
        served = self._driver_cuda() if reason == _OLD_DRIVER else None
        return _no_gpu(reason) if served is None else _old_driver(served)

    def _driver_cuda(self) -> CudaVersion | None:
        error, version = self._runtime.cudaDriverGetVersion()
        if error == self._runtime.cudaError_t.cudaSuccess and version:
            return cuda_version(int(version))
        return driver_cuda()

    def _take(self, doing: str, answer: tuple[Any, ...]) -> Any:  # noqa: ANN401 - one, several or no values
        error, *values = answer
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise self._failure(doing, error)
        return values[0] if len(values) == 1 else tuple(values)

    def _failure(self, doing: str, error: Any) -> RridEdgeError:  # noqa: ANN401 - the package has no types
        if error == self._runtime.cudaError_t.cudaErrorMemoryAllocation:
            status, free, total = self._runtime.cudaMemGetInfo()
            known = status == self._runtime.cudaError_t.cudaSuccess
            room = f"{_mib(free)} of {_mib(total)} are free" if known else "its memory is full"
            return out_of_memory(doing, room)
        if error.name in _NO_GPU_ERRORS or error.name == _OLD_DRIVER:
            return self._unusable(error.name)
        status, text = self._runtime.cudaGetErrorString(error)
        reason = text.decode("utf-8", "replace") if isinstance(text, bytes) else "no description"
        return GpuFaultError(
            f"{doing} failed with {error.name} ({reason}); look for the GPU's own errors in the system log "
            "(dmesg | grep -i nv), then start again"
        )


def host_array(address: int, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
    """A NumPy view of the memory at an address. It does not own the memory.

    Args:
        address: start of at least ``prod(shape)`` elements.
        shape: shape of the array.
        dtype: dtype of the array.
    """
    size_bytes = math.prod(shape) * np.dtype(dtype).itemsize
    memory = memoryview((ctypes.c_uint8 * size_bytes).from_address(address)).cast("B")
    return np.frombuffer(memory, dtype).reshape(shape)


def out_of_memory(doing: str, room: str) -> UsageError:
    """The error for a device without enough free memory."""
    return UsageError(
        f"the GPU's memory does not suffice: {doing} failed, {room}; close other programs on the GPU, or use an engine "
        "with a smaller largest batch (rrid-edge export --max-batch 8)"
    )


def _no_gpu(reason: str) -> MissingDependencyError:
    return MissingDependencyError(
        f"no NVIDIA GPU answers here ({reason}): TensorRT needs a GPU and its driver; {driver_check(this_gpu())}, or "
        "use the ONNX file on the CPU with the runtime openvino or onnxruntime",
        parameter="runtime",
    )


def _old_driver(served: CudaVersion) -> MissingDependencyError:
    gpu, version = replace(this_gpu(), cuda=served), installed_version("cuda-bindings") or "13"
    mend, wanted = driver_update(gpu), max(12, numbers(version)[0])
    if 12 <= served[0] < wanted:  # no bindings that this package can use serve an older driver
        mend = f"pip install {bindings(gpu)}, or {mend}"
    return MissingDependencyError(
        f"{f'the NVIDIA driver {gpu.driver}'.rstrip()} is too old for cuda-bindings {version}: this driver serves CUDA "
        f"{served[0]}.{served[1]}, expected {wanted}.0 or later; {mend}",
        parameter="runtime",
    )


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):,.1f} MiB"
