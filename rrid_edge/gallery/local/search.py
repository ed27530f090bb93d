"""Exact search: the rows of highest cosine in an order that is the same everywhere, by a scan or in two passes.

The *scan* computes every product, blockwise. The *two passes* need a projection: the first bounds every cosine from above,
the best rows by that bound are scored, and then every row whose bound reaches the last hit so far. No row with a lower
bound can be among the best, so the answer is that of the scan. Where the bound leaves too many rows, the scan is faster,
and is made instead.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryRow, Hit
from rrid_edge.gallery.local.projection import SLACK
from rrid_edge.gallery.local.view import BLOCK_ROWS, View
from rrid_edge.gallery.shared import ROUNDING, candidates, exact_scores

TWO_PASS_ROWS = 10_000
"""Slots from which on bounds pay."""
FAST_ROWS = 200
"""Rows that a fast search scores exactly for each query."""
_FIRST_ROWS = 64
_WORTH_IT = 8
"""Two passes are given up where more than one in so many rows would have to be scored."""
_TRIAL = 4
"""Queries that are tried first: where none of them is helped by bounds, the others are scanned at once."""
_BOUNDS_AT_ONCE = 1 << 24
"""Bounds computed at once, over all queries: 64 MB."""


@dataclass(frozen=True)
class Found:
    """What may be among the best rows of one query.

    Attributes:
        slots: int64 (N,): all rows that may be among the best, ties and rounding included.
        rescored: rows whose product was computed.
        mode: ``scan``, ``two-pass`` or ``fast``.
    """

    slots: NDArray[np.int64]
    rescored: int
    mode: str


def find(
    view: View,
    queries: NDArray[np.float32],
    allowed: NDArray[np.bool_],
    top_k: int,
    *,
    fast: bool = False,
) -> list[Found]:
    """Candidates for the best ``top_k`` rows of every query.

    Args:
        view: the rows.
        queries: float32 (Q, D), unit length.
        allowed: bool (rows,): which of ``view.slots`` may answer.
        top_k: hits asked for.
        fast: score :data:`FAST_ROWS` rows of the best estimates only; a row may be missed.
    """
    slots = view.slots[allowed]
    answers: dict[int, Found] = {}
    if view.projection is not None and len(slots) > max(_WORTH_IT * _FIRST_ROWS, top_k):
        compute = view.projection.estimates if fast else view.projection.bounds
        for part in _parts(len(queries), len(view.projection.rows)):
            if part.start >= _TRIAL and not answers:
                break  # bounds say nothing of these queries, so they will say nothing of the others
            bounds = _for_slots(compute(queries[part]), slots)
            for index, (query, own) in enumerate(zip(queries[part], bounds, strict=True), part.start):
                found = _fast(view, query, own, slots, top_k) if fast else _two_pass(view, query, own, slots, top_k)
                if found is not None:
                    answers[index] = found
    left = [index for index in range(len(queries)) if index not in answers]
    if left:
        scores = view.vectors.products(queries[left])
        np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
        for index, own in zip(left, scores, strict=True):
            answers[index] = _scanned(view, own, slots, top_k)
    return [answers[index] for index in range(len(queries))]


def _parts(queries: int, rows: int) -> Iterator[slice]:
    """Queries whose bounds are computed at once: a few for a trial, then as many as memory allows."""
    size = max(1, _BOUNDS_AT_ONCE // max(1, rows))
    start, stop = 0, min(_TRIAL, size, queries)
    while start < queries:
        yield slice(start, stop)
        start, stop = stop, min(stop + size, queries)


def _for_slots(bounds: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
    """Bounds of some slots; those that are not projected yet have none: infinity."""
    known = bounds.shape[1]
    if len(slots) == known and slots[-1] == known - 1:  # distinct and ascending, so all of them in order
        return bounds
    split = int(np.searchsorted(slots, known))
    result = np.full((len(bounds), len(slots)), np.inf, np.float32)
    result[:, :split] = bounds[:, slots[:split]]
    return result


def _two_pass(
    view: View, query: NDArray[np.float32], bounds: NDArray[np.float32], slots: NDArray[np.int64], top_k: int
) -> Found | None:
    """Candidates by bounds, or None where too many rows would have to be scored."""
    first, scores = _score_best(view, query, bounds, slots, max(_FIRST_ROWS, 4 * top_k))
    last_score = _last_score(view, slots, scores, first, top_k)
    rest = np.flatnonzero(bounds >= last_score - SLACK)
    rest = rest[np.isneginf(scores[rest])]
    if len(rest) * _WORTH_IT > len(slots):
        return None
    for start in range(0, len(rest), BLOCK_ROWS):
        part = rest[start : start + BLOCK_ROWS]
        scores[part] = _products(view, query, slots[part])
    looked_at = np.concatenate([first, rest])
    chosen = _sound_candidates(view, slots, scores, looked_at, top_k)
    return Found(slots[chosen], len(looked_at), "two-pass")


def _fast(
    view: View, query: NDArray[np.float32], estimates: NDArray[np.float32], slots: NDArray[np.int64], top_k: int
) -> Found:
    """Candidates among the rows of the best estimates."""
    near, scores = _score_best(view, query, estimates, slots, max(FAST_ROWS, 2 * top_k))
    chosen = _sound_candidates(view, slots, scores, near, top_k)
    return Found(slots[chosen], len(near), "fast")


def _scanned(view: View, scores: NDArray[np.float32], slots: NDArray[np.int64], top_k: int) -> Found:
    own = scores[slots]
    chosen = _sound_candidates(view, slots, own, np.arange(len(slots)), top_k)
    return Found(slots[chosen], len(slots), "scan")


def _score_best(
    view: View, query: NDArray[np.float32], promise: NDArray[np.float32], slots: NDArray[np.int64], count: int
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Positions of the ``count`` rows of highest ``promise``, and scores of all positions: minus infinity but for these."""
    count = min(len(slots), count)
    positions = np.argpartition(-promise, count - 1)[:count]
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
    """The ``top_k``-th best score of sound rows among ``first``, or minus infinity."""
    sound = 0
    for position in first[np.argsort(-scores[first], kind="stable")].tolist():
        sound += view.is_sound(int(slots[position]))
        if sound == top_k:
            return float(scores[position] - 2 * ROUNDING)
    return float(-np.inf)


def _sound_candidates(
    view: View,
    slots: NDArray[np.int64],
    scores: NDArray[np.float32],
    positions: NDArray[np.int64],
    top_k: int,
) -> NDArray[np.int64]:
    """Candidates out of ``positions`` whose vectors fit their checksums."""
    while True:
        chosen = candidates(scores, positions, top_k)
        damaged = [position for position in chosen.tolist() if not view.is_sound(int(slots[position]))]
        if not damaged:
            return chosen
        positions = np.setdiff1d(positions, np.array(damaged, np.int64))


def best(
    view: View, query: NDArray[np.float32], found: Found, by_slot: dict[int, GalleryRow], top_k: int
) -> tuple[Hit, ...]:
    """The best ``top_k`` of the candidates by their exact scores, ties by path.

    Args:
        view: the rows.
        query: float32 (D,), unit length.
        found: the candidates.
        by_slot: what the catalogue says of them.
        top_k: hits.
    """
    slots = found.slots.tolist()
    scores = exact_scores(query, view.vectors.take(found.slots)) if slots else np.empty(0, np.float32)
    hits = [Hit(by_slot[slot], float(score)) for slot, score in zip(slots, scores, strict=True)]
    hits.sort(key=lambda hit: (-hit.score, os.fsencode(hit.row.path)))
    return tuple(hits[:top_k])
