"""Time and memory of loading one engine in a fresh process.

``python -m rrid_edge.bench.probe JSON`` opens the engine of a :class:`LoadRequest` and prints the numbers as JSON.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from rrid_edge.errors import ArtefactError
from rrid_edge.machine.memory import peak_resident_bytes, resident_bytes
from rrid_edge.model.rtx_target import RTX_RUNTIME

_TIMEOUT_S = 600


@dataclass(frozen=True)
class LoadCost:
    """Cost of opening an engine; medians over fresh processes.

    Attributes:
        cold_s: seconds for imports, opening and the first image in a fresh process, without a cache.
        cached_s: the same with the compiled model in the cache. Runtimes without a cache take about ``cold_s``.
        warm_s: seconds to open the engine and run the first image again in the same process.
        memory_mib: resident memory of the process while the engine is open; None on a system without ``/proc``.
        peak_memory_mib: peak resident memory while opening and running, without a cache; None as above.
        device_memory_mib: GPU memory of the engine; None on a CPU.
    """

    cold_s: float
    cached_s: float
    warm_s: float
    memory_mib: float | None
    peak_memory_mib: float | None
    device_memory_mib: float | None


@dataclass(frozen=True)
class LoadRequest:
    """The engine to open; arguments of ``open_engine``.

    Attributes:
        path: the model file.
        runtime: name of the runtime.
        precision: arithmetic to force, or None.
        threads: CPU threads; 0 lets the runtime choose.
    """

    path: str
    runtime: str
    precision: str | None
    threads: int


def measure_load(request: LoadRequest, *, processes: int = 1) -> LoadCost | None:
    """Measure opening an engine in ``processes`` fresh processes per kind; None if one of them failed."""
    from rrid_edge.files import scratch_folder  # not at the top: the probe measures the time of imports

    cold = [_in_process(request, "off") for _ in range(processes)]
    with scratch_folder() as folder:
        cached = [_in_process(request, str(folder)) for _ in range(processes + 1)][1:]
    found = [one for one in (*cold, *cached) if one is not None]
    if len(found) < 2 * processes:
        return None
    first, later = found[:processes], found[processes:]
    return LoadCost(
        cold_s=statistics.median(one.load_s for one in first),
        cached_s=statistics.median(one.load_s for one in later),
        warm_s=statistics.median(one.warm_s for one in first),
        memory_mib=_median(one.memory_mib for one in first),
        peak_memory_mib=_median(one.peak_memory_mib for one in first),
        device_memory_mib=_median(one.device_memory_mib for one in first),
    )


@dataclass(frozen=True)
class _Printed:
    """What a fresh process prints; names and units as in :class:`LoadCost`."""

    load_s: float
    warm_s: float
    memory_mib: float | None
    peak_memory_mib: float | None
    device_memory_mib: float | None


def _median(values: Iterable[float | None]) -> float | None:
    """The median of the known values."""
    return statistics.median(known) if (known := [value for value in values if value is not None]) else None


def _in_process(request: LoadRequest, cache: str) -> _Printed | None:
    # Not at the top: they import NumPy, whose import time the probe measures.
    from rrid_edge.artefacts import Artefact
    from rrid_edge.engines.compiled_cache import ENVIRONMENT_VARIABLE

    command = [sys.executable, "-m", "rrid_edge.bench.probe", json.dumps(asdict(request))]
    environment = {**os.environ, ENVIRONMENT_VARIABLE: cache}
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True, env=environment
        )
        lines = done.stdout.splitlines() or [""]  # a runtime may print before the numbers
        return Artefact("cost of loading", _Printed, "measure again").parse(lines[-1], where="the fresh process")
    except (subprocess.SubprocessError, ArtefactError):
        return None


def _load_once(request: LoadRequest) -> dict[str, float | None]:
    """Open the engine and run one image: seconds, and memory in MiB while it is open."""
    gpu = _Gpu() if request.runtime in ("tensorrt", RTX_RUNTIME, "onnxruntime-cuda") else None
    start = time.perf_counter()
    import numpy as np

    from rrid_edge.engines import open_engine

    with open_engine(request.path, request.runtime, precision=request.precision, threads=request.threads) as engine:
        engine.run(np.zeros((1, engine.spec.height_px, engine.spec.width_px, 3), np.uint8))
        return {
            "load_s": time.perf_counter() - start,
            "memory_mib": _mib(resident_bytes()),
            "peak_memory_mib": _mib(peak_resident_bytes()),
            "device_memory_mib": gpu.taken_mib() if gpu is not None else None,
        }


class _Gpu:
    """Measures GPU memory taken since it was made. It creates the CUDA context first, so that is not counted."""

    def __init__(self) -> None:
        from rrid_edge.engines.cuda import Cuda

        self._cuda = Cuda()
        self._cuda.select_device()
        self._free = self._cuda.free_memory_bytes()

    def taken_mib(self) -> float:
        """GPU memory taken since this object was made."""
        return (self._free - self._cuda.free_memory_bytes()) / 2**20


def _mib(size_bytes: int | None) -> float | None:
    return None if size_bytes is None else size_bytes / 2**20


def _main() -> None:
    request = LoadRequest(**json.loads(sys.argv[1]))
    first = _load_once(request)
    print(json.dumps({**first, "warm_s": _load_once(request)["load_s"]}))


if __name__ == "__main__":
    _main()
