"""Compare a gallery in Milvus with a local gallery of the same rows: times and answers.

The descriptors have 3840 values and are clustered: 12 crops per person, with a cosine of about 0.5 between two crops of
one person. Times are medians of 15 searches. The collection ``benchmark`` is dropped before and after.
The share of foreign CPU includes a server on this machine.

Run: python benchmarks/milvus.py milvus+http://localhost:19530 [--rows 10000] [--index-type hnsw]
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from common import Descriptors, DrawnPersons, add_rows, elapsed_s, median_s, watched
from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery import GalleryStore, SearchFilter
from rrid_edge.gallery.contract import ApproximateMoment
from rrid_edge.gallery.indexing.recall import measure_recall
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.gallery.milvus.address import MilvusAddress
from rrid_edge.gallery.milvus.store import MilvusGallery
from rrid_edge.gallery.opening import remove_store

SPEC = fake_spec(block_width=256)
REPETITIONS = 15
_CROPS_PER_PERSON = 12


def fill(gallery: GalleryStore, vectors: Descriptors) -> None:
    """Add rows in batches, as `index` does."""
    add_rows(gallery, vectors, batch=1200)
    gallery.finish()


def measure_store(name: str, store: GalleryStore, queries: Descriptors, *, fast: bool) -> None:
    """Print the time of a search by 1 query, by 64 queries, and by 1 query in one camera."""
    search = store.search_approximately if fast and isinstance(store, ApproximateMoment) else store.search
    for count in (1, 64):
        took = median_s(partial(search, queries[:count], 10), REPETITIONS)
        print(f"{name}: top 10 of {count} queries in {1000 * took:.0f} ms")
    camera = SearchFilter(cameras=frozenset({"3"}))
    took = median_s(partial(search, queries[:1], 10, camera), REPETITIONS)
    print(f"{name}: top 10 of 1 query in one camera in {1000 * took:.0f} ms")


def same_answers(local: GalleryStore, gallery: GalleryStore, queries: Descriptors) -> int:
    """Count the queries whose paths and scores are equal in both galleries."""
    pairs = zip(local.search(queries, 10).hits, gallery.search(queries, 10).hits, strict=True)
    return sum(
        [(hit.row.path, hit.score) for hit in one] == [(hit.row.path, hit.score) for hit in two] for one, two in pairs
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("address", help="Milvus address without a collection")
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--index-type", default="flat")
    options = parser.parse_args()
    location = MilvusAddress.parse(f"{options.address}/benchmark")
    remove_store(location)
    persons = np.arange(options.rows) // _CROPS_PER_PERSON
    vectors = DrawnPersons.draw(int(persons[-1]) + 1, SPEC.dimension, spread=1).descriptors(persons, 1)
    queries, fast = vectors[:64].copy(), options.index_type != "flat"
    with (
        tempfile.TemporaryDirectory() as folder,
        LocalGallery.create(Path(folder) / "g", SPEC) as local,
        MilvusGallery.create(location, SPEC, index_type=options.index_type) as gallery,
    ):
        stores: dict[str, GalleryStore] = {"folder": local, "Milvus": gallery}
        for name, store in stores.items():
            took = elapsed_s(partial(fill, store, vectors))
            print(f"{name}: {options.rows} rows stored and indexed in {took:.1f} s")
        for name, store in stores.items():
            measure_store(name, store, queries, fast=fast)
        print(f"Milvus: verify in {elapsed_s(gallery.verify):.1f} s")
        if fast:
            print(f"recall@10 {measure_recall(gallery):.4f}")
        else:
            print(f"{same_answers(local, gallery, queries)} of {len(queries)} answers are the same, scores included")
    remove_store(location)


if __name__ == "__main__":
    watched(main)
