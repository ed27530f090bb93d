"""What a gallery in Milvus costs: python benchmarks/milvus.py milvus+http://localhost:19530 --rows 10000 [--index-type hnsw].

Clustered descriptors of 3840 values (12 crops a person, cosine about 0.5 within), the same in a folder beside it; the
answers are compared. Times are medians of 15 questions. The collection ``benchmark`` is dropped before and after.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery import Gallery, NewRow, SearchFilter
from rrid_edge.gallery.indexing.recall import measure_recall
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.milvus.store import MilvusGallery
from rrid_edge.gallery.opening import parse_location, remove_gallery

SPEC = fake_spec(block_width=256)
CHUNK = 1200


def descriptors(start: int, count: int) -> NDArray[np.float32]:
    """Rows of a fixed synthetic gallery."""
    persons = np.arange(start, start + count) // 12
    centres = {
        int(person): np.random.default_rng(int(person)).standard_normal(SPEC.dimension)
        for person in set(persons.tolist())
    }
    values = np.stack([centres[int(person)] for person in persons])
    values += np.random.default_rng(10_000_000 + start).standard_normal(values.shape)
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def fill(gallery: Gallery, rows: int) -> None:
    """Store ``rows`` rows, in batches as an index does."""
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        made = [NewRow(f"{index:07d}.jpg", f"{index:064x}", 1, 1, index % 8) for index in range(start, start + count)]
        gallery.add(made, descriptors(start, count))
    gallery.finish()


def seconds(work: Callable[[], object], repeats: int = 15) -> float:
    """Median time of some work."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="without a collection")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--index-type", default="flat")
    options = parser.parse_args()
    location = parse_location(f"{options.address}/benchmark")
    remove_gallery(location)
    queries = descriptors(0, 64)
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalGallery.create(Path(folder) / "g", SPEC) as local,
        MilvusGallery.create(location, SPEC, index_type=options.index_type) as gallery,
    ):
        for name, store in (("folder", local), ("Milvus", gallery)):
            took = seconds(lambda: fill(store, options.rows), 1)  # noqa: B023
            print(f"{name}: {options.rows} rows stored and indexed in {took:.1f} s")
        fast = options.index_type != "flat"
        for name, store in (("folder", local), ("Milvus", gallery)):
            for count in (1, 64):
                took = seconds(lambda: store.search(queries[:count], 10, fast=fast))  # noqa: B023
                print(f"{name}: top 10 of {count} queries in {1000 * took:.0f} ms")
            took = seconds(lambda: store.search(queries[:1], 10, SearchFilter(cameras=frozenset({3})), fast=fast))  # noqa: B023
            print(f"{name}: the same of one query and one camera in {1000 * took:.0f} ms")
        print(f"Milvus: verify in {seconds(gallery.verify, 1):.1f} s")
        if fast:
            begun = time.perf_counter()
            print(f"recall@10 {measure_recall(gallery):.4f}, measured in {time.perf_counter() - begun:.1f} s")
        else:
            pairs = zip(local.search(queries, 10).hits, gallery.search(queries, 10).hits, strict=True)
            same = sum(
                [(hit.row.path, hit.score) for hit in one] == [(hit.row.path, hit.score) for hit in two]
                for one, two in pairs
            )
            print(f"{same} of 64 answers are the same, scores included")
    remove_gallery(location)


if __name__ == "__main__":
    main()
