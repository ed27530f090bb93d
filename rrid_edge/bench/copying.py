"""How fast images reach a GPU."""

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
    """Images a second from pinned memory to the device that ``engine`` runs on; None where it runs on the CPU."""
    if not on_gpu(engine):
        return None
    cuda = Cuda()
    cuda.select_device()
    image_bytes = engine.spec.height_px * engine.spec.width_px * 3
    return copy_bytes_per_s(cuda, batch * image_bytes) / image_bytes


def copy_bytes_per_s(cuda: Cuda, size_bytes: int, *, seconds: float = _SECONDS) -> float:
    """Bytes a second from pinned memory to the device, in copies of ``size_bytes``, each waited for.

    Args:
        cuda: with its device selected.
        size_bytes: of one copy.
        seconds: for which copies are made; two at least.
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
