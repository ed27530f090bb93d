"""Pages of a gallery's rows, by time: what lists show of galleries that are too large to be read for each request.

A page continues after a position, not after a number of rows, so rows that others add or remove meanwhile move nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import GalleryRow, SearchFilter
from rrid_edge.gallery.contract import Moment
from rrid_edge.gallery.shared import UNKNOWN

Numbers = NDArray[np.int64]


class Position(NamedTuple):
    """Where a row lies in a list.

    Attributes:
        time: UTC microseconds since 1970, or None.
        id: of the row.
    """

    time: int | None
    id: int


@dataclass(frozen=True)
class PageRequest:
    """Which rows a page has. Newest first: by time, then by id. Rows of unknown time come last in both orders.

    Attributes:
        limit: most rows.
        oldest_first: the other order.
        after: position of the last row of the page before; None for the first page.
        search_filter: which rows are listed.
        label: only rows of this label; None lets all pass.
        ids: only rows of these ids; None lets all pass.

    Raises:
        UsageError: ``limit`` is under 1.
    """

    limit: int
    oldest_first: bool = False
    after: Position | None = None
    search_filter: SearchFilter = field(default_factory=SearchFilter)
    label: str | None = None
    ids: frozenset[int] | None = None

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise UsageError(f"limit {self.limit}: expected at least 1 row per page", parameter="limit")


@dataclass(frozen=True)
class RowPage:
    """One page.

    Attributes:
        rows: in order.
        after: where the next page begins; None if this is the last one.
        total: number of rows of all pages.
    """

    rows: list[GalleryRow]
    after: Position | None
    total: int


@dataclass(frozen=True)
class RowsMark:
    """What changes with the rows of a gallery, and with nothing else.

    Attributes:
        rows: number of live rows.
        next_id: lowest id that no row has had yet.
        total: checksum over all fields of the live rows.
    """

    rows: int
    next_id: int
    total: str


@runtime_checkable
class ListedMoment(Protocol):
    """A moment that lists its rows without reading all of them: that of a gallery in a folder."""

    def page(self, request: PageRequest) -> RowPage:
        """One page of the rows."""
        ...

    def ids(self) -> Numbers:
        """Ids of all live rows, in no order: int64 (rows,)."""
        ...

    def labels(self) -> dict[str, int]:
        """Number of live rows by label; rows without one are not counted."""
        ...

    def mark(self) -> RowsMark:
        """A mark that differs from an earlier one if rows were added, changed or removed."""
        ...


def page_of(moment: Moment, request: PageRequest) -> RowPage:
    """One page of a gallery's rows. A store without pages, such as Milvus, has to read all rows for it."""
    return moment.page(request) if isinstance(moment, ListedMoment) else page_of_rows(moment.rows(), request)


def page_of_rows(rows: Sequence[GalleryRow], request: PageRequest) -> RowPage:
    """One page of rows that were read already."""
    listed = [row for row in rows if _passes(row, request)]
    times = np.array([UNKNOWN if row.time is None else row.time for row in listed], np.int64)
    places, after = select(times, np.array([row.id for row in listed], np.int64), request)
    return RowPage([listed[place] for place in places], after, len(listed))


def _passes(row: GalleryRow, request: PageRequest) -> bool:
    is_labelled = request.label is None or row.label == request.label
    is_wanted = request.ids is None or row.id in request.ids
    return is_labelled and is_wanted and request.search_filter.passes(row)


def select(times: Numbers, ids: Numbers, request: PageRequest) -> tuple[list[int], Position | None]:
    """The rows of one page among the rows of all pages, in their order, and where the next page begins.

    Takes time proportional to the number of rows; only the page itself is sorted.

    Args:
        times: int64 (N,); :data:`rrid_edge.gallery.shared.UNKNOWN` for an unknown time.
        ids: int64 (N,).
        request: limit, order and position.

    Returns:
        Indices into ``ids``, and the position of the last one, or None if nothing follows.
    """
    if request.oldest_first:  # the same search in mirrored numbers
        times, ids = np.where(times == UNKNOWN, UNKNOWN, -times), -ids
    places = np.arange(len(ids))
    if request.after is not None:
        time, id_ = _mirrored(request.after, oldest_first=request.oldest_first)
        places = np.flatnonzero((times < time) | ((times == time) & (ids < id_)))
    is_last = len(places) <= request.limit
    places = _highest(times, ids, places, request.limit)
    places = places[np.lexsort((ids[places], times[places]))[::-1]]
    if is_last:
        return places.tolist(), None
    sign, time, id_ = -1 if request.oldest_first else 1, int(times[places[-1]]), int(ids[places[-1]])
    return places.tolist(), Position(None if time == UNKNOWN else sign * time, sign * id_)


def _mirrored(position: Position, *, oldest_first: bool) -> tuple[int, int]:
    sign = -1 if oldest_first else 1
    return UNKNOWN if position.time is None else sign * position.time, sign * position.id


def _highest(times: Numbers, ids: Numbers, places: Numbers, count: int) -> Numbers:
    """Those of ``places`` with the highest (time, id), in no order."""
    if len(places) <= count:
        return places
    own = times[places]
    lowest = np.partition(own, len(own) - count)[len(own) - count]
    above, ties = places[own > lowest], places[own == lowest]
    wanted = count - len(above)
    if len(ties) > wanted:
        ties = ties[np.argpartition(ids[ties], len(ties) - wanted)[len(ties) - wanted :]]
    return np.concatenate([above, ties])
