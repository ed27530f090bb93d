"""Chosen rows of a gallery in order, block by block: lists and exports of galleries that are too large to hold."""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol, TypeVar, runtime_checkable

from rrid_edge.crops.naming import PERSON, crop_kind
from rrid_edge.gallery.base import GalleryRow, SearchFilter
from rrid_edge.gallery.contract import Moment

BLOCK_ROWS = 2000
"""Rows that are in memory at a time: some 2 MB."""


@runtime_checkable
class OrderedMoment(Protocol):
    """A moment that reads its rows block by block: that of a gallery in a folder."""

    def in_order(self, block_rows: int) -> Iterator[list[GalleryRow]]:
        """All intact live rows, in the order of :meth:`Moment.rows`.

        Of a damaged catalogue they may be fewer than :meth:`Moment.rows` finds.
        """
        ...


@dataclass(frozen=True)
class RowSelection:
    """Which rows are listed. An empty field lets all rows pass.

    Attributes:
        search_filter: cameras, sources, times and frames, as searches take them.
        person: only this person: the confirmed label, or else the person of the file name.
        ids: only these ids.
        path: only paths that this pattern matches as a whole: ``*`` stands for any text, also over folders, ``?`` for
            one character, ``[ab]`` for one of some. Rows without a file do not pass.
        sources: only these sources, even if there are none; None lets all pass.
    """

    search_filter: SearchFilter = field(default_factory=SearchFilter)
    person: str | None = None
    ids: frozenset[int] = frozenset()
    path: str | None = None
    sources: frozenset[str] | None = None

    def passes(self, row: GalleryRow) -> bool:
        """Whether a row is listed."""
        return (
            (self.person is None or person_of(row) == self.person)
            and (not self.ids or row.id in self.ids)
            and (self.sources is None or row.source in self.sources)
            and (self._path is None or (row.path is not None and self._path.match(row.path) is not None))
            and self.search_filter.passes(row)
        )

    @cached_property
    def _path(self) -> re.Pattern[str] | None:
        return None if self.path is None else re.compile(fnmatch.translate(self.path))


def person_of(row: GalleryRow) -> str | None:
    """The person of a row as answers show it: the label that a user confirmed, or else that of the file name."""
    return row.label or row.person


class RowTotals:
    """What some rows tell together. Rows are counted block by block.

    Attributes:
        rows: number of rows.
        people: different people. Junk and distractors are none.
        cameras: different known cameras.
        first: the earliest known time, UTC microseconds, or None.
        last: the latest known time, or None.
        first_frame: the lowest known frame, or None.
        last_frame: the highest known frame, or None.
        rows_by_camera: number of rows by camera; None is the unknown one.
        rows_by_source: number of rows by source.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.rows_by_camera: Counter[str | None] = Counter()
        self.rows_by_source: Counter[str] = Counter()
        self.first: int | None = None
        self.last: int | None = None
        self.first_frame: int | None = None
        self.last_frame: int | None = None
        self._people: set[str] = set()

    @property
    def people(self) -> int:
        """Number of different people."""
        return len(self._people)

    @property
    def cameras(self) -> int:
        """Number of different known cameras."""
        return len(self.rows_by_camera.keys() - {None})

    def count(self, rows: Sequence[GalleryRow]) -> None:
        """Count some more rows."""
        self.rows += len(rows)
        self.rows_by_camera.update(row.camera for row in rows)
        self.rows_by_source.update(row.source for row in rows)
        for row in rows:
            person = person_of(row)
            if person and person not in self._people and crop_kind(row.label, row.person, row.path) == PERSON:
                self._people.add(person)
        self.first, self.last = _span(self.first, self.last, [row.time for row in rows])
        frames = [row.frame for row in rows]
        self.first_frame, self.last_frame = _span(self.first_frame, self.last_frame, frames)


def _span(first: int | None, last: int | None, values: Sequence[int | None]) -> tuple[int | None, int | None]:
    known = [value for value in (first, last, *values) if value is not None]
    return min(known, default=None), max(known, default=None)


class RowCounter(Protocol):
    """What looks at every row of a list once, such as :class:`RowTotals`."""

    def count(self, rows: Sequence[GalleryRow]) -> None:
        """Count some more rows."""
        ...


_Counter = TypeVar("_Counter", bound=RowCounter)


class RowList:
    """The chosen rows of one moment in order. They may be read several times.

    A store that cannot read in order, such as Milvus, is read once and held in memory: some 70 MB per 100,000 rows. So
    is a gallery in a folder whose catalogue is damaged.

    Args:
        moment: of the rows; it must be held while they are read.
        selection: which rows.
        block_rows: rows per block.
    """

    def __init__(self, moment: Moment, selection: RowSelection | None = None, block_rows: int = BLOCK_ROWS) -> None:
        self._moment, self._selection, self._block_rows = moment, selection or RowSelection(), block_rows
        self._held: list[GalleryRow] | None = None if isinstance(moment, OrderedMoment) else moment.rows()
        self._is_sound = self._held is not None

    def survey(self, make: Callable[[], _Counter]) -> _Counter:
        """Read all chosen rows once, into a new counter.

        Args:
            make: makes the counter. It is called again if the catalogue turns out to be damaged.
        """
        seen, counter = 0, make()
        for block in self._all():
            seen += len(block)
            if chosen := self._chosen(block):
                counter.count(chosen)
        if not self._is_sound and seen != self._moment.info().rows:  # entries are damaged: rows() corrects what it can
            self._held, self._is_sound = self._moment.rows(), True
            return self.survey(make)
        self._is_sound = True
        return counter

    def blocks(self) -> Iterator[list[GalleryRow]]:
        """The chosen rows, block by block; no block is empty."""
        if not self._is_sound:
            self.survey(RowTotals)
        for block in self._all():
            if chosen := self._chosen(block):
                yield chosen

    def _chosen(self, block: list[GalleryRow]) -> list[GalleryRow]:
        return [row for row in block if self._selection.passes(row)]

    def _all(self) -> Iterator[list[GalleryRow]]:
        if self._held is None:
            assert isinstance(self._moment, OrderedMoment)
            yield from self._moment.in_order(self._block_rows)
            return
        for start in range(0, len(self._held), self._block_rows):
            yield self._held[start : start + self._block_rows]
