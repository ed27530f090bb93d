"""Compare search in a local gallery with NumPy: a float32 product and top-k over an array in memory.

Both must give the same exact answer. The descriptors come from a trained network (``rrid-edge gallery export FOLDER
descriptors.npz``). More rows are drawn from them. Each row mixes two crops of one person at random and is pulled a
little towards another person. It then gets noise with the crops' own covariance, and unit length. Queries are drawn in
the same way and are not in the gallery. ``--lift 3840`` turns rows of fewer values into rows of that many: each block
is mapped by a random orthonormal matrix, and every row gets independent noise of length 0.09. So rows of 960 values
keep their cosines, and the residuals are about as long as those of a trained network of 3840 values. ``--random`` draws
independent normal rows instead, which no bound can prune. ``--against TREE`` also times the package of another source
tree, in turn with this one. An array in a file DESCRIPTORS.npy is taken as it is; its last 64 rows are the queries.

Run: python benchmarks/gallery_search.py descriptors.npz --rows 20000 100000
"""

from __future__ import annotations

import argparse
import importlib.util
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
from numpy.typing import NDArray

from common import Descriptors, independent, table_row, unit, watched
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.machine.foreign_cpu import Repeats, in_words, quietest
from rrid_edge.machine.processor import processor_name
from search_trees import TOP_K, Tree, timed

NUMPY, EXACT = "NumPy, float32 in memory", "gallery, exact"
_ROUNDS = 3
_PAUSE_S = 0.4
"""Between turns: OpenBLAS's threads keep their cores busy for a while after a product."""


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


def lift(rows: Descriptors, dimension: int, seed: int) -> Descriptors:
    """Map rows (N, D) of 15 blocks to ``dimension`` values, and add independent noise of length 0.09."""
    fixed, generator = np.random.default_rng(9), np.random.default_rng(seed)
    width, wide = rows.shape[1] // 15, dimension // 15
    result = np.empty((len(rows), dimension), np.float32)
    for block in range(15):
        basis = np.linalg.qr(fixed.standard_normal((wide, width)))[0].astype(np.float32)
        result[:, block * wide : (block + 1) * wide] = rows[:, block * width : (block + 1) * width] @ basis.T
    for start in range(0, len(rows), 4096):
        part = result[start : start + 4096]
        part += generator.standard_normal(part.shape, dtype=np.float32) * np.float32(0.09 / np.sqrt(dimension))
    return unit(result)


def numpy_search(gallery: Descriptors, queries: Descriptors) -> NDArray[np.int64]:
    """Return the first :data:`TOP_K` rows of every query, by product and partition."""
    scores = queries @ gallery.T
    best = np.argpartition(-scores, TOP_K, axis=1)[:, :TOP_K]
    order = np.argsort(-np.take_along_axis(scores, best, axis=1), axis=1)
    return np.take_along_axis(best, order, axis=1)


@dataclass(frozen=True)
class Plan:
    """What to measure.

    Attributes:
        repetitions: searches per way.
        against: source tree of another version, or None.
        counts: numbers of queries.
    """

    repetitions: int
    against: Path | None
    counts: tuple[int, ...]


def measure(vectors: Descriptors, queries: Descriptors, folder: Path, plan: Plan) -> None:
    """Print one line per number of queries and way to search."""
    files = folder / "vectors.npy", folder / "queries.npy"
    np.save(files[0], vectors.astype(np.float16))
    np.save(files[1], queries)
    roots = {EXACT: Path(__file__).parents[1]} | ({} if plan.against is None else {f"{EXACT}, other": plan.against})
    began = time.perf_counter()
    trees = {name: Tree(root, folder / f"index{number}", *files) for number, (name, root) in enumerate(roots.items())}
    print(f"{len(vectors)} rows of {vectors.shape[1]}: galleries made in {time.perf_counter() - began:.1f} s")
    # The store holds float16. NumPy gets the same numbers, so that the answers can be equal.
    vectors[:] = vectors.astype(np.float16)
    with LocalGallery(folder / "index0") as gallery:
        for count in plan.counts:
            found, share = quietest(partial(rounds, ways(trees, vectors, queries, count), plan), Repeats(2))
            base = median(found[NUMPY])
            for name, seconds in found.items():
                note = verdict(gallery, vectors, queries[:count]) if name == EXACT else ""
                cells = f"{median(seconds) * 1000:.1f}", f"{min(seconds) * 1000:.1f}", f"{median(seconds) / base:.2f}"
                print(table_row((len(vectors), count, name, *cells, in_words(share), note)), flush=True)
    for tree in trees.values():
        tree.close()


def rounds(searches: dict[str, Callable[[int], list[float]]], plan: Plan) -> dict[str, list[float]]:
    """Return the seconds of each way's searches; the ways take turns."""
    seconds: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(_ROUNDS):
        for name, search in searches.items():
            time.sleep(_PAUSE_S)
            seconds[name] += search(plan.repetitions)
    return seconds


def ways(
    trees: dict[str, Tree], array: Descriptors, queries: Descriptors, count: int
) -> dict[str, Callable[[int], list[float]]]:
    """Return the searches to time, by name: each returns the seconds of so many searches. faiss if it is installed."""

    def numpy_way(repetitions: int) -> list[float]:
        return timed(lambda asked: numpy_search(array, asked), queries, count, repetitions)

    found: dict[str, Callable[[int], list[float]]] = {NUMPY: numpy_way}
    found |= {name: partial(tree.search, count) for name, tree in trees.items()}
    if importlib.util.find_spec("faiss") is not None:
        import faiss

        flat = faiss.IndexFlatIP(array.shape[1])
        flat.add(array)
        found["faiss IndexFlatIP"] = lambda repetitions: timed(
            lambda asked: flat.search(asked, TOP_K), queries, count, repetitions
        )
    return found


def verdict(gallery: LocalGallery, array: Descriptors, asked: Descriptors) -> str:
    """Say how the exact search found its rows, and whether they equal NumPy's."""
    found = gallery.search(asked, TOP_K)
    pairs = zip(found.hits, numpy_search(array, asked).tolist(), strict=True)
    same = all({hit.row.slot for hit in hits} == set(best) for hits, best in pairs)
    scored = f"{found.rescored / len(asked):.0f} rows scored per query"
    return f"{found.mode}, {scored}, answers {'equal' if same else 'DIFFER'}"


def drawn(arguments: argparse.Namespace, rows: int) -> tuple[Descriptors, Descriptors]:
    """Return the gallery's rows and 64 queries."""
    if arguments.random:
        return independent(rows, arguments.values, 1), independent(64, arguments.values, 2)
    if arguments.descriptors.suffix == ".npy":
        stored = np.load(arguments.descriptors, mmap_mode="r")
        return unit(stored[:rows].astype(np.float32)), unit(stored[-64:].astype(np.float32))
    with np.load(arguments.descriptors) as found:
        source, persons = found["descriptors"].astype(np.float32), found["persons"]
    vectors, queries = (spread(source, persons, count, seed) for count, seed in ((rows, 1), (64, 2)))
    if arguments.lift:
        vectors, queries = lift(vectors, arguments.lift, 3), lift(queries, arguments.lift, 4)
    return vectors, queries


def main() -> None:
    """Measure and print Markdown rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("descriptors", type=Path, nargs="?")
    parser.add_argument("--rows", type=int, nargs="+", default=[20_000, 100_000])
    parser.add_argument("--random", action="store_true", help="independent rows of 3840 values")
    parser.add_argument("--lift", type=int, help="values per row to lift the descriptors to")
    parser.add_argument("--values", type=int, default=3840, help="values per row with --random")
    parser.add_argument("--against", type=Path, help="root of another source tree to compare with")
    parser.add_argument("--counts", type=int, nargs="+", default=[1, 8, 64], help="numbers of queries")
    parser.add_argument("--repetitions", type=int, default=9)
    arguments = parser.parse_args()
    if arguments.random == (arguments.descriptors is not None):
        parser.error("give either descriptors or --random")
    print(f"{processor_name()}\n| rows | queries | way | ms | fastest | of NumPy | foreign CPU | |")
    print("|---|---|---|---|---|---|---|---|")
    for rows in arguments.rows:
        vectors, queries = drawn(arguments, rows)
        with tempfile.TemporaryDirectory() as folder:
            plan = Plan(arguments.repetitions, arguments.against, tuple(arguments.counts))
            measure(vectors, queries, Path(folder), plan)


if __name__ == "__main__":
    watched(main)
