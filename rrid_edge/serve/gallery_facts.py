"""What a served gallery holds, kept until its rows change: pages ask for it every few seconds."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rrid_edge.crops.naming import PERSON, label_kind
from rrid_edge.gallery.contract import GalleryStore, Moment, SummarizedMoment, read_in_one_moment
from rrid_edge.gallery.paging import ListedMoment
from rrid_edge.gallery.summary import RowSummary

_ATTEMPTS: Final = 3
_KEPT_S: Final = 30.0
"""Seconds that the facts of a gallery on a server are kept, which has to read all its rows for them."""


@dataclass(frozen=True)
class GalleryFacts:
    """What a gallery holds.

    Attributes:
        rows: number of live rows.
        cameras: number of rows by camera.
        sources: number of rows by source.
        times: the first and the last known time (UTC microseconds), or None.
        people: number of confirmed people.
    """

    rows: int
    cameras: Mapping[str | None, int]
    sources: Mapping[str, int]
    times: tuple[int, int] | None
    people: int


class KeptFacts:
    """The facts of one gallery. They follow it. Any thread may call its methods."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._mark: object = None
        self._facts: GalleryFacts | None = None

    def of(self, store: GalleryStore) -> GalleryFacts:
        """The facts of the gallery's state.

        Raises:
            GalleryError: the gallery cannot be read.
        """
        with self._turn:
            return read_in_one_moment(store, self._current, _ATTEMPTS)

    def _current(self, moment: Moment) -> GalleryFacts:
        mark: object = moment.mark() if isinstance(moment, ListedMoment) else int(time.monotonic() / _KEPT_S)
        if self._facts is None or mark != self._mark:
            self._facts = _read(moment)
            self._mark = mark
        return self._facts


def _read(moment: Moment) -> GalleryFacts:
    if isinstance(moment, ListedMoment) and isinstance(moment, SummarizedMoment):
        found, labels = moment.summary(), set(moment.labels())
    else:
        rows = moment.rows()
        found, labels = RowSummary.of(rows), {row.label for row in rows if row.label is not None}
    people = sum(label_kind(label) == PERSON for label in labels)
    return GalleryFacts(found.rows, found.cameras, found.sources, found.times, people)
