"""Exact search in the local store: by a scan, or in two passes with the same answer.

The *scan* computes every product, in blocks. The *two passes* compute an upper bound of every cosine first, then only
the products of rows whose bound reaches the last hit. If the bounds leave too many rows, the query is scanned. Proof
and measurements: ``docs/decisions/two-pass-search.md``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryRow, Hit
from rrid_edge.gallery.local.projection import SLACK
from rrid_edge.gallery.local.view import BLOCK_ROWS, View
from rrid_edge.gallery.shared import ROUNDING, candidates, exact_scores, row_order

_FIRST_ROWS = 64
_LARGEST_SHARE = 8
"""A query is scanned if more than one in 8 rows would have to be scored."""
_TRIAL_QUERIES = 4
"""If bounds help none of the first 4 queries, all others are scanned."""
_BOUNDS_PER_BATCH = 1 << 24
"""Bounds in memory at the same time, over all queries: 64 MB."""


@dataclass(frozen=True)
class Candidates:
    """Rows that may be among the best of one query.

    Attributes:
        slots: int64 (N,): ties and rounding included.
        rescored: rows whose product was computed.
        mode: ``scan`` or ``two-pass``.
    """

    slots: NDArray[np.int64]
    rescored: int
    mode: str


def find_candidates(
    view: View,
    queries: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    top_k: int,
) -> list[Candidates]:
    """Candidates for the best ``top_k`` rows of each query.

    Args:
        view: the rows.
        queries: float32 (Q, D), unit length.
        allowed: bool (rows,): which of ``view.slots`` may answer.
        top_k: hits per query.
    """
    slots = view.slots[allowed]
    chosen: dict[int, Candidates] = {}
    if view.projection is not None and len(slots) > max(_LARGEST_SHARE * _FIRST_ROWS, top_k):
        for batch in _query_batches(len(queries), len(view.projection.rows)):
            if batch.start >= _TRIAL_QUERIES and not chosen:
                break
            bounds = _bounds_of_slots(view.projection.bounds(queries[batch]), slots)
            for index, (query, row_bounds) in enumerate(zip(queries[batch], bounds, strict=True), batch.start):
                result = _two_pass(view, query, row_bounds, slots, top_k)
                if result is not None:
                    chosen[index] = result
    remaining = [index for index in range(len(queries)) if index not in chosen]
    if remaining:
        scores = view.vectors.products(queries[remaining])
        np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
        for index, slot_scores in zip(remaining, scores, strict=True):
            chosen[index] = _scanned(view, slot_scores, slots, top_k)
    return [chosen[index] for index in range(len(queries))]


def _query_batches(queries: int, rows: int) -> Iterator[slice]:
    """Queries whose bounds are in memory together: a few trial queries first, then as many as memory allows."""
    size = max(1, _BOUNDS_PER_BATCH // max(1, rows))
    start, stop = 0, min(_TRIAL_QUERIES, size, queries)
    while start < queries:
        yield slice(start, stop)
        start, stop = stop, min(stop + size, queries)


def _bounds_of_slots(bounds: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
    """Bounds of some slots: float32 (Q, len(slots)). Slots that are not projected yet get infinity."""
    known = bounds.shape[1]
    if len(slots) == known and slots[-1] == known - 1:  # slots are distinct and ascending, so these are all of them
        return bounds
    split = int(np.searchsorted(slots, known))
    result = np.full((len(bounds), len(slots)), np.inf, np.float32)
    result[:, :split] = bounds[:, slots[:split]]
    return result


def _two_pass(
    view: View, query: NDArray[np.float32], bounds: NDArray[np.float32], slots: NDArray[np.int64], top_k: int
) -> Candidates | None:
    """Candidates by bounds; None if too many rows would have to be scored."""
    first, scores = _score_best(view, query, bounds, slots, max(_FIRST_ROWS, 4 * top_k))
    last_score = _last_score(view, slots, scores, first, top_k)
    second = np.flatnonzero(bounds >= last_score - SLACK)
    second = second[np.isneginf(scores[second])]
    if len(second) * _LARGEST_SHARE > len(slots):
        return None
    for start in range(0, len(second), BLOCK_ROWS):
        block = second[start : start + BLOCK_ROWS]
        scores[block] = _products(view, query, slots[block])
    scored = np.concatenate([first, second])
    chosen = _intact_candidates(view, slots, scores, scored, top_k)
    return Candidates(slots[chosen], len(scored), "two-pass")


def _scanned(view: View, scores: NDArray[np.float32], slots: NDArray[np.int64], top_k: int) -> Candidates:
    """Candidates from the scores of all slots of the vector file."""
    chosen = _intact_candidates(view, slots, scores[slots], np.arange(len(slots)), top_k)
    return Candidates(slots[chosen], len(slots), "scan")


def _score_best(
    view: View, query: NDArray[np.float32], estimates: NDArray[np.float32], slots: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Score the ``count`` rows of highest estimate.

    Returns:
        Their positions in ``slots``, and the scores of all positions: minus infinity if not scored.
    """
    count = min(len(slots), count)
    positions = np.argpartition(-estimates, count - 1)[:count]
    scores = np.full(len(slots), -np.inf, np.float32)
    scores[positions] = _products(view, query, slots[positions])
    return positions, scores


def _products(view: View, query: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
    products: NDArray[np.float32] = view.vectors.take(slots) @ query
    return np.nan_to_num(products, copy=False, nan=-np.inf, posinf=-np.inf, neginf=-np.inf)


def _last_score(
    view: View,
    slots: NDArray[np.int64],
    scores: NDArray[np.float32],
    first: NDArray[np.int64],
    top_k: int,
) -> float:
    """The ``top_k``-th best score among the intact rows of ``first``, lowered by rounding; or minus infinity."""
    intact = 0
    for position in first[np.argsort(-scores[first], kind="stable")].tolist():
        intact += view.is_intact(int(slots[position]))
        if intact == top_k:
            return float(scores[position] - 2 * ROUNDING)
    return float(-np.inf)


def _intact_candidates(
    view: View,
    slots: NDArray[np.int64],
    scores: NDArray[np.float32],
    positions: NDArray[np.int64],
    top_k: int,
) -> NDArray[np.int64]:
    """Candidates out of ``positions`` whose vectors match their checksums."""
    while True:
        chosen = candidates(scores, positions, top_k)
        damaged = view.damaged(slots[chosen].tolist())
        if not damaged:
            return chosen
        positions = np.setdiff1d(positions, chosen[np.isin(slots[chosen], damaged)])


def best_hits(
    view: View, query: NDArray[np.float32], chosen: Candidates, rows_by_slot: dict[int, GalleryRow], top_k: int
) -> tuple[Hit, ...]:
    """The best ``top_k`` candidates by exact score, ties by path, then id.

    Args:
        view: the rows.
        query: float32 (D,), unit length.
        chosen: the candidates.
        rows_by_slot: their rows.
        top_k: hits.
    """
    slots = chosen.slots.tolist()
    scores = exact_scores(query, view.vectors.take(chosen.slots)) if slots else np.empty(0, np.float32)
    hits = [Hit(rows_by_slot[slot], float(score)) for slot, score in zip(slots, scores, strict=True)]
    hits.sort(key=lambda hit: (-hit.score, *row_order(hit.row)))
    return tuple(hits[:top_k])
