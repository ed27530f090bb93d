"""Ranks of a query's right answers: the arithmetic of :mod:`rrid_edge.ranking.metrics`.

A row of distances is sorted by value, and the few right answers are looked up in it. This is twice as fast as sorting
indices.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.ranking.labels import Labels

_NONE = np.empty(0, np.int64)
_MOST_VIEWS = 64
"""Views whose columns are kept. There are few cameras, but each query may have a sequence of its own."""


@dataclass(frozen=True)
class Ranks:
    """Ranks of one query's right answers, nearest first; all arrays are int64 (right answers,).

    Attributes:
        position: rank, from 1; of items at the same distance, wrong ones come first.
        wrong: wrong items before the answer.
        group_right: right answers at the answer's distance or nearer.
        group_all: items at the answer's distance or nearer.
    """

    position: NDArray[np.int64]
    wrong: NDArray[np.int64]
    group_right: NDArray[np.int64]
    group_all: NDArray[np.int64]


def ranks_of(ordered: NDArray[np.floating], right: NDArray[np.floating], left_out: NDArray[np.floating]) -> Ranks:
    """Look up the right answers in a sorted row of distances.

    Args:
        ordered: float (gallery,): all distances, ascending.
        right: float (right answers,): distances of the right answers, in any order.
        left_out: float (items,): distances in ``ordered`` that do not count.
    """
    right = np.sort(right)
    group_all = np.searchsorted(ordered, right, side="right")
    if len(left_out):
        group_all = group_all - np.searchsorted(np.sort(left_out), right, side="right")
    group_right = np.searchsorted(right, right, side="right")
    wrong = group_all - group_right
    return Ranks(wrong + np.arange(1, len(right) + 1), wrong, group_right, group_all)


def average_precision(ranks: Ranks, rule: str) -> float:
    """Average precision of one query, in [0, 1]; ``rule`` as ``ap`` of ``RankingSettings``."""
    if rule == "step":
        return float(np.mean(ranks.group_right / ranks.group_all))
    found = np.arange(1, len(ranks.position) + 1)
    # Precision just before each right answer. The official code defines it as 1 before the first item.
    before = np.where(ranks.position > 1, (found - 1) / np.maximum(ranks.position - 1, 1), 1.0)
    return float(np.mean((before + found / ranks.position) / 2))


class GalleryIndex:
    """The gallery's labels without junk, indexed by person.

    Args:
        labels: labels of the gallery.
        junk_person: person to leave out; None leaves out nobody.
        same_camera: as in :meth:`~rrid_edge.ranking.labels.Labels.views`.

    Attributes:
        columns: int64: gallery columns without junk; None if there is no junk. All other indices count these columns.
        labels: labels of these columns.
        views: int64: views of these columns, which are cameras or sequences.
    """

    def __init__(self, labels: Labels, junk_person: int | None, *, same_camera: bool = False) -> None:
        kept = np.flatnonzero(labels.persons != junk_person) if junk_person is not None else np.arange(len(labels))
        self.columns = kept if len(kept) < len(labels) else None
        self.labels = labels[kept]
        self.views = self.labels.views(same_camera)
        order = np.argsort(self.labels.persons, kind="stable")
        persons, starts = np.unique(self.labels.persons[order], return_index=True)
        self._members = dict(zip(persons.tolist(), np.split(order, starts[1:]), strict=True)) if len(order) else {}

    def split(self, person: int, view: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Columns of a query's right answers, and columns to leave out (same person and view); int64 (n,) each."""
        own = self._members.get(int(person), _NONE)
        same_view = self.views[own] == view
        return own[~same_view], own[same_view]


class SingleShot:
    """CMC with one random gallery item per person, the protocol of CUHK03 (Li et al., CVPR 2014).

    Args:
        index: the gallery.
        draws: galleries drawn per query.
        seed: seed of the draws. Results repeat if the queries come in the same order.
    """

    def __init__(self, index: GalleryIndex, draws: int, seed: int) -> None:
        self._index, self._draws = index, draws
        self._random = np.random.default_rng(seed)
        self._by_view: dict[int, tuple[NDArray[np.int64], ...]] = {}

    def hits(self, row: NDArray[np.floating], person: int, view: int, deepest: int) -> NDArray[np.float64]:
        """Shares of the draws with exactly 0, 1, ... ``deepest`` - 1 wrong items before the right one.

        Args:
            row: float (columns,): distances of one query.
            person: its person.
            view: its camera or sequence, whose items are not drawn.
            deepest: length of the result.

        Returns:
            float64 (deepest,).
        """
        columns, persons, starts, counts = self._other_views(int(view))
        picks = starts + (self._random.random((self._draws, len(persons))) * counts).astype(np.int64)
        drawn = row[columns[picks]]
        own = int(np.searchsorted(persons, person))
        wrong = np.count_nonzero(drawn <= drawn[:, own : own + 1], axis=1) - 1
        return np.bincount(np.minimum(wrong, deepest), minlength=deepest + 1)[:-1] / self._draws

    def _other_views(self, view: int) -> tuple[NDArray[np.int64], ...]:
        if view not in self._by_view:
            if len(self._by_view) >= _MOST_VIEWS:
                self._by_view.clear()
            columns = np.flatnonzero(self._index.views != view)
            columns = columns[np.argsort(self._index.labels.persons[columns], kind="stable")]
            persons, starts, counts = np.unique(
                self._index.labels.persons[columns], return_index=True, return_counts=True
            )
            self._by_view[view] = (columns, persons, starts, counts)
        return self._by_view[view]


class CameraTally:
    """Measures per pair of cameras, summed over valid queries."""

    def __init__(self, index: GalleryIndex) -> None:
        self._index = index
        self._columns = {
            int(camera): np.flatnonzero(index.labels.cameras == camera) for camera in np.unique(index.labels.cameras)
        }
        self._sums: dict[tuple[int, int], list[float]] = defaultdict(lambda: [0, 0.0, 0])

    def add(self, row: NDArray[np.floating], person: int, camera: int, view: int, rule: str) -> None:
        """Count one query against each camera with a right answer."""
        right, left_out = self._index.split(person, view)
        cameras = self._index.labels.cameras
        for other in np.unique(cameras[right]).tolist():
            ordered = np.sort(row[self._columns[other]])
            ranks = ranks_of(ordered, row[right[cameras[right] == other]], row[left_out[cameras[left_out] == other]])
            sums = self._sums[int(camera), other]
            sums[0] += 1
            sums[1] += average_precision(ranks, rule)
            sums[2] += ranks.wrong[0] == 0

    def entries(self) -> Iterator[tuple[int, int, int, float, float]]:
        """(query camera, gallery camera, queries, mean AP, rank-1) per pair, ordered by camera."""
        for (camera, other), (queries, precision, first) in sorted(self._sums.items()):
            yield camera, other, int(queries), precision / queries, float(first) / queries
