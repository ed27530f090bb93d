"""Measure how many crops per second threads decode, and processes. `index` chooses between the two.

The benchmark only reads and decodes small JPEG crops. All ways take turns. The start of processes is not counted. With
simplejpeg installed (pip install 'rrid-edge[fast]'), threads decode with it and with Pillow; processes use it.

Run: python benchmarks/decoding.py [--files 6000] [--height 384 --width 128] [--workers 1 2 4] [--repetitions 3]
"""

from __future__ import annotations

import argparse
import contextlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common import jpeg_pictures, watched, write_crops
from rrid_edge.crops.fast_jpeg import PACKAGE, fast_decoder
from rrid_edge.crops.images import load_rgb, read_image_bytes, resize
from rrid_edge.embedding.process import DecodingProcess
from rrid_edge.embedding.reading import ReadAhead
from rrid_edge.machine.processor import processor_name, usable_cores

Fetched = tuple[Path, bytes]
_BATCH = 32


@dataclass(frozen=True)
class Way:
    """A way to decode: by so many threads or processes, with Pillow alone or as ``index`` does."""

    workers: int
    processes: bool
    pillow: bool = False

    def __str__(self) -> str:
        return f"{self.workers} {'processes' if self.processes else 'threads'}"

    @property
    def decoder(self) -> str:
        """Name of the package that decodes."""
        return "Pillow" if self.pillow or fast_decoder().decode is None else PACKAGE


def rate(paths: list[Path], height: int, width: int, way: Way) -> float:
    """Return crops per second, taken in batches. The first quarter of the files is not counted."""

    def fetch(path: Path) -> Fetched:
        return path, path.read_bytes()

    def decode(fetched: Fetched) -> np.ndarray:
        if way.pillow:
            return resize(load_rgb(fetched[0], fetched[1]), height, width)
        return read_image_bytes(fetched[1], fetched[0], height, width)

    @contextlib.contextmanager
    def decoder() -> Iterator[Callable[[Fetched], np.ndarray]]:
        with DecodingProcess(height, width) as process:
            yield lambda fetched: process.decode(fetched[1], fetched[0])

    own = 0 if way.processes else way.workers
    with ReadAhead(paths, fetch, decode, threads=own, window=3 * _BATCH) as ahead:
        if way.processes:
            ahead.replace_threads(way.workers, decoder)
        start = first = 0.0
        while found := ahead.take(_BATCH):
            np.stack([pixels for _, pixels in found if isinstance(pixels, np.ndarray)])
            if not start and ahead.taken >= len(paths) // 4:
                start, first = time.perf_counter(), ahead.taken
        return (len(paths) - first) / (time.perf_counter() - start)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=6000)
    parser.add_argument("--height", type=int, default=384)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--workers", type=int, nargs="+", default=sorted({1, 2, usable_cores()}))
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    ways = [Way(workers, processes) for workers in options.workers for processes in (False, True)]
    if fast_decoder().decode is not None:
        ways = [*(Way(workers, processes=False, pillow=True) for workers in options.workers), *ways]
    found: dict[Way, list[float]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory() as folder:
        paths = write_crops(Path(folder) / "crops", options.files, jpeg_pictures(200))
        for _ in range(options.repetitions):
            for way in ways:
                found[way].append(rate(paths, options.height, options.width, way))
    print(f"{processor_name()}, {usable_cores()} cores; crops of 64 x 128 to {options.width} x {options.height}")
    base = statistics.median(found[ways[0]])
    for way, rates in found.items():
        middle = statistics.median(rates)
        spread = f"{min(rates):.0f} to {max(rates):.0f}   {middle / base:.2f}   {way.decoder}"
        print(f"{way!s:<14}{middle:>8.0f} crops/s   {spread}")


if __name__ == "__main__":
    watched(main)
