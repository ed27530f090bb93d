"""Products of the queries of a group with copied rows, each computed once for all queries."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.local.copies import RowCopies


class GroupProducts:
    """Products of the queries of a group with copied rows.

    Args:
        copies: of rows; those of the group before are dropped.
        queries: float32 (Q, D).
    """

    def __init__(self, copies: RowCopies, queries: NDArray[np.float32]) -> None:
        copies.clear()
        self._copies, self._queries = copies, queries
        self._scores = np.empty((len(queries), 0), np.float32)

    def of(self, index: int, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Products of one query with copied slots (N,): float32 (N,)."""
        done = self._scores.shape[1]
        if done < len(self._copies.slots):  # for all queries at once
            with np.errstate(invalid="ignore", over="ignore"):  # damaged rows
                new = (self._copies.decoded(done) @ self._queries.T).T
            self._scores = np.hstack([self._scores, without_infinite(new)])
        scores: NDArray[np.float32] = self._scores[index, self._copies.positions(slots)]
        return scores


def without_infinite(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same array, in which scores that are not finite (of damaged rows) have become minus infinity."""
    with np.errstate(invalid="ignore", over="ignore"):
        is_finite = np.isfinite(scores.sum())  # one pass; a sum of many finite scores is finite
    if not is_finite:
        np.nan_to_num(scores, copy=False, nan=-np.inf, posinf=-np.inf, neginf=-np.inf)
    return scores
