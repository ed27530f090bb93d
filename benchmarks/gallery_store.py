"""Measure a local gallery: opening, memory, re-ranking, and indexing again after one file has changed.

Writes a gallery of ``--rows`` clustered rows into a temporary folder. Opens it in a fresh process. Measures the time,
and the private memory added before and after the first search. Indexes ``--files`` small JPEG files with a fake engine,
changes one of them and indexes again. Compares that time with listing the folder and comparing it with the gallery.

Run: python benchmarks/gallery_store.py --rows 100000 --files 20000
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from common import Descriptors, DrawnPersons, add_rows, elapsed_s, jpeg_pictures, watched, write_crops
from rrid_edge.embedding.queries import Query
from rrid_edge.engines.fake import FakeEngine, fake_spec
from rrid_edge.gallery.indexing.queried import folder_state
from rrid_edge.gallery.indexing.sync import index_folder
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.machine.processor import processor_name
from rrid_edge.machine.timing import interleave
from rrid_edge.matching import MatchSettings, match
from rrid_edge.model.spec import ModelSpec

SPEC: ModelSpec = fake_spec(block_width=256)
_CHUNK = 4096

_OPENING = """
import json, re, sys, time
import numpy as np
from pathlib import Path
from rrid_edge.gallery.local.store import LocalGallery

def private_mib():
    text = Path("/proc/self/smaps_rollup").read_text()
    return sum(int(kib) for kib in re.findall(r"^Private_(?:Clean|Dirty):\\s+(\\d+) kB", text, re.M)) / 1024

before, begun = private_mib(), time.perf_counter()
gallery = LocalGallery(Path(sys.argv[1]))
rows = gallery.info().rows
opened, memory = time.perf_counter() - begun, private_mib() - before
query = np.random.default_rng(1).standard_normal((1, gallery.spec.dimension)).astype(np.float32)
begun = time.perf_counter()
gallery.search(query / np.linalg.norm(query), 10)
first = time.perf_counter() - begun
print(json.dumps({"rows": rows, "open_ms": opened * 1e3, "private_mib": memory, "first_search_ms": first * 1e3,
                  "private_after_search_mib": private_mib() - before}))
"""


def fill(folder: Path, count: int) -> Descriptors:
    """Write a gallery of ``count`` rows and return a query (1, D). With 100,000 rows, each person has 20."""
    drawn, generator = DrawnPersons.draw(5000, SPEC.dimension, spread=1), np.random.default_rng(0)
    with LocalGallery.create(folder, SPEC) as gallery:
        for start in range(0, count, _CHUNK):
            persons = generator.integers(0, len(drawn.centres), min(_CHUNK, count - start))
            add_rows(gallery, drawn.descriptors(persons, start), start=start)
        gallery.finish()
    return drawn.descriptors(np.array([7]), count)


def opening(folder: Path) -> dict[str, float]:
    """Open it twice, each time in a fresh process. Return the second result: the files are then in the page cache."""
    for _ in range(2):
        command = [sys.executable, "-c", _OPENING, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own program
    found: dict[str, float] = json.loads(done.stdout)
    return found


def reranking(folder: Path, asked: Descriptors, repetitions: int) -> None:
    """Time one query with and without re-ranking the best 200."""
    with LocalGallery(folder) as gallery:
        query = Query(("query.jpg",), asked)
        ways = {
            "plain": lambda: match(gallery, query, MatchSettings(10)),
            "re-ranked, best 200": lambda: match(gallery, query, MatchSettings(10, rerank=200)),
        }
        for name, timing in interleave(ways, repetitions=repetitions, warm_up=3).items():
            middle, slow = (timing.percentile_ms(percent) for percent in (50, 90))
            print(f"one query of {gallery.info().rows}, {name}: {middle:.1f} ms, p90 {slow:.1f} ms")


def in_step(root: Path, files: int, repetitions: int) -> None:
    """Time indexing after one of ``files`` files has changed."""
    folder, location, engine = root / "crops", root / "index", FakeEngine(SPEC)
    changed = write_crops(folder, files, jpeg_pictures(50, 32, 64))[7]
    with LocalGallery.create(location, SPEC) as gallery:
        index_folder(folder, gallery, engine)
    seconds: dict[str, list[float]] = {"compare": [], "index": []}
    for picture in jpeg_pictures(repetitions, 32, 64, seed=1):
        with LocalGallery.create(location, SPEC) as gallery:
            seconds["compare"].append(elapsed_s(partial(folder_state, folder, gallery)))
        changed.write_bytes(picture)
        begun = time.perf_counter()
        with LocalGallery.create(location, SPEC) as gallery:
            assert index_folder(folder, gallery, engine).changed == 1
        seconds["index"].append(time.perf_counter() - begun)
    compare, index = (float(np.median(seconds[name])) for name in ("compare", "index"))
    print(f"{files} files: listing and comparing {compare:.3f} s, index after one change {index:.3f} s", end=", ")
    print(f"ratio {index / compare:.2f}")


def main() -> None:
    """Measure and print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--files", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    print(processor_name())
    with tempfile.TemporaryDirectory() as root:
        query = fill(Path(root) / "large", arguments.rows)
        found = opening(Path(root) / "large")
        print(
            f"{found['rows']:.0f} rows: opened in {found['open_ms']:.0f} ms with {found['private_mib']:.0f} MiB "
            f"of private memory; first search {found['first_search_ms']:.0f} ms, "
            f"then {found['private_after_search_mib']:.0f} MiB"
        )
        reranking(Path(root) / "large", query, arguments.repetitions)
        in_step(Path(root), arguments.files, arguments.repetitions)


if __name__ == "__main__":
    watched(main)
