"""Neighbours of unlabelled crops in their gallery. A table keeps them from one state of the gallery to the next."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import Moment
from rrid_edge.people.threshold import row_ids

BATCH: Final = 64
"""Queries per search: the exact search reads the gallery once per batch."""
NEIGHBOURS: Final = 64
"""Neighbours per crop. A person with more crops than this still hangs together through them."""
MOST_NEW: Final = 1_024
"""New rows that are compared with every known crop. With more of them, all crops are searched again."""
_BLOCK: Final = 1_024


@dataclass(frozen=True)
class Pairs:
    """Pairs of an unlabelled crop and one of its neighbours.

    Attributes:
        first: int64 (pairs,): positions among the unlabelled crops.
        second: int64 (pairs,): ids of the neighbours.
        scores: float32 (pairs,): cosines.
    """

    first: NDArray[np.int64]
    second: NDArray[np.int64]
    scores: NDArray[np.float32]


_Near = tuple[NDArray[np.int64], NDArray[np.float32]]
"""Ids of the neighbours of a crop and their scores, the nearest first."""


class NeighbourTable:
    """The nearest :data:`NEIGHBOURS` rows of each crop, among all rows of a gallery, by exact search.

    A later state costs only what is new in it: new crops are searched, and crops that are known are compared with new
    rows. Crops that lost a neighbour are searched again. Labels cost nothing.
    """

    def __init__(self) -> None:
        self._near: dict[int, _Near] = {}
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)

    def pairs(self, moment: Moment, crops: Sequence[GalleryRow], *, stop: Callable[[], None]) -> Pairs:
        """The neighbours of some crops.

        Args:
            moment: of the gallery.
            crops: some of its rows.
            stop: called often; it raises an exception to end the work. The table stays as it was.
        """
        ids = row_ids(moment)  # an id stays the same while the crop's content does
        new, gone = np.setdiff1d(ids, self._ids, True), np.setdiff1d(self._ids, ids, True)
        known = {} if len(new) > MOST_NEW else self._kept(crops, gone)
        added = moment.rows_by_id(new.tolist()) if known else []
        near = _compared(moment, [row for row in crops if row.id in known], known, added, stop)
        near |= _searched(moment, [row for row in crops if row.id not in known], stop)
        self._near, self._ids = near, ids
        counts = [len(near[row.id][0]) for row in crops]
        first = np.repeat(np.arange(len(crops)), counts)
        second = np.concatenate([np.empty(0, np.int64), *(near[row.id][0] for row in crops)])
        return Pairs(first, second, np.concatenate([np.empty(0, np.float32), *(near[row.id][1] for row in crops)]))

    def _kept(self, crops: Sequence[GalleryRow], gone: NDArray[np.int64]) -> dict[int, _Near]:
        """What is known of crops, unless a row that is gone was among their neighbours."""
        known = {row.id: near for row in crops if (near := self._near.get(row.id)) is not None}
        if len(gone):
            known = {crop: near for crop, near in known.items() if not np.isin(near[0], gone).any()}
        return known


def _searched(moment: Moment, crops: Sequence[GalleryRow], stop: Callable[[], None]) -> dict[int, _Near]:
    """The neighbours of some crops, by searching the gallery."""
    found: dict[int, _Near] = {}
    for start in range(0, len(crops), BATCH):
        stop()
        batch = crops[start : start + BATCH]
        answer = moment.search(moment.vectors(batch), NEIGHBOURS + 1)
        for row, hits in zip(batch, answer.hits, strict=True):
            others = [hit for hit in hits if hit.row.id != row.id][:NEIGHBOURS]
            ids = np.array([hit.row.id for hit in others], np.int64)
            found[row.id] = ids, np.array([hit.score for hit in others], np.float32)
    return found


def _compared(
    moment: Moment,
    crops: Sequence[GalleryRow],
    known: Mapping[int, _Near],
    new: Sequence[GalleryRow],
    stop: Callable[[], None],
) -> dict[int, _Near]:
    """The neighbours of crops that are known, with new rows among them."""
    if not new:
        return dict(known)
    ids = np.array([row.id for row in new], np.int64)
    queries = moment.vectors(new).astype(np.float64).T
    found: dict[int, _Near] = {}
    for start in range(0, len(crops), _BLOCK):
        stop()
        block = crops[start : start + _BLOCK]
        scores = (moment.vectors(block).astype(np.float64) @ queries).astype(np.float32)
        for row, own in zip(block, scores, strict=True):
            old_ids, old_scores = known[row.id]
            all_ids, all_scores = np.concatenate([old_ids, ids]), np.concatenate([old_scores, own])
            best = np.argsort(-all_scores, kind="stable")[:NEIGHBOURS]
            found[row.id] = all_ids[best], all_scores[best]
    return found
