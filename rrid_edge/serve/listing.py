"""Pages of crops: cursors, filters, and who a person is."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from typing import Final

from rrid_edge.gallery.base import GalleryRow, SearchFilter
from rrid_edge.gallery.fields import bound_of, camera_names
from rrid_edge.gallery.paging import ListedMoment, PageRequest, Position, RowPage, page_of_rows
from rrid_edge.json_text import name_of_text
from rrid_edge.serve.galleries import ServedGallery
from rrid_edge.serve.gate.problems import RequestError

ORDERS: Final = ("newest", "oldest")
_CURSOR: Final = re.compile(r"([no])\.(x|-?\d{1,19})\.(\d{1,19})", re.ASCII)
_SERVER_ROWS_S: Final = 5.0
"""Seconds for which the rows of a gallery on a server serve several pages. Reading them takes seconds."""


def cursor_of(position: Position, order: str) -> str:
    """The text of a position, such as ``n.1764151200000000.12``."""
    time_us = "x" if position.time is None else position.time
    return f"{order[0]}.{time_us}.{position.id}"


def position_of(cursor: str | None, order: str) -> Position | None:
    """The position of a text of :func:`cursor_of`; None for the first page.

    Raises:
        RequestError: 422, the text is no cursor, or one of the other order.
    """
    if cursor is None:
        return None
    found = _CURSOR.fullmatch(cursor)
    if found is None or found[1] != order[0]:
        raise RequestError(
            f"this cursor does not work in the order {order}: expected what next of the page before says",
            parameter="cursor",
        )
    return Position(None if found[2] == "x" else int(found[2]), int(found[3]))


def filter_of(cameras: list[str], since: str | None, until: str | None) -> SearchFilter:
    """The filter of a request.

    Args:
        cameras: names; none lets all pass.
        since: ISO 8601, a date, a duration before now, or a frame number.
        until: the same; a date includes its whole day.

    Raises:
        UsageError: a text is none of these.
    """
    first, last = bound_of("since", since), bound_of("until", until)
    return SearchFilter(
        cameras=camera_names(cameras) | frozenset(map(name_of_text, cameras)),
        since=first.time,
        until=last.time,
        since_frame=first.frame,
        until_frame=last.frame,
    )


@dataclass(frozen=True)
class _Rows:
    """All rows of a gallery on a server, and when they were read (monotonic seconds)."""

    rows: list[GalleryRow]
    read_s: float


class Listing:
    """Pages of galleries. One on a server has to read all of its rows for a page; they serve for a few seconds."""

    def __init__(self) -> None:
        self._of_servers: dict[str, _Rows] = {}
        self._lock = threading.Lock()

    def page(self, gallery: ServedGallery, request: PageRequest) -> RowPage:
        """One page of a gallery's crops."""
        with gallery.store.moment() as moment:
            if isinstance(moment, ListedMoment):
                return moment.page(request)
        with self._lock:  # one reading serves all who wait
            found = self._of_servers.get(gallery.name)
            if found is None or time.monotonic() - found.read_s > _SERVER_ROWS_S:
                found = self._of_servers[gallery.name] = _Rows(gallery.store.rows(), time.monotonic())
        return page_of_rows(found.rows, request)

    def clear(self) -> None:
        """Forget what was read: rows were added or removed."""
        with self._lock:
            self._of_servers.clear()
