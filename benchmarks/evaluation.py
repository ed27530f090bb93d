"""Evaluation at Market-1501's size against the distance matrix and its sort alone, in one run.

Run: python benchmarks/evaluation.py [--queries 3368 --gallery 15913 --dimension 3840]
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np
from numpy.typing import NDArray

from rrid_edge.metrics import PROTOCOLS, RankingSettings, evaluate_descriptors


def unit_vectors(random: np.random.Generator, pids: NDArray[np.int64], dimension: int) -> NDArray[np.float32]:
    """Unit descriptors whose identities form loose clusters (cosine about 0.4 within, 0.0 between)."""
    centres = random.standard_normal((int(pids.max()) + 1, dimension), dtype=np.float32)
    vectors = random.standard_normal((len(pids), dimension), dtype=np.float32)
    vectors *= np.float32(1.2)
    vectors += centres[pids]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def peak_mib() -> float:
    """Largest resident size of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print the times, their ratio and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=15913)
    parser.add_argument("--dimension", type=int, default=3840)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    query_pids, gallery_pids = random.integers(1, 751, options.queries), random.integers(0, 751, options.gallery)
    query_cams, gallery_cams = random.integers(1, 7, options.queries), random.integers(1, 7, options.gallery)
    query = unit_vectors(random, query_pids, options.dimension)
    gallery = unit_vectors(random, gallery_pids, options.dimension)
    before = peak_mib()
    times = {}
    for protocol in PROTOCOLS:
        start = time.perf_counter()
        metrics = evaluate_descriptors(
            query, gallery, query_pids, gallery_pids, query_cams, gallery_cams, RankingSettings(protocol=protocol)
        )
        times[protocol] = time.perf_counter() - start
        print(f"{protocol}: {times[protocol]:.2f} s (mAP {metrics.mean_ap:.4f}, CMC {metrics.cmc})")
    print(f"memory beyond the descriptors: {peak_mib() - before:.0f} MiB")
    start = time.perf_counter()
    distances = query @ gallery.T
    np.subtract(2, 2 * distances, out=distances)
    product = time.perf_counter() - start
    start = time.perf_counter()
    np.sort(distances, axis=1)
    by_value = product + time.perf_counter() - start
    start = time.perf_counter()
    np.argsort(distances, axis=1)
    by_index = product + time.perf_counter() - start
    print(f"distance matrix {product:.2f} s; with its sort {by_value:.2f} s (values), {by_index:.2f} s (indices)")
    for protocol, seconds in times.items():
        print(
            f"{protocol}: {seconds / by_value:.2f}x of matrix and value sort, {seconds / by_index:.2f}x of index sort"
        )


if __name__ == "__main__":
    main()
