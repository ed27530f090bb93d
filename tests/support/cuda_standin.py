"""A CUDA runtime in memory. It is as lazy as the real one may be: work runs only when something waits for it.

With ``greedy``, all other streams run before the stream that is waited for, as far as events allow.

So a missing synchronisation gives wrong numbers, and a forgotten ``free`` leaves a live handle. A copy past a buffer's
end fails an assertion. Signatures follow ``cuda.bindings.runtime``. ``test_cuda.py`` compares them if it is installed.
"""
# ruff: noqa: N801, N802, N803, N815 - NVIDIA's names

from __future__ import annotations

import ctypes
import enum
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest


class cudaError_t(enum.IntEnum):
    cudaSuccess = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorInsufficientDriver = 35
    cudaErrorNoDevice = 100
    cudaErrorInvalidResourceHandle = 400
    cudaErrorLaunchFailure = 719
    cudaErrorStreamCaptureUnsupported = 900
    cudaErrorStreamCaptureInvalidated = 901


class cudaMemcpyKind(enum.IntEnum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2


class cudaStreamCaptureMode(enum.IntEnum):
    cudaStreamCaptureModeThreadLocal = 1


OK = cudaError_t.cudaSuccess
_ANY_THREAD = {
    "cudaDriverGetVersion",
    "cudaGetDeviceCount",
    "cudaSetDevice",
    "cudaGetDeviceProperties",
    "cudaGetErrorString",
}
Work = Callable[[], None]


class Handle:
    """Like a handle of cuda-bindings: an object that converts to an int."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __int__(self) -> int:
        return self.number


class Stream:
    def __init__(self) -> None:
        self.queue: list[Work] = []
        self.done = 0
        self.captured: list[Work] | None = None

    def add(self, work: Work) -> None:
        (self.queue if self.captured is None else self.captured).append(work)

    def run(self, until: int | None = None) -> None:
        until = len(self.queue) if until is None else until
        while self.done < until:
            self.done += 1
            self.queue[self.done - 1]()


class CudaStandin:
    """The functions of ``cuda.bindings.runtime`` that the package calls, with attributes that cause errors."""

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = 1
    cudaEventDisableTiming = 2

    def __init__(self) -> None:
        self.name = "Orin"
        self.capability = (8, 7)
        self.multiprocessors = 16
        self.memory = 1 << 33
        self.devices = 1
        self.greedy = False
        self.driver_error = OK
        self.driver_version = 12060
        self.capture_error = OK
        self.sync_error = OK
        self.device_memory: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.host_memory: dict[int, ctypes.Array[ctypes.c_char]] = {}
        self.streams: dict[int, Stream] = {}
        self.events: dict[int, tuple[Stream, int] | None] = {}
        self.graphs: dict[int, list[Work]] = {}
        self.executables: dict[int, list[Work]] = {}
        self.calls: list[str] = []
        self.per_thread = False
        self.chosen = threading.local()
        self.asked = False
        self._next = 1000

    def __getattribute__(self, name: str) -> object:
        if name.startswith("cuda") and name[4:5].isupper() and callable(object.__getattribute__(self, name)):
            object.__getattribute__(self, "calls").append(name)
            if not isinstance(object.__getattribute__(self, name), type):
                object.__getattribute__(self, "_check_thread")(name)
        return object.__getattribute__(self, name)

    def _check_thread(self, name: str) -> None:
        """With ``per_thread``, refuse work of a thread that did not choose its device: CUDA keeps it per thread."""
        if self.per_thread and name not in _ANY_THREAD:
            assert getattr(self.chosen, "device", None) == 0, f"{name} in a thread that chose no device"

    # -- for assertions of tests --------------------------------------------------------------------------------------

    @property
    def live(self) -> int:
        """Number of handles and buffers that are not freed."""
        kinds = (self.device_memory, self.host_memory, self.streams, self.events, self.graphs, self.executables)
        return sum(len(kind) for kind in kinds)

    def device_buffer(self, address: int, size: int) -> ctypes.Array[ctypes.c_char]:
        assert len(self.device_memory[address]) >= size, "a kernel runs past the end of a device buffer"
        return self.device_memory[address]

    # -- device -------------------------------------------------------------------------------------------------------

    def cudaDriverGetVersion(self):
        return OK, self.driver_version

    def cudaGetDeviceCount(self):
        self.asked = True
        return (OK, self.devices) if self.driver_error == OK else (self.driver_error, None)

    def cudaSetDevice(self, device):
        self.chosen.device = device
        return (OK if 0 <= device < self.devices else cudaError_t.cudaErrorInvalidValue,)

    def cudaGetDeviceProperties(self, device):
        major, minor = self.capability
        name = self.name.encode() + bytes(256 - len(self.name))
        return OK, SimpleNamespace(name=name, major=major, minor=minor, multiProcessorCount=self.multiprocessors)

    def cudaMemGetInfo(self):
        return OK, self.memory - self._used(), self.memory

    def cudaGetErrorString(self, error):
        return OK, f"words for {error.name}".encode()

    def cudaGetLastError(self):
        return (OK,)

    # -- memory -------------------------------------------------------------------------------------------------------

    def cudaMalloc(self, size):
        if self._used() + size > self.memory:
            return cudaError_t.cudaErrorMemoryAllocation, None
        return OK, self._allocate(self.device_memory, size)

    def cudaFree(self, devPtr):
        return self._free(self.device_memory, devPtr)

    def cudaMallocHost(self, size):
        return OK, self._allocate(self.host_memory, size)

    def cudaFreeHost(self, ptr):
        return self._free(self.host_memory, ptr)

    def cudaMemcpyAsync(self, dst, src, count, kind, stream):
        to_device = kind == cudaMemcpyKind.cudaMemcpyHostToDevice
        target, source = (self.device_memory, self.host_memory) if to_device else (self.host_memory, self.device_memory)
        assert len(target[dst]) >= count, "a copy runs past the end of its target"
        assert len(source[src]) >= count, "a copy runs past the end of its source"

        def copy() -> None:
            ctypes.memmove(dst, src, count)

        self.streams[int(stream)].add(copy)
        return (OK,)

    def cudaMemcpy(self, dst, src, count, kind):
        device = dst if kind == cudaMemcpyKind.cudaMemcpyHostToDevice else src
        assert len(self.device_memory[device]) >= count, "a copy runs past the end of a device buffer"
        ctypes.memmove(dst, src, count)
        return (OK,)

    # -- streams and events -------------------------------------------------------------------------------------------

    def cudaStreamCreateWithFlags(self, flags):
        assert flags == self.cudaStreamNonBlocking
        number = self._number()
        self.streams[number] = Stream()
        return OK, Handle(number)

    def cudaStreamCreate(self):
        return self.cudaStreamCreateWithFlags(self.cudaStreamNonBlocking)

    def cudaStreamDestroy(self, stream):
        gone = self.streams.pop(int(stream))
        assert gone.done == len(gone.queue), "a stream was destroyed before its work was done"
        return (OK,)

    def cudaStreamSynchronize(self, stream):
        found = self.streams[int(stream)]
        if found.captured is not None:
            return (cudaError_t.cudaErrorStreamCaptureUnsupported,)
        for other in self.streams.values() if self.greedy else ():
            if other is not found:
                other.run()
        found.run()
        return (self.sync_error,)

    def cudaEventCreateWithFlags(self, flags):
        assert flags == self.cudaEventDisableTiming
        number = self._number()
        self.events[number] = None
        return OK, Handle(number)

    def cudaEventDestroy(self, event):
        del self.events[int(event)]
        return (OK,)

    def cudaEventRecord(self, event, stream):
        found = self.streams[int(stream)]
        assert int(event) in self.events
        self.events[int(event)] = (found, len(found.queue))
        return (OK,)

    def cudaStreamWaitEvent(self, stream, event, flags):
        mark = self.events[int(event)]
        assert flags == 0
        if mark is not None:  # an event that was never recorded blocks nothing
            self.streams[int(stream)].add(lambda: mark[0].run(mark[1]))
        return (OK,)

    # -- graphs -------------------------------------------------------------------------------------------------------

    def cudaStreamBeginCapture(self, stream, mode):
        assert mode == cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        found = self.streams[int(stream)]
        assert found.done == len(found.queue), "the stream was not idle when the capture began"
        found.captured = []
        return (OK,)

    def cudaStreamEndCapture(self, stream):
        found = self.streams[int(stream)]
        work, found.captured = found.captured, None
        if self.capture_error != OK:
            return self.capture_error, None
        number = self._number()
        self.graphs[number] = work or []
        return OK, Handle(number)

    def cudaGraphInstantiate(self, graph, flags):
        assert flags == 0
        number = self._number()
        self.executables[number] = self.graphs[int(graph)]
        return OK, Handle(number)

    def cudaGraphDestroy(self, graph):
        del self.graphs[int(graph)]
        return (OK,)

    def cudaGraphLaunch(self, graphExec, stream):
        for work in self.executables[int(graphExec)]:
            self.streams[int(stream)].add(work)
        return (OK,)

    def cudaGraphExecDestroy(self, graphExec):
        for work in self.executables[int(graphExec)]:
            getattr(work, "check", lambda: None)()  # what a graph uses outlives it
        del self.executables[int(graphExec)]
        return (OK,)

    # -----------------------------------------------------------------------------------------------------------------

    def _used(self) -> int:
        return sum(len(buffer) for buffer in self.device_memory.values())

    def _number(self) -> int:
        self._next += 1
        return self._next

    def _allocate(self, memory: dict[int, ctypes.Array[ctypes.c_char]], size: int) -> int:
        buffer = ctypes.create_string_buffer(b"\xab" * size, size)  # never zeros: code must not rely on them
        address = ctypes.addressof(buffer)
        memory[address] = buffer
        return address

    def _free(self, memory: dict[int, ctypes.Array[ctypes.c_char]], address: int):
        if address not in memory:
            return (cudaError_t.cudaErrorInvalidValue,)
        for stream in self.streams.values():
            assert stream.done == len(stream.queue), "memory was freed while work was in flight"
        del memory[address]
        return (OK,)


def install_cuda(monkeypatch: pytest.MonkeyPatch) -> CudaStandin:
    """Replace NVIDIA's package by a stand-in for one test."""
    standin = CudaStandin()
    monkeypatch.setattr("rrid_edge.engines.cuda.import_cuda_runtime", lambda: standin)
    monkeypatch.setattr("rrid_edge.engines.cuda.driver_cuda", lambda: None)
    return standin
