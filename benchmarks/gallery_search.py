"""Compare search in a local gallery with NumPy: a float32 product and top-k over an array in memory.

Both must give the same exact answer. The descriptors come from a trained network (``rrid-edge gallery export FOLDER
descriptors.npz``). More rows are drawn from them. Each row mixes two crops of one person at random and is pulled a
little towards another person. It then gets noise with the crops' own covariance, and unit length. Queries are drawn in
the same way and are not in the gallery. ``--random`` draws independent normal rows instead, which no bound can prune.

Run: python benchmarks/gallery_search.py descriptors.npz --rows 20000 100000
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common import Descriptors, add_rows, elapsed_s, independent, table_row, unit, watched
from rrid_edge.engines.fake import fake_spec
from rrid_edge.gallery.local.projection import dimensions_for, fit_basis, project
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.machine.processor import processor_name
from rrid_edge.machine.timing import interleave

TOP_K = 10
NUMPY, EXACT = "NumPy, float32 in memory", "gallery, exact"


def spread(source: Descriptors, persons: NDArray[np.str_], count: int, seed: int) -> Descriptors:
    """Draw ``count`` descriptors like those of ``source`` (N, D), whose labels are ``persons`` (N,)."""
    generator = np.random.default_rng(seed)
    by_person = [np.flatnonzero(persons == person) for person in np.unique(persons)]
    by_person = [rows for rows in by_person if len(rows) > 1]
    centred = source - source.mean(axis=0)
    result = np.empty((count, source.shape[1]), np.float32)
    for start in range(0, count, 4096):
        size = min(4096, count - start)
        people = generator.integers(0, len(by_person), size)
        one, two = (np.array([generator.choice(by_person[person]) for person in people]) for _ in range(2))
        share = generator.uniform(0, 1, (size, 1)).astype(np.float32)
        away = source[generator.integers(0, len(source), size)]
        pull = generator.uniform(0, 0.5, (size, 1)).astype(np.float32)
        mixed = (1 - pull) * (share * source[one] + (1 - share) * source[two]) + pull * away
        weights = generator.standard_normal((size, len(centred))).astype(np.float32) / np.sqrt(len(centred))
        result[start : start + size] = mixed + 0.3 * weights @ centred
    return unit(result)


def numpy_search(gallery: Descriptors, queries: Descriptors) -> NDArray[np.int64]:
    """Return the first :data:`TOP_K` rows of every query, by product and partition."""
    scores = queries @ gallery.T
    best = np.argpartition(-scores, TOP_K, axis=1)[:, :TOP_K]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


def fill(folder: Path, vectors: Descriptors) -> LocalGallery:
    """Write a gallery of these rows and open it. The caller closes it."""
    with LocalGallery.create(folder, fake_spec(block_width=vectors.shape[1] // 15)) as gallery:
        add_rows(gallery, vectors)
        began = time.perf_counter()
        gallery.finish()
        took = time.perf_counter() - began
        basis = fit_basis(vectors[:: max(1, len(vectors) // 8192)], dimensions_for(vectors.shape[1]))
        residual = np.median(project(basis, vectors[:1000])[:, -1])
        print(
            f"{len(vectors)} rows of {vectors.shape[1]}: bounds in {took:.1f} s, median residual length {residual:.3f}"
        )
    return LocalGallery(folder)


def measure(vectors: Descriptors, queries: Descriptors, folder: Path, repetitions: int) -> None:
    """Print one line per number of queries and way to search."""
    gallery = fill(folder, vectors)
    opened_s = elapsed_s(lambda: LocalGallery(folder).close())
    # The store holds float16. NumPy gets the same numbers, so that the answers can be equal.
    array = vectors.astype(np.float16).astype(np.float32)
    with gallery:
        first_s = elapsed_s(lambda: gallery.search(queries[:1], TOP_K))
        print(f"opened in {opened_s * 1000:.0f} ms, first search {first_s * 1000:.0f} ms")
        for count in (1, 64):
            asked = queries[:count]
            timings = interleave(ways(gallery, array, asked), repetitions=repetitions)
            base = timings[NUMPY].median
            for name, timing in timings.items():
                note = verdict(gallery, array, asked) if name == EXACT else ""
                figures = (f"{timing.median * 1000:.1f}", f"{timing.spread:.0%}", f"{timing.median / base:.2f}")
                print(table_row((len(vectors), count, name, *figures, note)), flush=True)


def ways(gallery: LocalGallery, array: Descriptors, asked: Descriptors) -> dict[str, Callable[[], object]]:
    """Return the searches to time, by name; faiss only if it is installed."""
    found: dict[str, Callable[[], object]] = {
        NUMPY: partial(numpy_search, array, asked),
        EXACT: partial(gallery.search, asked, TOP_K),
    }
    if importlib.util.find_spec("faiss") is not None:
        import faiss

        flat = faiss.IndexFlatIP(array.shape[1])
        flat.add(array)
        found["faiss IndexFlatIP"] = partial(flat.search, asked, TOP_K)
    return found


def verdict(gallery: LocalGallery, array: Descriptors, asked: Descriptors) -> str:
    """Say how the exact search found its rows, and whether they equal NumPy's."""
    found = gallery.search(asked, TOP_K)
    pairs = zip(found.hits, numpy_search(array, asked).tolist(), strict=True)
    same = all({hit.row.slot for hit in hits} == set(best) for hits, best in pairs)
    scored = f"{found.rescored / len(asked):.0f} rows scored per query"
    return f"{found.mode}, {scored}, answers {'equal' if same else 'DIFFER'}"


def main() -> None:
    """Measure and print Markdown rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("descriptors", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--random", action="store_true", help="independent rows of 3840 values")
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    if arguments.random == (arguments.descriptors is not None):
        parser.error("give either descriptors or --random")
    print(f"{processor_name()}\n| rows | queries | way | ms | spread | of NumPy | |\n|---|---|---|---|---|---|---|")
    for rows in arguments.rows:
        if arguments.random:
            vectors, queries = independent(rows, 3840, 1), independent(64, 3840, 2)
        else:
            with np.load(arguments.descriptors) as stored:
                source, persons = stored["descriptors"], stored["persons"]
            vectors, queries = spread(source, persons, rows, 1), spread(source, persons, 64, 2)
        with tempfile.TemporaryDirectory() as folder:
            measure(vectors, queries, Path(folder) / "index", arguments.repetitions)


if __name__ == "__main__":
    watched(main)
