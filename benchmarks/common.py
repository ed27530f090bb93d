"""Helpers of the benchmarks: drawn descriptors, small JPEG crops, rows of a gallery, times, memory, foreign CPU."""

from __future__ import annotations

import io
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from rrid_edge.gallery import GalleryStore, NewRow
from rrid_edge.machine.foreign_cpu import ForeignCpu, in_words
from rrid_edge.machine.memory import resident_bytes

Descriptors = NDArray[np.float32]

_CHUNK = 4096
_MARKET_PERSONS, _MARKET_CAMERAS = 1500, 6


def watched(main: Callable[[], int | None]) -> None:
    """Run a script, print the share of foreign CPU during it on stderr, and end with its exit code."""
    watch = ForeignCpu()
    code = main()
    print(in_words(watch.share()), file=sys.stderr)
    sys.exit(code)


@dataclass(frozen=True)
class DrawnPersons:
    """Persons with one centre each. The descriptors of a person's crops are scattered around it.

    Attributes:
        centres: float32 (persons, D), unit length.
        spread: length of the noise that is added to the centre. Two crops of one person have a cosine of about
            ``1 / (1 + spread**2)``. It is 0.98 with 0.14 (like a trained network), 0.5 with 1, and 0.2 with 2.
    """

    centres: Descriptors
    spread: float

    @classmethod
    def draw(cls, count: int, dimension: int, *, spread: float, rank: int | None = None) -> DrawnPersons:
        """Draw ``count`` persons, the same on every call. Their centres lie in ``rank`` dimensions (None: in all)."""
        generator = np.random.default_rng(99)
        centres = generator.standard_normal((count, rank or dimension), dtype=np.float32)
        if rank is not None:
            centres = centres @ generator.standard_normal((rank, dimension), dtype=np.float32)
        return cls(unit(centres), spread)

    def descriptors(self, persons: NDArray[np.int64], seed: int) -> Descriptors:
        """Return one crop for each of ``persons`` (N,), which are indices of centres: (N, D), unit length."""
        generator, dimension = np.random.default_rng(seed), self.centres.shape[1]
        found = np.empty((len(persons), dimension), np.float32)
        for start in range(0, len(persons), _CHUNK):
            part = persons[start : start + _CHUNK]
            noise = generator.standard_normal((len(part), dimension), dtype=np.float32)
            noise *= np.float32(self.spread / np.sqrt(dimension))
            found[start : start + _CHUNK] = unit(noise + self.centres[part])
        return found


def unit(rows: Descriptors) -> Descriptors:
    """Divide ``rows`` (N, D) by their lengths, in place."""
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def independent(count: int, dimension: int, seed: int) -> Descriptors:
    """Return unit rows (count, dimension) in independent random directions."""
    return unit(np.random.default_rng(seed).standard_normal((count, dimension), dtype=np.float32))


def add_rows(gallery: GalleryStore, vectors: Descriptors, *, start: int = 0, batch: int = _CHUNK) -> None:
    """Add ``vectors`` under numbered paths from ``start`` on, with cameras 0 to 7, ``batch`` rows per call."""
    for first in range(0, len(vectors), batch):
        part = vectors[first : first + batch]
        numbers = range(start + first, start + first + len(part))
        gallery.add([NewRow(f"{number:07d}.jpg", f"{number:064x}", 1, 1, str(number % 8)) for number in numbers], part)


def jpeg_pictures(count: int, width_px: int = 64, height_px: int = 128, seed: int = 0) -> list[bytes]:
    """Return the contents of ``count`` different JPEG files with smooth random pictures."""
    generator, contents = np.random.default_rng(seed), []
    for _ in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (16, 8, 3), dtype=np.uint8))
        stream = io.BytesIO()
        coarse.resize((width_px, height_px), Image.Resampling.BICUBIC).save(stream, "JPEG", quality=90)
        contents.append(stream.getvalue())
    return contents


def write_crops(folder: Path, count: int, pictures: list[bytes]) -> list[Path]:
    """Write ``count`` files with Market-1501 names (1,500 persons, 6 cameras) to a new folder, cycling ``pictures``."""
    folder.mkdir(parents=True)
    paths = []
    for index in range(count):
        person, camera = index % _MARKET_PERSONS + 1, index % _MARKET_CAMERAS + 1
        paths.append(folder / f"{person:04d}_c{camera}s1_{index:06d}_00.jpg")
        paths[-1].write_bytes(pictures[index % len(pictures)])
    return paths


def median_s(work: Callable[[], object], repetitions: int) -> float:
    """Return the median time of ``work`` in seconds."""
    return float(np.median([elapsed_s(work) for _ in range(repetitions)]))


def elapsed_s(work: Callable[[], object]) -> float:
    """Return the time of one call in seconds."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def resident_mib() -> float:
    """Return the resident memory of this process in MiB; NaN on a system without ``/proc``."""
    held = resident_bytes()
    return float("nan") if held is None else held / 2**20


def traced_mib(work: Callable[[], object]) -> float:
    """Return the peak memory of NumPy and Python during ``work`` in MiB, less what they held before."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


def table_row(cells: Iterable[object]) -> str:
    """Return one line of a Markdown table."""
    return f"| {' | '.join(map(str, cells))} |"
