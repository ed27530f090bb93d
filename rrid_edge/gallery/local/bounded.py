"""The two-pass search of one call: bounds in two levels, then products of the rows that may be hits.

Queries are searched in groups. The rows that the queries of a group need are read, decoded and checked once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.local.copies import RowCopies
from rrid_edge.gallery.local.nested import NestedBounds, first_slack, second_slack
from rrid_edge.gallery.local.products import without_infinite
from rrid_edge.gallery.local.view import View
from rrid_edge.gallery.shared import ROUNDING

_BOUNDS_PER_BATCH = 1 << 25
"""First-level bounds in memory at the same time, over all queries: 128 MB, or those of one query if they are more."""
_TRIAL_QUERIES = 4
"""If bounds help none of the first 4 queries, all others are scanned. No bound is computed twice."""
_GROUP_ROWS = 128
"""Rows scored first, over all queries of a group: 128 x 3840 values are 2 MB, which stay in a core's cache."""
_FIRST_ROWS = 128
"""Rows of the best first-level bounds, whose second level is computed first."""
_SPARE_ROWS = 6
"""Rows scored beside the first ``top_k`` before the last hit's score is known."""
_KEPT_ROWS = 8
"""A query that scores more than 8 times its first rows does not keep their copies."""
_STRIDE = 16
_SAMPLE_BEST = 16
_SAMPLE_SECOND = 64
_WORTH = 0.6
"""The bounds are used if they are expected to take at most this share of a scan's time."""
_NO_TRIAL = 0.02
"""If bounds that help nothing cost at most this share of a scan, they are tried without a sample."""
QUERY_BYTES, _ROW = 5.5e6, 400
"""Bytes that a scan reads while the bounds of a query are begun (0.35 ms), and while a row is found by its number."""
_TOGETHER, _EACH = 3.2, 0.12
"""A scan of Q queries takes 3.2 + 0.12 Q times as long as that of one, which reads memory only; at most Q times."""


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
        copies: of the rows of a group of queries.
        top_k: hits per query.
    """

    def __init__(
        self, view: View, bounds: NestedBounds, slots: NDArray[np.int64], copies: RowCopies, top_k: int
    ) -> None:
        self._view, self._bounds, self._copies, self._top_k = view, bounds, copies, top_k
        split = int(np.searchsorted(slots, bounds.rows))
        self._late, self._count = slots[split:], len(slots)
        self._excluded: NDArray[np.bool_] | None = None
        if split < bounds.rows:
            self._excluded = np.ones(bounds.rows, np.bool_)
            self._excluded[slots[:split]] = False
        self._slacks = first_slack(bounds.levels), second_slack(bounds.levels)
        self._scan_share = 1.0

    def search(self, queries: NDArray[np.float32]) -> Iterator[dict[int, ScoredRows]]:
        """The scored rows of groups of queries, by the query's index. Most of them stay copied until the next group.

        Queries for which a scan is faster are left out.

        Args:
            queries: float32 (Q, D), unit length.
        """
        self._scan_share = min(1, _TOGETHER / max(1, len(queries)) + _EACH)
        if self._cost(0, 0) > _WORTH:
            return
        found = 0
        for batch in self._batches(len(queries)):
            if batch.start and not found:
                return
            for scored in self._of_batch(queries, batch):
                found += len(scored)
                yield scored

    def _of_batch(self, queries: NDArray[np.float32], batch: slice) -> Iterator[dict[int, ScoredRows]]:
        """The scored rows of a batch of queries, group by group."""
        projected = self._bounds.project(queries[batch])
        worth = np.flatnonzero(self._worth(projected.first, projected.second))
        asked, second = queries[batch][worth], projected.second[worth]
        bounds = self._bounds.first_bounds(projected.first[worth])
        if self._excluded is not None:
            np.copyto(bounds, -np.inf, where=self._excluded)
        late = without_infinite(self._view.vectors.products_at(asked, self._late))
        size = max(1, _GROUP_ROWS // self._first_rows)
        for start in range(0, len(worth), size):
            part = slice(start, start + size)
            self._copies.clear()
            scored = self._scored(_Group(asked[part], second[part], bounds[part], late[part]))
            indices = (worth[part] + batch.start).tolist()
            yield {index: one for index, one in zip(indices, scored, strict=True) if one}

    def _batches(self, queries: int) -> Iterator[slice]:
        """Queries whose bounds are in memory together; the first few alone, to see whether bounds help."""
        size = max(1, _BOUNDS_PER_BATCH // max(1, self._bounds.rows))
        start, stop = 0, min(_TRIAL_QUERIES, size, queries)
        while start < queries:
            yield slice(start, stop)
            start, stop = stop, min(stop + size, queries)

    def _worth(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Which queries the bounds probably make faster: bool (Q,). Judged by a sample if trying costs much."""
        sample = self._bounds.sample if self._cost(0, 0) > _NO_TRIAL else None
        if sample is not None and self._excluded is not None:
            sample = sample.of(~self._excluded[sample.slots])
        if sample is None or len(sample.slots) < _SAMPLE_BEST:
            return np.ones(len(first), np.bool_)
        bounds, cosines = first @ sample.first, second[:, :-1] @ sample.second[:-1]  # about the cosines, from below
        best = np.argpartition(bounds, -_SAMPLE_BEST, axis=1)[:, -_SAMPLE_BEST:]
        last = np.take_along_axis(cosines, best, axis=1).max(axis=1, keepdims=True)
        reached = bounds >= last
        deeper = reached & (cosines + second[:, -1:] * sample.second[-1] >= last)
        shares = zip(reached.mean(axis=1).tolist(), deeper.mean(axis=1).tolist(), strict=True)
        return np.array([self._cost(*share) <= _WORTH for share in shares], np.bool_)

    def _is_worth_it(self, second: NDArray[np.float32], reached: NDArray[np.int64], last: float) -> bool:
        """Whether the bounds are faster than a scan.

        Args:
            second: second level of the query.
            reached: slots whose first-level bound reaches the last hit.
            last: score of the last hit.
        """
        share = len(reached) / self._count
        if self._cost(share, share) <= _WORTH:
            return True
        some = reached[:: max(1, len(reached) // _SAMPLE_SECOND)]
        deeper = float((self._bounds.second_bounds(second, some) >= last).mean())
        return self._cost(share, share * deeper) <= _WORTH

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
        return float((first + fetched + scored) / (4 * values * rows * self._scan_share))

    def _scored(self, group: _Group) -> list[ScoredRows | None]:
        """All rows that may be among the best of each query; None if a scan is faster."""
        copies, numbers = self._copies, range(len(group.queries))
        promising = [self._promising(group.second[index], group.bounds[index]) for index in numbers]
        copies.add(np.concatenate(promising))
        first = [
            ScoredRows(np.concatenate([slots, self._late]), np.concatenate([copies.products(query, slots), late]))
            for query, slots, late in zip(group.queries, promising, group.late, strict=True)
        ]
        lasts = self._last_scores(first)
        remaining = [self._remaining(group, index, promising[index], lasts[index]) for index in numbers]
        kept = _KEPT_ROWS * self._first_rows
        few = [slots for slots in remaining if slots is not None and len(slots) <= kept]
        copies.add(np.concatenate([*few, promising[0]]))
        result: list[ScoredRows | None] = []
        for index, slots in enumerate(remaining):
            if slots is None:
                result.append(None)
                continue
            query = group.queries[index]
            scores = copies.products(query, slots) if len(slots) <= kept else self._many(query, slots)
            one = first[index]
            result.append(ScoredRows(np.concatenate([one.slots, slots]), np.concatenate([one.scores, scores])))
        return result

    def _many(self, query: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Products of a query with many slots (N,), whose copies are not kept: float32 (N,)."""
        return without_infinite(self._view.vectors.products_at(query[None], slots)[0])

    @property
    def _first_rows(self) -> int:
        return self._top_k + max(_SPARE_ROWS, self._top_k // 4)

    def _promising(self, second: NDArray[np.float32], bounds: NDArray[np.float32]) -> NDArray[np.int64]:
        """Distinct slots that are probably among the best: int64 (N,)."""
        count = min(len(bounds), max(_FIRST_ROWS, 4 * self._top_k))
        chosen = _about(bounds, count)
        scored = min(len(chosen), self._first_rows)
        if scored == len(chosen):
            return chosen
        estimates = self._bounds.second_bounds(second, chosen)
        best: NDArray[np.int64] = chosen[np.argpartition(estimates, -scored)[-scored:]]
        return best

    def _remaining(
        self, group: _Group, index: int, promising: NDArray[np.int64], last: float
    ) -> NDArray[np.int64] | None:
        """Other slots whose bounds reach the last hit's score: int64 (N,); None if a scan is faster."""
        if last == -np.inf:  # too many of the first rows are damaged
            return None
        second, bounds = group.second[index], group.bounds[index]
        bounds[promising] = -np.inf
        reached = np.flatnonzero(bounds >= last - self._slacks[0])
        if not self._is_worth_it(second, reached, last - self._slacks[1]):
            return None
        deeper = self._bounds.second_bounds(second, reached)
        remaining = reached[(deeper >= last - self._slacks[1]) | (bounds[reached] > 2)]  # above 2: unbounded
        return remaining if self._cost(0, len(remaining) / self._count) <= _WORTH else None

    def _last_scores(self, scored: Sequence[ScoredRows]) -> list[float]:
        """The ``top_k``-th best scores of the intact rows among some, lowered by rounding; or minus infinity."""
        orders = [np.argsort(-one.scores, kind="stable") for one in scored]
        best = [one.slots[order[: self._top_k]] for one, order in zip(scored, orders, strict=True)]
        self._copies.are_intact(np.concatenate(best))  # all at once is faster
        lasts = []
        for one, order in zip(scored, orders, strict=True):
            intact, last = 0, -np.inf
            while len(order) and intact < self._top_k:
                part, order = order[: self._top_k - intact], order[self._top_k - intact :]
                found = part[self._copies.are_intact(one.slots[part])]
                intact += len(found)
                if intact == self._top_k:
                    last = float(one.scores[found[-1]] - 2 * ROUNDING)
            lasts.append(last)
        return lasts


@dataclass(frozen=True)
class _Group:
    """Queries that are searched together.

    Attributes:
        queries: float32 (Q, D).
        second: their second level: float32 (Q, second + 1).
        bounds: first-level bounds of all rows: float32 (Q, rows); changed in place.
        late: products with the rows that have no bounds: float32 (Q, N).
    """

    queries: NDArray[np.float32]
    second: NDArray[np.float32]
    bounds: NDArray[np.float32]
    late: NDArray[np.float32]


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
