"""What labels allow to measure, before any descriptor is computed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.ranking.labels import JUNK_PERSON, Labels


@dataclass(frozen=True)
class Measurable:
    """What can be measured with labelled queries and a labelled gallery.

    Attributes:
        queries: number of queries.
        persons: people among the queries, without junk and distractors.
        cameras: cameras among the queries.
        valid_queries: queries with a right answer. mAP and CMC are means over these.
        impostors: whether a query and a gallery crop show two people, which score thresholds need.
        same_camera: whether right answers of the query's own camera count.
    """

    queries: int
    persons: int
    cameras: int
    valid_queries: int
    impostors: bool
    same_camera: bool = False

    @property
    def ranking(self) -> bool:
        """Whether mAP and CMC can be measured."""
        return self.valid_queries > 0

    @property
    def thresholds(self) -> bool:
        """Whether score thresholds can be measured."""
        return self.ranking and self.impostors

    def describe(self, name: str = "query") -> str:
        """One line: the queries, how many of them count, and what cannot be measured.

        Args:
            name: what the line calls the queries, for example ``val query``.
        """
        people = f"{self.persons:,} {'person' if self.persons == 1 else 'people'}"
        cameras = f"{self.cameras:,} camera{'' if self.cameras == 1 else 's'}"
        found = f"{name}: {people}, {cameras}: "
        answer = f"a right answer in another {'file or sequence' if self.same_camera else 'camera'}"
        if not self.queries:
            return f"{name}: no images; mAP and CMC cannot be measured"
        if not self.ranking:
            return f"{found}no query has {answer}; mAP and CMC cannot be measured"
        lost = self.queries - self.valid_queries
        counted = f"{self.valid_queries:,} of {self.queries:,} queries have {answer}"
        if lost:
            counted += f"; the other {lost:,} {'does' if lost == 1 else 'do'} not count"
        if not self.impostors:
            counted += "; there is no crop of another person, so score thresholds cannot be measured"
        return found + counted

    def require_ranking(self, where: str) -> None:
        """Refuse to evaluate if there is nothing to measure.

        Args:
            where: what the message names, for example the dataset's folder.

        Raises:
            UsageError: no query has a right answer.
        """
        if self.ranking:
            return
        remedy = "check persons and cameras" if self.same_camera else "add crops of other cameras, or set same_camera"
        raise UsageError(f"{where}: {self.describe()}; {remedy}", parameter=() if self.same_camera else "same_camera")


def measurable(query: Labels, gallery: Labels, *, same_camera: bool = False) -> Measurable:
    """Count the queries with a right answer, as :mod:`rrid_edge.ranking.metrics` counts them.

    Args:
        query: labels of the queries.
        gallery: labels of the gallery. Junk (-1) is left out.
        same_camera: as in :class:`~rrid_edge.ranking.metrics.RankingSettings`.

    Raises:
        UsageError: ``same_camera`` is set, but the labels have no sequences.
    """
    kept = gallery[gallery.persons != JUNK_PERSON]
    pairs, own = (np.stack([side.persons, side.views(same_camera)], axis=1) for side in (kept, query))
    right = _count(kept.persons[:, None], query.persons[:, None]) - _count(pairs, own)
    known = query.persons[query.persons != JUNK_PERSON]
    impostors = bool(len(known) and len(kept)) and len(np.unique(np.concatenate([known, kept.persons]))) > 1
    return Measurable(
        queries=len(query),
        persons=query.people,
        cameras=len(np.unique(query.cameras)),
        valid_queries=int(np.count_nonzero(right)),
        impostors=impostors,
        same_camera=same_camera,
    )


def _count(rows: NDArray[np.int64], wanted: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often each wanted row is among ``rows``: int64 (wanted,)."""
    if not len(rows) or not len(wanted):
        return np.zeros(len(wanted), np.int64)
    _, numbers = np.unique(np.concatenate([rows, wanted]), axis=0, return_inverse=True)
    numbers = numbers.reshape(-1)
    counts = np.bincount(numbers[: len(rows)], minlength=int(numbers.max()) + 1)
    return counts[numbers[len(rows) :]].astype(np.int64)
