"""Exact search in the local store: by a scan, or in two passes with the same answer.

The *scan* computes every product, in blocks. The *two passes* bound every cosine first, then compute the products of
the rows whose bound reaches the last hit. If the bounds would leave too many rows, the query is scanned. Proof and
measurements: ``docs/decisions/two-pass-search.md``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryRow, Hit
from rrid_edge.gallery.local.bounded import BoundedSearch, without_infinite
from rrid_edge.gallery.local.intact import IntactRows
from rrid_edge.gallery.local.view import View
from rrid_edge.gallery.shared import ROUNDING, exact_scores, row_order

_FEWEST_ROWS = 512
"""Fewer rows that pass a filter are scored at once."""
_LARGEST_SHARE = 8
"""Up to one row in 8 is scored row by row; more are scanned."""


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
    view: View, queries: NDArray[np.float32], allowed: NDArray[np.bool_], top_k: int
) -> list[Candidates]:
    """Candidates for the best ``top_k`` rows of each query.

    Args:
        view: the rows.
        queries: float32 (Q, D), unit length.
        allowed: bool (rows,): which of ``view.slots`` may answer.
        top_k: hits per query.
    """
    slots = view.slots if allowed.all() else view.slots[allowed]
    intact = IntactRows(view)
    chosen: dict[int, Candidates] = {}
    if view.bounds is not None and len(slots) > max(_FEWEST_ROWS, top_k):
        for index, scored in BoundedSearch(view, view.bounds, slots, intact, top_k).search(queries):
            best = _intact_candidates(intact, scored.slots, scored.scores, top_k)
            chosen[index] = Candidates(best, len(scored.slots), "two-pass")
    remaining = [index for index in range(len(queries)) if index not in chosen]
    for index, scores in zip(remaining, _scan(view, queries[remaining], slots), strict=True):
        chosen[index] = Candidates(_intact_candidates(intact, slots, scores, top_k), len(slots), "scan")
    return [chosen[index] for index in range(len(queries))]


def _scan(
    view: View, queries: NDArray[np.float32], slots: NDArray[np.int64]
) -> Sequence[NDArray[np.float32]] | NDArray[np.float32]:
    """Scores of some slots: float32 (N,) per query; minus infinity for damaged rows that are not finite."""
    if not len(queries):
        return []
    rows = len(view.vectors.stored)
    if len(slots) * _LARGEST_SHARE <= rows:
        scores = view.vectors.products_at(queries, slots)
    else:
        scores = view.vectors.products(queries)
    without_infinite(scores)
    return scores if scores.shape[1] == len(slots) else scores[:, slots]


def _intact_candidates(
    intact: IntactRows, slots: NDArray[np.int64], scores: NDArray[np.float32], top_k: int
) -> NDArray[np.int64]:
    """Slots of candidates whose vectors match their checksums.

    Args:
        intact: checks rows.
        slots: int64 (N,).
        scores: float32 (N,), of ``slots``.
        top_k: hits.
    """
    while True:
        chosen = _best(scores, top_k)
        is_intact = intact.check(slots[chosen])
        if is_intact.all():
            best: NDArray[np.int64] = slots[chosen]
            return best
        kept = np.ones(len(slots), np.bool_)
        kept[chosen[~is_intact]] = False
        slots, scores = slots[kept], scores[kept]


def _best(scores: NDArray[np.float32], top_k: int) -> NDArray[np.int64]:
    """Positions of scores (N,) that may be among the best ``top_k``, ties and rounding included: int64 (N,)."""
    if len(scores) <= top_k:
        return np.arange(len(scores))
    last = len(scores) - top_k
    return np.flatnonzero(scores >= np.partition(scores, last)[last] - 2 * ROUNDING)


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
