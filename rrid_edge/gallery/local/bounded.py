"""The two-pass search of one call: bounds in two levels, then products of the rows that may be hits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.local.intact import IntactRows
from rrid_edge.gallery.local.nested import NestedBounds, first_slack, second_slack
from rrid_edge.gallery.local.view import View
from rrid_edge.gallery.shared import ROUNDING

_BOUNDS_PER_BATCH = 1 << 25
"""First-level bounds in memory at the same time, over all queries: 128 MB, or those of one query if they are more."""
_TRIAL_QUERIES = 4
"""If bounds help none of the first 4 queries, all others are scanned. No bound is computed twice."""
_FIRST_ROWS = 128
"""Rows of the best first-level bounds, whose second level is computed first."""
_SPARE_ROWS = 6
"""Rows scored beside the first ``top_k`` before the last hit's score is known."""
_STRIDE = 16
_SAMPLE_PIECES = 8
_SAMPLE_BEST = 16
_SAMPLE_SECOND = 64
_WORTH = 0.6
"""The bounds are used if they are expected to take at most this share of a scan's time."""
_NO_TRIAL = 0.02
"""If bounds that help nothing cost at most this share of a scan, they are tried without a sample."""
QUERY_BYTES, _ROW = 7.5e6, 400
"""Bytes that a scan reads while the bounds of a query are begun (0.5 ms), and while a row is found by its number."""


@dataclass(frozen=True)
class ScoredRows:
    """All rows that may be among the best, and some others.

    Attributes:
        slots: int64 (N,), distinct.
        scores: float32 (N,): products; minus infinity for a damaged row that is not finite.
    """

    slots: NDArray[np.int64]
    scores: NDArray[np.float32]


class BoundedSearch:
    """Searches some slots of a gallery.

    Args:
        view: the rows.
        bounds: of the first slots. Later ones are always scored.
        slots: int64 (N,), ascending: those that may answer.
        intact: checks rows.
        top_k: hits per query.
    """

    def __init__(
        self, view: View, bounds: NestedBounds, slots: NDArray[np.int64], intact: IntactRows, top_k: int
    ) -> None:
        self._view, self._bounds, self._intact, self._top_k = view, bounds, intact, top_k
        split = int(np.searchsorted(slots, bounds.rows))
        self._late, self._count = slots[split:], len(slots)
        self._excluded: NDArray[np.bool_] | None = None
        if split < bounds.rows:
            self._excluded = np.ones(bounds.rows, np.bool_)
            self._excluded[slots[:split]] = False
        self._slacks = first_slack(bounds.levels), second_slack(bounds.levels)

    def search(self, queries: NDArray[np.float32]) -> Iterator[tuple[int, ScoredRows]]:
        """The scored rows by the query's index; queries for which a scan is faster are left out.

        Args:
            queries: float32 (Q, D), unit length.
        """
        if self._cost(0, 0) > _WORTH:
            return
        found = 0
        for batch in self._batches(len(queries)):
            if batch.start and not found:
                return
            projected = self._bounds.project(queries[batch])
            worth = self._worth(projected.first, projected.second)
            bounds = self._bounds.first_bounds(projected.first[worth])
            for row, index in enumerate(np.flatnonzero(worth).tolist()):
                scored = self._scored(queries[batch.start + index], projected.second[index], bounds[row])
                if scored is not None:
                    found += 1
                    yield batch.start + index, scored

    def _batches(self, queries: int) -> Iterator[slice]:
        """Queries whose bounds are in memory together; the first few alone, to see whether bounds help."""
        size = max(1, _BOUNDS_PER_BATCH // max(1, self._bounds.rows))
        start, stop = 0, min(_TRIAL_QUERIES, size, queries)
        while start < queries:
            yield slice(start, stop)
            start, stop = stop, min(stop + size, queries)

    def _worth(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which queries the bounds probably make faster: bool (Q,). Judged by a sample if trying costs much."""
        worth = np.ones(len(first), np.bool_)
        if self._cost(0, 0) <= _NO_TRIAL:
            return worth
        slots, columns = self._sample()
        if len(slots) < _SAMPLE_BEST:
            return worth
        for index, bounds in enumerate(first @ columns):
            best = slots[np.argpartition(bounds, -_SAMPLE_BEST)[-_SAMPLE_BEST:]]
            estimate = float(self._bounds.second_estimates(second[index], best).max())
            worth[index] = self._is_worth_it(second[index], slots[bounds >= estimate], estimate, len(slots))
        return worth

    def _is_worth_it(self, second: NDArray[np.float32], reached: NDArray[np.int64], last: float, count: int) -> bool:
        """Whether the bounds are faster than a scan.

        Args:
            second: second level of the query.
            reached: of ``count`` slots, those whose first-level bound reaches the last hit.
            last: score of the last hit.
            count: number of slots.
        """
        share = len(reached) / count
        if self._cost(share, share) <= _WORTH:
            return True
        some = reached[:: max(1, len(reached) // _SAMPLE_SECOND)]
        deeper = float((self._bounds.second_bounds(second, some) >= last).mean())
        return self._cost(share, share * deeper) <= _WORTH

    def _sample(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Slots of some allowed rows with bounds, and their first level: int64 (N,), float32 (first + 1, N)."""
        slots, columns = self._bounds.sample
        if self._excluded is None:
            return slots, columns
        kept = ~self._excluded[slots]
        return slots[kept], columns[:, kept]

    def _cost(self, share: float, deeper: float) -> float:
        """Expected time of the two passes, as a share of a scan's.

        Args:
            share: of the rows whose second level is computed.
            deeper: share of the rows that are scored.
        """
        levels, values = self._bounds.levels, self._view.vectors.stored.shape[1]
        rows = len(self._view.vectors.stored)
        first = QUERY_BYTES + 4 * (levels.first + 1) * self._bounds.rows
        fetched = share * self._count * (12 * levels.second + _ROW)
        scored = (deeper * self._count + len(self._late)) * (8 * values + _ROW)
        return float((first + fetched + scored) / (4 * values * rows))

    def _scored(
        self, query: NDArray[np.float32], second: NDArray[np.float32], bounds: NDArray[np.float32]
    ) -> ScoredRows | None:
        """All rows that may be among the best of one query; None if a scan is faster."""
        if self._excluded is not None:
            np.copyto(bounds, -np.inf, where=self._excluded)
        promising = self._promising(second, bounds)
        first = np.concatenate([promising, self._late])
        first_scores = self._products(query, first)
        last = self._last_score(first, first_scores)
        if last == -np.inf:  # too many of them are damaged
            return None
        bounds[promising] = -np.inf
        reached = np.flatnonzero(bounds >= last - self._slacks[0])
        if not self._is_worth_it(second, reached, last - self._slacks[1], self._count):
            return None
        deeper = self._bounds.second_bounds(second, reached)
        remaining = reached[(deeper >= last - self._slacks[1]) | (bounds[reached] > 2)]  # above 2: unbounded
        if self._cost(0, len(remaining) / self._count) > _WORTH:
            return None
        slots = np.concatenate([first, remaining])
        scores = np.concatenate([first_scores, self._products(query, remaining)])
        return ScoredRows(slots, scores)

    def _promising(self, second: NDArray[np.float32], bounds: NDArray[np.float32]) -> NDArray[np.int64]:
        """Distinct slots that are probably among the best: int64 (N,)."""
        count = min(len(bounds), max(_FIRST_ROWS, 4 * self._top_k))
        chosen = _about(bounds, count)
        scored = min(len(chosen), self._top_k + max(_SPARE_ROWS, self._top_k // 4))
        if scored == len(chosen):
            return chosen
        estimates = self._bounds.second_bounds(second, chosen)
        best: NDArray[np.int64] = chosen[np.argpartition(estimates, -scored)[-scored:]]
        return best

    def _products(self, query: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
        products: NDArray[np.float32] = self._view.vectors.products_at(query[None], slots)[0]
        return without_infinite(products)

    def _last_score(self, slots: NDArray[np.int64], scores: NDArray[np.float32]) -> float:
        """The ``top_k``-th best score of the intact rows among some, lowered by rounding; or minus infinity."""
        order = np.argsort(-scores, kind="stable")
        intact = 0
        while len(order):
            part, order = order[: self._top_k - intact], order[self._top_k - intact :]
            are_intact = self._intact.check(slots[part])
            intact += int(are_intact.sum())
            if intact == self._top_k:
                return float(scores[part[are_intact]][-1] - 2 * ROUNDING)
        return float(-np.inf)


def _about(bounds: NDArray[np.float32], count: int) -> NDArray[np.int64]:
    """About ``count`` positions of the highest bounds, without excluded ones: int64 (N,)."""
    if len(bounds) <= _STRIDE * count:
        chosen = np.argpartition(bounds, -count)[-count:] if count < len(bounds) else np.arange(len(bounds))
    else:  # a limit from a sample of positions is faster than to partition all
        some = bounds[::_STRIDE]
        rank = len(some) - count // _STRIDE
        chosen = np.flatnonzero(bounds >= np.partition(some, rank)[rank])
        if len(chosen) > 4 * count:
            chosen = chosen[np.argpartition(bounds[chosen], -count)[-count:]]
    kept: NDArray[np.int64] = chosen[bounds[chosen] > -np.inf]
    return kept


def without_infinite(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array, in which scores that are not finite (of damaged rows) have become minus infinity."""
    with np.errstate(invalid="ignore", over="ignore"):
        is_finite = np.isfinite(scores.sum())  # one pass; a sum of many finite scores is finite
    if not is_finite:
        np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
    return scores
