"""Latency of searches in local galleries of several sizes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.bench.ceilings import Ceilings
from rrid_edge.bench.results import SearchRow
from rrid_edge.gallery.base import NewRow
from rrid_edge.gallery.local.store import LocalGallery
from rrid_edge.machine.timing import Quiet, interleave
from rrid_edge.model.spec import ModelSpec
from rrid_edge.parity.goldens import Goldens

_CHUNK = 4096
_STORED_BYTES = 2
"""Bytes of a value in a gallery: float16."""


@dataclass(frozen=True)
class SearchCalls:
    """How to time searches, and what to compare them with.

    Attributes:
        repetitions: fewest timed calls.
        quiet: how to get measurements that other programs do not disturb.
        ceilings: the machine's limits.
    """

    repetitions: int
    quiet: Quiet
    ceilings: Ceilings


def spread_descriptors(real: NDArray[np.float32], count: int, *, seed: int = 0) -> NDArray[np.float32]:
    """Make unit descriptors, float32 (count, D): mixtures of two rows of ``real``, (N, D), with a little noise."""
    generator = np.random.default_rng(seed)
    one, two = generator.integers(0, len(real), (2, count))
    share = generator.uniform(0.6, 1, (count, 1)).astype(np.float32)
    noise = generator.standard_normal((count, real.shape[1])).astype(np.float32) / np.float32(np.sqrt(real.shape[1]))
    values = share * real[one] + (1 - share) * real[two] + np.float32(0.2) * noise
    unit: NDArray[np.float32] = values / np.linalg.norm(values, axis=1, keepdims=True)
    return unit


def measure_search(
    spec: ModelSpec, goldens: Goldens, folder: Path, *, sizes: Sequence[int], calls: SearchCalls
) -> list[SearchRow]:
    """Measure searches with 1 and with 64 queries; returns one row per gallery size and number of queries."""
    rows: list[SearchRow] = []
    for size in sizes:
        location = folder / f"gallery-{size}"
        with LocalGallery.create(location, spec) as gallery:
            for start in range(0, size, _CHUNK):
                count = min(_CHUNK, size - start)
                names = [NewRow(f"{start + index:08d}.jpg", "0" * 64, 1, 1) for index in range(count)]
                gallery.add(names, spread_descriptors(goldens.descriptors, count, seed=start))
        rows += [
            _measure(location, spread_descriptors(goldens.descriptors, queries, seed=1), size, calls)
            for queries in (1, 64)
        ]
    return rows


def _measure(location: Path, queries: NDArray[np.float32], size: int, calls: SearchCalls) -> SearchRow:
    start = time.perf_counter()
    with LocalGallery(location) as gallery:
        open_ms = (time.perf_counter() - start) * 1000
        result = gallery.search(queries, 10)
        ways = {"search": lambda: gallery.search(queries, 10)}
        timing = interleave(ways, repetitions=calls.repetitions, quiet=calls.quiet)["search"]
    values, limit = size * queries.shape[1], calls.ceilings.compute.get("fp32")
    reading_s = values * _STORED_BYTES / calls.ceilings.memory_bytes_per_s
    products_s = 2 * len(queries) * values / limit.operations_per_s if limit else None
    return SearchRow(
        rows=size,
        queries=len(queries),
        open_ms=open_ms,
        search_p50_ms=timing.percentile_ms(50),
        search_p90_ms=timing.percentile_ms(90),
        mode=result.mode,
        rescored=result.rescored,
        of_reading=timing.median / reading_s,
        of_products=products_s and timing.median / products_s,
        foreign_cpu=timing.foreign_cpu,
    )
