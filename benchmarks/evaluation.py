"""Compare the time of an evaluation at Market-1501's size with that of the distance matrix and its sort alone.

Run: python benchmarks/evaluation.py [--queries 3368 --gallery 15913 --dimension 3840]
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from common import Descriptors, DrawnPersons, elapsed_s, traced_mib, watched
from rrid_edge.ranking.labels import LabelledCrops, Labels
from rrid_edge.ranking.metrics import PROTOCOLS, RankingSettings, evaluate_descriptors

_PERSONS, _CAMERAS = 751, 6


def draw_labels(random: np.random.Generator, count: int, first: int) -> Labels:
    """Draw ``count`` labels: persons from ``first`` on, cameras from 1 on."""
    return Labels(random.integers(first, _PERSONS, count), random.integers(1, _CAMERAS + 1, count))


def matrix_and_sorts(query: Descriptors, gallery: Descriptors) -> tuple[float, float, float]:
    """Return the seconds of the distance matrix alone, with a sort of its values, and with a sort of its indices."""
    start = time.perf_counter()
    distances = query @ gallery.T
    np.subtract(2, 2 * distances, out=distances)
    product = time.perf_counter() - start
    values = elapsed_s(lambda: np.sort(distances, axis=1))
    indices = elapsed_s(lambda: np.argsort(distances, axis=1))
    return product, product + values, product + indices


def main() -> None:
    """Print the times, their ratio and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--queries", type=int, default=3368)
    parser.add_argument("--gallery", type=int, default=15913)
    parser.add_argument("--dimension", type=int, default=3840)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    query_labels = draw_labels(random, options.queries, 1)
    gallery_labels = draw_labels(random, options.gallery, 0)  # person 0 is a distractor
    drawn = DrawnPersons.draw(_PERSONS, options.dimension, spread=2)
    query, gallery = drawn.descriptors(query_labels.persons, 1), drawn.descriptors(gallery_labels.persons, 2)
    sides = LabelledCrops(query, query_labels), LabelledCrops(gallery, gallery_labels)
    times = {}
    for protocol in PROTOCOLS:
        start = time.perf_counter()
        metrics = evaluate_descriptors(*sides, RankingSettings(protocol=protocol))
        times[protocol] = time.perf_counter() - start
        print(f"{protocol}: {times[protocol]:.2f} s (mAP {metrics.mean_ap:.4f}, CMC {metrics.cmc})")
    mib = traced_mib(lambda: evaluate_descriptors(*sides))
    print(f"memory beyond the descriptors: {mib:.0f} MiB")
    product, by_value, by_index = matrix_and_sorts(query, gallery)
    print(f"distance matrix {product:.2f} s; with its sort {by_value:.2f} s (values), {by_index:.2f} s (indices)")
    for protocol, seconds in times.items():
        shares = f"{seconds / by_value:.2f}x of matrix and value sort, {seconds / by_index:.2f}x of index sort"
        print(f"{protocol}: {shares}")


if __name__ == "__main__":
    watched(main)
