"""Throughput of copies from the host to a GPU."""

from __future__ import annotations

import time
from contextlib import ExitStack

from rrid_edge.engines.base import Engine
from rrid_edge.engines.cuda import Cuda

_SECONDS = 0.2


def on_gpu(engine: Engine) -> bool:
    """Whether an engine runs on an NVIDIA GPU."""
    return engine.runtime.startswith(("tensorrt", "onnxruntime CUDA"))


def copy_images_per_s(engine: Engine, batch: int) -> float | None:
    """Images per second from pinned memory to the engine's GPU; None if the engine runs on the CPU."""
    if not on_gpu(engine):
        return None
    cuda = Cuda()
    cuda.select_device()
    image_bytes = engine.spec.height_px * engine.spec.width_px * 3
    return copy_bytes_per_s(cuda, batch * image_bytes) / image_bytes


def copy_bytes_per_s(cuda: Cuda, size_bytes: int, *, seconds: float = _SECONDS) -> float:
    """Bytes per second from pinned memory to the device. Each copy is synchronised.

    Args:
        cuda: CUDA, with its device selected.
        size_bytes: size of one copy.
        seconds: duration of the measurement; at least two copies are made.
    """
    with ExitStack() as owned:
        host, device, stream = cuda.allocate_host(size_bytes), cuda.allocate(size_bytes), cuda.create_stream()
        owned.callback(cuda.free_host, host)
        owned.callback(cuda.free, device)
        owned.callback(cuda.destroy_stream, stream)
        cuda.copy_to_device(device, host, size_bytes, stream)
        cuda.synchronize(stream)
        copies, start = 0, time.perf_counter()
        while copies < 2 or time.perf_counter() - start < seconds:
            cuda.copy_to_device(device, host, size_bytes, stream)
            cuda.synchronize(stream)
            copies += 1
        return copies * size_bytes / (time.perf_counter() - start)
