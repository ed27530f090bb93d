"""Compare k-reciprocal re-ranking with a direct NumPy transcription of the paper's algorithm.

The transcription follows Zhong et al., CVPR 2017, section 3. It has the usual form: a square float32 matrix of all
distances, another of all encodings, and a loop over images. Both answers are compared before the times are printed.

Run: python benchmarks/reranking.py [--queries 2000 --gallery 6000 --dimension 3840]
"""

from __future__ import annotations

import argparse
import time

import numpy as np
from numpy.typing import NDArray

from common import Descriptors, DrawnPersons, traced_mib, watched
from rrid_edge.ranking.rerank import RerankSettings, k_reciprocal


def transcription(query: Descriptors, gallery: Descriptors, settings: RerankSettings) -> NDArray[np.float32]:
    """Run the paper's algorithm step by step and return the distances (queries, gallery)."""
    queries, everything = len(query), np.concatenate([query, gallery])
    distances = _distances(everything)
    encoding = _encodings(distances, np.argsort(distances, axis=1), settings)
    share = np.float32(settings.lambda_value)
    final: NDArray[np.float32] = (1 - share) * _jaccard(encoding, queries) + share * distances[:queries]
    return final[:, queries:]


def _distances(everything: Descriptors) -> NDArray[np.float32]:
    """Return squared Euclidean distances of all images. Each row is divided by its largest distance."""
    squared = (everything**2).sum(axis=1)
    distances: NDArray[np.float32] = squared[:, None] + squared[None, :] - 2 * everything @ everything.T
    np.maximum(distances, 0, out=distances)
    distances /= distances.max(axis=1, keepdims=True)
    return distances


def _encodings(
    distances: NDArray[np.float32], order: NDArray[np.int64], settings: RerankSettings
) -> NDArray[np.float32]:
    """Return the weights of expanded k-reciprocal neighbours, averaged over the k2 nearest images (query expansion)."""
    k1, k2, count = settings.k1, settings.k2, len(distances)
    encoding = np.zeros_like(distances)

    def reciprocal(index: int, size: int) -> NDArray[np.int64]:
        forward = order[index, : size + 1]
        mutual: NDArray[np.int64] = forward[(order[forward, : size + 1] == index).any(axis=1)]
        return mutual

    for index in range(count):
        own = reciprocal(index, k1)
        members = own
        for candidate in own:
            theirs = reciprocal(int(candidate), round(k1 / 2))
            if len(np.intersect1d(theirs, own)) > 2 / 3 * len(theirs):
                members = np.append(members, theirs)
        members = np.unique(members)
        weights = np.exp(-distances[index, members])
        encoding[index, members] = weights / weights.sum()
    if k2 == 1:
        return encoding
    averaged = np.empty_like(encoding)
    for index in range(count):
        averaged[index] = encoding[order[index, :k2]].mean(axis=0)
    return averaged


def _jaccard(encoding: NDArray[np.float32], queries: int) -> NDArray[np.float32]:
    """Return Jaccard distances (queries, all images)."""
    count = len(encoding)
    carriers = [np.flatnonzero(encoding[:, column]) for column in range(count)]
    jaccard = np.empty((queries, count), np.float32)
    for index in range(queries):
        shared = np.zeros(count, np.float32)
        for column in np.flatnonzero(encoding[index]):
            rows = carriers[column]
            shared[rows] += np.minimum(encoding[index, column], encoding[rows, column])
        jaccard[index] = 1 - shared / (2 - shared)
    return jaccard


def main() -> None:
    """Print both times, their ratio, the peak memory of both and the largest difference."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=2000)
    parser.add_argument("--gallery", type=int, default=6000)
    parser.add_argument("--dimension", type=int, default=3840)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    persons = max(2, options.gallery // 20)
    drawn = DrawnPersons.draw(persons, options.dimension, spread=2)
    query = drawn.descriptors(random.integers(0, persons, options.queries), 1)
    gallery = drawn.descriptors(random.integers(0, persons, options.gallery), 2)
    settings = RerankSettings()
    ours, direct = [], []
    for _ in range(options.repetitions):
        start = time.perf_counter()
        found = k_reciprocal(query, gallery)
        ours.append(time.perf_counter() - start)
        start = time.perf_counter()
        expected = transcription(query, gallery, settings)
        direct.append(time.perf_counter() - start)
    print(f"largest difference: {float(np.abs(found - expected).max()):.2e}")
    for name, times in (("rrid_edge.ranking.rerank.k_reciprocal", ours), ("direct transcription", direct)):
        print(f"{name}: {np.median(times):.2f} s (from {min(times):.2f} to {max(times):.2f})")
    print(f"ratio: {np.median(direct) / np.median(ours):.1f}x")
    print(f"memory beyond the descriptors: {traced_mib(lambda: k_reciprocal(query, gallery)):.0f} MiB", end=" ")
    print(f"against {traced_mib(lambda: transcription(query, gallery, settings)):.0f} MiB")


if __name__ == "__main__":
    watched(main)
