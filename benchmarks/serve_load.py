"""Load `rrid-edge serve`: one client, eight clients, many clients, beside the same engine without a service.

The clients send a JPEG crop each, over connections that stay open, and wait for the answer. They run in this process,
on the same cores as the service, so what they cost counts against it; their CPU time is printed. The gallery's
descriptors are drawn; the engine computes each query. The bare engine and the service take turns, because a virtual
machine's speed drifts.

Run: python benchmarks/serve_load.py MODEL.onnx [--rows 1000] [--seconds 4] [--rounds 5] [--crowd 200]
The exit code is 1 if a target of the service is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from common import DrawnPersons, add_rows, elapsed_s, jpeg_pictures, table_row, watched
from load_clients import Load, ask, search_request
from rrid_edge.engines import Engine, open_engine
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.machine.processor import processor_name
from rrid_edge.model.onnx_header import read_spec

FEW = 8
MOST_OF_ENGINE, MOST_MORE_MS, LEAST_THROUGHPUT, MOST_GROWTH_MIB = 2.0, 5.0, 0.9, 100.0
_BATCHES = (1, 2, 4, 8)
_CALIBRATION_S = 1.0
_START_S = 60.0
_CROWD_S = 10.0


class Bare:
    """The engine without a service.

    Args:
        engine: to time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.times_s: list[float] = []
        self._images, self._seconds, self._cpu_s = 0, 0.0, 0.0
        self.batch = max(_BATCHES, key=lambda batch: batch / float(np.median(self._timed(batch, _CALIBRATION_S))))

    def round(self, seconds: float) -> None:
        """Time single images, then the fastest batch, each for so long."""
        self.times_s += self._timed(1, seconds)
        begun_s = time.process_time()
        times = self._timed(self.batch, seconds)
        self._cpu_s += time.process_time() - begun_s
        self._images += self.batch * len(times)
        self._seconds += sum(times)

    @property
    def p50_ms(self) -> float:
        """Median time of one image in milliseconds."""
        return float(np.median(self.times_s)) * 1000

    @property
    def per_s(self) -> float:
        """Images per second in the fastest batch."""
        return self._images / self._seconds

    @property
    def cpu_ms(self) -> float:
        """CPU time per image in the fastest batch, in milliseconds of one core."""
        return self._cpu_s / self._images * 1000

    def _timed(self, batch: int, seconds: float) -> list[float]:
        shape = (batch, self._engine.spec.height_px, self._engine.spec.width_px, 3)
        images = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
        self._engine.run(images)
        times, until = [], time.perf_counter() + seconds
        while time.perf_counter() < until:
            times.append(elapsed_s(lambda: self._engine.run(images)))
        return times


def make_gallery(folder: Path, model: Path, rows: int) -> None:
    """A gallery of drawn descriptors that remembers the model."""
    spec = read_spec(model)
    persons = DrawnPersons.draw(max(1, rows // 10), spec.dimension, spread=0.14, rank=64)
    vectors = persons.descriptors(np.arange(rows) % len(persons.centres), seed=1)
    folder.mkdir()
    with LocalGallery.create(folder / ".rrid-edge", spec) as gallery:
        add_rows(gallery, vectors)
        gallery.finish()


@contextlib.contextmanager
def service(gallery: Path, model: Path) -> Iterator[tuple[int, int]]:
    """A running service: its port and process id."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "rrid_edge.cli", "serve", str(gallery), "--model", str(model), "--port", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:  # noqa: S603 - a command of this package
        try:
            _wait_until_ready(port)
            yield port, server.pid
        finally:
            server.send_signal(signal.SIGTERM)


def _wait_until_ready(port: int) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
            return
        time.sleep(0.1)
    raise SystemExit("the service is not ready after a minute")


def resident_mib(process: int) -> float:
    """Resident memory of a process in MiB."""
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def report(bare: Bare, loads: dict[str, Load], growth_mib: float, crowd: int) -> bool:
    """Print the tables; whether all targets are met."""
    one_ms, best = bare.p50_ms, bare.per_s
    one, few, many = loads["one"], loads["few"], loads["crowd"]
    errors = sum(count for load in loads.values() for code, count in load.codes.items() if code >= 500)
    codes = " ".join(f"{code}: {count}" for code, count in sorted(many.codes.items()))
    engine_ms, engine_per_s = f"engine {one_ms:.1f} ms", f"engine {best:.1f}, batch {bare.batch}"
    is_quick = one.p50_ms <= MOST_OF_ENGINE * one_ms + MOST_MORE_MS
    is_full = few.per_s >= LEAST_THROUGHPUT * best
    rows: list[tuple[str, str, str, str, bool]] = [
        ("one client, p50", f"{one.p50_ms:.1f} ms", engine_ms, f"{one.p50_ms / one_ms:.2f}", is_quick),
        (f"{FEW} clients, searches per s", f"{few.per_s:.1f}", engine_per_s, f"{few.per_s / best:.3f}", is_full),
        (f"{crowd} clients, searches per s", f"{many.per_s:.1f}", engine_per_s, f"{many.per_s / best:.3f}", True),
        (f"{crowd} clients, memory growth", f"{growth_mib:.0f} MiB", "", "", growth_mib < MOST_GROWTH_MIB),
        (f"{crowd} clients, answers by status", codes, "", "", not errors),
    ]
    print(table_row(["", "service", "bare", "ratio", "target met"]))
    print("|---|---|---|---|---|")
    for *cells, met in rows:
        print(table_row([*cells, "yes" if met else "**no**"]))
    beside_ms = few.service_cpu_s / few.asked * 1000
    print(
        f"CPU time per search of {FEW} clients, in ms of one core: service {beside_ms:.2f}, clients "
        f"{few.client_cpu_s / few.asked * 1000:.2f}; bare engine per image {bare.cpu_ms:.2f}"
    )
    return all(met for *_, met in rows)


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, default=1000, help="crops of the gallery")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each load in a round")
    parser.add_argument("--rounds", type=int, default=5, help="turns of the bare engine and the service")
    parser.add_argument("--crowd", type=int, default=200, help="clients of the last load, for 10 s")
    chosen = parser.parse_args()
    print(f"{processor_name()}; {chosen.model}; {chosen.rows:,} crops")
    requests = [search_request(picture) for picture in jpeg_pictures(64)]
    loads = {name: Load() for name in ("one", "few", "crowd")}
    with tempfile.TemporaryDirectory() as folder, open_engine(chosen.model) as engine:
        gallery, bare = Path(folder) / "gallery", Bare(engine)
        make_gallery(gallery, chosen.model, chosen.rows)
        with service(gallery, chosen.model) as served:
            for _ in range(chosen.rounds):
                bare.round(chosen.seconds / 2)
                ask(served, requests, 1, loads["one"], chosen.seconds / 2)
                ask(served, requests, FEW, loads["few"], chosen.seconds)
            held = resident_mib(served[1])
            ask(served, requests, chosen.crowd, loads["crowd"], _CROWD_S)
            growth = resident_mib(served[1]) - held
    return 0 if report(bare, loads, growth, chosen.crowd) else 1


if __name__ == "__main__":
    watched(main)
