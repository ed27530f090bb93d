"""Measure memory while a large folder is indexed, and in a search after it. It must not grow with the number of crops.

The folder holds many hard links to few files, so a million crops need little disk space. Every link is read, decoded,
embedded and stored. Without a model, the package's fake engine is used. Memory does not depend on the engine. Speed
does.

Run: python benchmarks/index_memory.py [--model MODEL] [--rows 30000] [--distinct 64]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from common import jpeg_pictures, resident_mib, watched
from rrid_edge.engines import Engine, FakeEngine, open_engine
from rrid_edge.gallery.indexing.sync import IndexReport, index_folder
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.machine.processor import processor_name

_LINKS = 10_000  # ext4 allows 65,000 links to one file


def write_folder(folder: Path, rows: int, distinct: int) -> None:
    """Write ``rows`` links to ``distinct`` JPEG files of 64 x 128 pixels per folder, in folders of 10,000 links."""
    pictures = jpeg_pictures(distinct)
    for start in range(0, rows, _LINKS):
        below = folder / f"{start // _LINKS:04d}"
        below.mkdir(parents=True)
        originals: list[Path] = []
        for index in range(start, min(start + _LINKS, rows)):
            path = below / f"{index:08d}.jpg"
            if len(originals) < distinct:
                path.write_bytes(pictures[len(originals)])
                originals.append(path)
            else:
                path.hardlink_to(originals[index % distinct])


class MemoryWatch:
    """A progress that records the resident memory (MiB) after each of ``samples`` equal parts of the work."""

    def __init__(self, samples: int) -> None:
        self.memory_mib: list[float] = []
        self._samples, self._total, self._done = samples, 1, 0

    def start(self, total: int | None) -> None:
        """Set the number of files."""
        self._total = max(1, total or 0)

    def advance(self, count: int) -> None:
        """Count ``count`` more files as done."""
        self._done += count
        while len(self.memory_mib) < self._done * self._samples // self._total:
            self.memory_mib.append(resident_mib())


def index_watched(folder: Path, location: Path, engine: Engine, samples: int = 10) -> tuple[IndexReport, list[float]]:
    """Index, and record the resident memory (MiB) after each of ``samples`` equal parts of the work."""
    watch = MemoryWatch(samples)
    with LocalGallery.create(location, engine.spec) as gallery:
        return index_folder(folder, gallery, engine, progress=watch), watch.memory_mib


def main() -> None:
    """Index, search and print the memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--distinct", type=int, default=64)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as temporary,
        open_engine(options.model) if options.model else FakeEngine() as engine,
    ):
        folder, location = Path(temporary) / "crops", Path(temporary) / "index"
        write_folder(folder, options.rows, options.distinct)
        start = time.perf_counter()
        report, memory = index_watched(folder, location, engine)
        seconds = time.perf_counter() - start
        print(f"{processor_name()}, {engine.runtime}: {report.rows:,} crops in {seconds:.0f} s, batch {report.batch}")
        print(f"resident MiB after each tenth: {', '.join(f'{value:.0f}' for value in memory)}")
        with LocalGallery(location) as gallery:
            query = gallery.vectors(gallery.rows()[:1])
            start = time.perf_counter()
            gallery.search(query, 10)
            print(f"first search: {(time.perf_counter() - start) * 1000:.0f} ms, resident {resident_mib():.0f} MiB")


if __name__ == "__main__":
    watched(main)
