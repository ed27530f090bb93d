"""Measure a gallery that grows row by row, as a tracker fills it: adding a row, and searching right after it.

The descriptors are drawn: persons in 64 dimensions, residuals of length 0.14. Every time is also given as a ratio to
NumPy's float32 product of one query with all descriptors in the same round.

Run: python benchmarks/growing.py [--rows 10000] [--rounds 40] [--folder DIR]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import DrawnPersons, watched
from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.machine.processor import core_count, processor_name

_PERSONS = 700
_BATCH_ROWS = 1000


def descriptors(rows: int, dimension: int) -> NDArray[np.float32]:
    """Return drawn descriptors, float32 (rows, dimension)."""
    drawn = DrawnPersons.draw(_PERSONS, dimension, spread=0.14, rank=64)
    return drawn.descriptors(np.arange(rows) % _PERSONS, 0)


def measure(folder: Path, rows: int, rounds: int, dimension: int = 3840) -> dict[str, list[float]]:
    """Return the seconds of each step, one value per round."""
    values = descriptors(rows + rounds, dimension)
    seconds: dict[str, list[float]] = defaultdict(list)

    def timed(step: str, work: Callable[[], object]) -> None:
        start = time.perf_counter()
        work()
        seconds[step].append(time.perf_counter() - start)

    with LocalGallery.create(folder, fake_spec(block_width=dimension // 15)) as gallery:
        for start in range(0, rows, _BATCH_ROWS):
            part = values[start : min(start + _BATCH_ROWS, rows)]
            gallery.add([NewRow(None, camera=str(index % 7)) for index in range(len(part))], part)
        gallery.finish()
        for _ in range(3):  # decodes the rows
            gallery.search(values[:1], 10)
        for index in range(rows, rows + rounds):
            one = values[index : index + 1]
            timed("add one row", lambda one=one: gallery.add([NewRow(None, camera="1")], one))  # type: ignore[misc]
            timed("search after it", lambda one=one: gallery.search(one, 10))  # type: ignore[misc]
            timed("search again", lambda one=one: gallery.search(one, 10))  # type: ignore[misc]
            timed("NumPy's product", lambda one=one: one @ values[:rows].T)  # type: ignore[misc]
    return dict(seconds)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--folder", type=Path, help="folder of the index, for example on the device's disk")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary) / "gallery"
        seconds = measure(folder, options.rows, options.rounds)
    print(f"{processor_name()}, {core_count()}, {options.rows:,} rows, {options.rounds} rounds")
    product = seconds["NumPy's product"]
    for step, values in seconds.items():
        ordered = sorted(value * 1000 for value in values)
        ratio = statistics.median(value / least for value, least in zip(values, product, strict=True))
        median_ms = statistics.median(ordered)
        print(f"{step:<18}{median_ms:>8.1f} ms ({ordered[0]:.1f} to {ordered[-1]:.1f}), {ratio:.2f} of NumPy's")


if __name__ == "__main__":
    watched(main)
