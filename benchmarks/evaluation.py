"""Evaluation at Market-1501's size against the distance matrix and its sort alone, in one run.

Run: python benchmarks/evaluation.py [--queries 3368 --gallery 15913 --dimension 3840]
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from rrid_edge.ranking.metrics import PROTOCOLS, RankingSettings, evaluate_descriptors


def unit_vectors(
    random: np.random.Generator, centres: NDArray[np.float32], pids: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Unit descriptors scattered about their identity's centre: cosine about 0.2 within, 0.0 between."""
    vectors = random.standard_normal((len(pids), centres.shape[1]), dtype=np.float32)
    vectors *= np.float32(2)
    vectors += centres[pids]
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def traced_mib(call: Callable[[], object]) -> float:
    """Largest memory that NumPy and Python held at once during ``call``, beyond what they held before."""
    tracemalloc.start()
    call()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / 2**20


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
    centres = random.standard_normal((751, options.dimension), dtype=np.float32)
    query, gallery = unit_vectors(random, centres, query_pids), unit_vectors(random, centres, gallery_pids)
    labels = (query_pids, gallery_pids, query_cams, gallery_cams)
    times = {}
    for protocol in PROTOCOLS:
        start = time.perf_counter()
        metrics = evaluate_descriptors(query, gallery, *labels, RankingSettings(protocol=protocol))
        times[protocol] = time.perf_counter() - start
        print(f"{protocol}: {times[protocol]:.2f} s (mAP {metrics.mean_ap:.4f}, CMC {metrics.cmc})")
    mib = traced_mib(lambda: evaluate_descriptors(query, gallery, *labels))
    print(f"memory beyond the descriptors: {mib:.0f} MiB")
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
