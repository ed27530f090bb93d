"""Exact search in the local store: by a scan, or in two passes with the same answer.

The *scan* computes every product, in blocks. The *two passes* bound every cosine first, then compute the products of
the rows whose bound reaches the last hit. If the bounds would leave too many rows, the query is scanned. Proof and
measurements: ``docs/decisions/two-pass-search.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryRow, Hit
from rrid_edge.gallery.local.bounded import BoundedSearch, ScoredRows
from rrid_edge.gallery.local.copies import RowCopies
from rrid_edge.gallery.local.products import without_infinite
from rrid_edge.gallery.local.view import View
from rrid_edge.gallery.shared import ROUNDING, row_order

_FEWEST_ROWS = 512
"""Fewer rows that pass a filter are scored at once."""
_LARGEST_SHARE = 8
"""Up to one row in 8 is scored row by row; more are scanned."""


_SCORES_PER_BATCH = 1 << 25
"""Scores of a scan in memory at the same time, over all queries: 128 MB, or those of one query if they are more."""
_GROUP_ROWS = 128
"""Rows whose copies are kept together, to be scored exactly."""
_MAXIMA = 512
_WIDTH = 4
"""The last hit is found by at least 512 maxima of sets of rows, if each set has at least 4."""


@dataclass(frozen=True)
class Candidates:
    """Rows that may be among the best of one query. All match their checksums.

    Attributes:
        slots: int64 (N,): ties and rounding included.
        scores: float32 (N,): exact.
        rescored: rows whose product was computed.
        mode: ``scan`` or ``two-pass``.
    """

    slots: NDArray[np.int64]
    scores: NDArray[np.float32]
    rescored: int
    mode: str


def find_candidates(
    view: View, queries: NDArray[np.float32], allowed: NDArray[np.bool_], top_k: int
) -> list[Candidates]:
    """Candidates for the best ``top_k`` rows of each query.

    Args:
        view: the rows.
        queries: float32 (Q, D), unit length.
        allowed: bool (rows,): which of ``view.slots`` may answer.
        top_k: hits per query.
    """
    copies = RowCopies(view)
    try:
        return _found(view, queries, allowed, copies, top_k)
    finally:
        copies.end()


def _found(
    view: View, queries: NDArray[np.float32], allowed: NDArray[np.bool_], copies: RowCopies, top_k: int
) -> list[Candidates]:
    slots = view.slots if allowed.all() else view.slots[allowed]
    chosen: dict[int, Candidates] = {}
    if view.bounds is not None and len(slots) > max(_FEWEST_ROWS, top_k):
        for scored in BoundedSearch(view, view.bounds, slots, copies, top_k).search(queries):
            best = {index: _best(one.scores, top_k) for index, one in scored.items()}
            chosen |= _candidates(copies, queries, scored, best, top_k, "two-pass")
    remaining = [index for index in range(len(queries)) if index not in chosen]
    for group in _scan(view, queries, remaining, slots, top_k):
        scored = {index: ScoredRows(slots, scores) for index, (scores, _) in group.items()}
        best = {index: positions for index, (_, positions) in group.items()}
        copies.clear()
        chosen |= _candidates(copies, queries, scored, best, top_k, "scan")
    return [chosen[index] for index in range(len(queries))]


def _scan(
    view: View, queries: NDArray[np.float32], wanted: Sequence[int], slots: NDArray[np.int64], top_k: int
) -> Iterator[dict[int, tuple[NDArray[np.float32], NDArray[np.int64]]]]:
    """Scores of some slots, float32 (N,), and positions of the best, by the query's index, for groups of queries."""
    batch = max(1, _SCORES_PER_BATCH // max(1, len(view.vectors.stored)))
    size = max(1, _GROUP_ROWS // top_k)
    for start in range(0, len(wanted), batch):
        indices = list(wanted[start : start + batch])
        scores = _scores(view, queries[indices], slots)
        found = list(zip(indices, zip(scores, _all_best(scores, top_k), strict=True), strict=True))
        for begin in range(0, len(found), size):
            yield dict(found[begin : begin + size])


def _scores(view: View, queries: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
    """Scores of some slots: float32 (Q, N); minus infinity for damaged rows that are not finite."""
    if len(slots) * _LARGEST_SHARE <= len(view.vectors.stored):
        scores = view.vectors.products_at(queries, slots)
    else:
        scores = view.vectors.products(queries)
    without_infinite(scores)
    return scores if scores.shape[1] == len(slots) else scores[:, slots]


def _candidates(
    copies: RowCopies,
    queries: NDArray[np.float32],
    scored: dict[int, ScoredRows],
    best: dict[int, NDArray[np.int64]],
    top_k: int,
    mode: str,
) -> dict[int, Candidates]:
    """The intact candidates of a group of queries, by the query's index.

    Args:
        copies: of rows of the group; others are read.
        queries: float32 (Q, D): all.
        scored: rows that may be candidates.
        best: positions of the best of them, int64 (N,), damaged rows included.
        top_k: hits.
        mode: how the rows were found.
    """
    if scored:  # all at once is faster
        copies.are_intact(np.concatenate([one.slots[best[index]] for index, one in scored.items()]))
    result = {}
    for index, one in scored.items():
        slots = _intact(copies, one, best[index], top_k)
        result[index] = Candidates(slots, copies.exact_scores(queries[index], slots), len(one.slots), mode)
    return result


def _intact(copies: RowCopies, scored: ScoredRows, positions: NDArray[np.int64], top_k: int) -> NDArray[np.int64]:
    """Slots of the best ``top_k`` intact rows: int64 (N,); ``positions`` are those of the best rows of any kind."""
    slots, scores = scored.slots, scored.scores
    while True:
        chosen = slots[positions]
        are_intact = copies.are_intact(chosen)
        if are_intact.all():
            return chosen
        kept = np.ones(len(slots), np.bool_)
        kept[positions[~are_intact]] = False
        slots, scores = slots[kept], scores[kept]
        positions = _best(scores, top_k)


def _all_best(scores: NDArray[np.float32], top_k: int) -> list[NDArray[np.int64]]:
    """:func:`_best` of many scores (Q, N), in a few passes over them."""
    sets = max(_MAXIMA, 8 * top_k)
    width = scores.shape[1] // sets
    if width < _WIDTH:
        return [_best(row, top_k) for row in scores]
    # The last hit is no worse than the top_k-th best of the maxima of disjoint sets.
    maxima = scores[:, : width * sets].reshape(len(scores), width, sets).max(axis=1)
    lowest = np.partition(maxima, sets - top_k, axis=1)[:, sets - top_k] - 2 * ROUNDING
    found = [np.flatnonzero(row >= limit) for row, limit in zip(scores, lowest, strict=True)]
    return [kept[_best(row[kept], top_k)] for row, kept in zip(scores, found, strict=True)]


def _best(scores: NDArray[np.float32], top_k: int) -> NDArray[np.int64]:
    """Positions of scores (N,) that may be among the best ``top_k``, ties and rounding included: int64 (N,)."""
    if len(scores) <= top_k:
        return np.arange(len(scores))
    last = len(scores) - top_k
    return np.flatnonzero(scores >= np.partition(scores, last)[last] - 2 * ROUNDING)


def best_hits(chosen: Candidates, rows_by_slot: dict[int, GalleryRow], top_k: int) -> tuple[Hit, ...]:
    """The best ``top_k`` candidates by exact score, ties by path, then id.

    Args:
        chosen: the candidates.
        rows_by_slot: their rows.
        top_k: hits.
    """
    pairs = zip(chosen.slots.tolist(), chosen.scores.tolist(), strict=True)
    hits = [Hit(rows_by_slot[slot], score) for slot, score in pairs]
    hits.sort(key=lambda hit: (-hit.score, *row_order(hit.row)))
    return tuple(hits[:top_k])
