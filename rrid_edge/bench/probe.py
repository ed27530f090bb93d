"""Loading one engine in a fresh process: ``python -m rrid_edge.bench.probe JSON`` prints times and memory as JSON."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

_TIMEOUT_S = 600


@dataclass(frozen=True)
class LoadCost:
    """What opening an engine costs.

    Attributes:
        cold_s: imports, opening and the first image in a fresh process.
        warm_s: opening and the first image again in the same process.
        memory_mib: resident memory of the process afterwards.
    """

    cold_s: float
    warm_s: float
    memory_mib: float


def measure_load(path: Path, runtime: str, precision: str | None, threads: int) -> LoadCost | None:
    """The cost of opening ``path`` in a fresh process, or None where that process failed."""
    request = json.dumps({"path": str(path), "runtime": runtime, "precision": precision, "threads": threads})
    command = [sys.executable, "-m", "rrid_edge.bench.probe", request]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)  # noqa: S603 - our own module
    return LoadCost(**json.loads(done.stdout)) if done.returncode == 0 else None


def _load_once(request: dict[str, object]) -> float:
    start = time.perf_counter()
    import numpy as np

    from rrid_edge.engines import open_engine

    precision = request["precision"]
    with open_engine(
        str(request["path"]),
        str(request["runtime"]),
        precision=None if precision is None else str(precision),
        threads=int(str(request["threads"])),
    ) as engine:
        engine.run(np.zeros((1, engine.spec.height_px, engine.spec.width_px, 3), np.uint8))
        return time.perf_counter() - start


def resident_mib() -> float:
    """Resident memory of this process in MiB, as the kernel tells it; 0 where it does not."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return 0.0
    return pages * 4096 / 2**20


def _main() -> None:
    request = json.loads(sys.argv[1])
    cold = _load_once(request)
    warm = _load_once(request)
    print(json.dumps(asdict(LoadCost(cold, warm, resident_mib()))))


if __name__ == "__main__":
    _main()
