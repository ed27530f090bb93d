"""Notices what is committed to a gallery, by this process or by others, and publishes it as events."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from rrid_edge.closable import Closable
from rrid_edge.errors import RridEdgeError, unforeseen
from rrid_edge.gallery.paging import ListedMoment, RowsMark
from rrid_edge.serve.events import EventLog
from rrid_edge.serve.galleries import ServedGallery

_POLL_S: Final = 0.1
"""Seconds between two looks at a gallery in a folder. One look reads a few facts: 0.1 ms."""
_SERVER_POLL_S: Final = 5.0
"""Seconds between two looks at a gallery on a server, which has to count its rows."""
_LOGGER: Final = logging.getLogger("rrid_edge.serve")


class GalleryFollower(Closable):
    """Follows the commits of one gallery in a thread of its own.

    A gallery in a folder tells which crops came (``crop-added``) and went (``crop-forgotten``), and that others changed
    (``gallery-changed``). One on a server tells only that its number of rows changed (``gallery-changed``). Errors are
    logged, and the next look tries again.

    Args:
        gallery: to follow; what it holds now is not published.
        events: receives the events.
        forgotten: called when crops went.
    """

    def __init__(self, gallery: ServedGallery, events: EventLog, forgotten: Callable[[], None]) -> None:
        self._gallery, self._events, self._forgotten = gallery, events, forgotten
        self._mark: RowsMark | None = None
        self._ids: NDArray[np.int64] = np.empty(0, np.int64)
        self._poll_s = _POLL_S
        self._problem = ""
        self._stop, self._woken, self._looked = threading.Event(), threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follow-{gallery.name}", daemon=True)
        self._thread.start()

    def poke(self) -> None:
        """Look now: this process has written the gallery. Returns at once."""
        self._woken.set()

    def added(self, ids: Sequence[int]) -> None:
        """This process has committed new crops: publish it at once."""
        self._written("crop-added", ids)

    def forgot(self, ids: Sequence[int]) -> None:
        """This process has forgotten crops: publish it at once."""
        self._written("crop-forgotten", ids)

    def _written(self, kind: str, ids: Sequence[int]) -> None:
        if self._poll_s == _SERVER_POLL_S:  # a look would not tell which crops
            self._publish(kind, ids=list(ids))
        else:
            self.poke()

    def wait_until_looked(self, timeout_s: float = 10.0) -> None:
        """Wait until the gallery was looked at once: what is committed afterwards is published."""
        self._looked.wait(timeout_s)

    def close(self) -> None:
        """End the thread; safe to call twice."""
        self._stop.set()
        self._woken.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._woken.clear()
            try:
                self._look()
                self._problem = ""
                self._looked.set()
            except Exception as error:
                self._warn(error)
            self._woken.wait(self._poll_s)

    def _warn(self, error: Exception) -> None:
        """Log a problem once, until it has changed or ended."""
        line = error.message if isinstance(error, RridEdgeError) else unforeseen(error)
        if line != self._problem and not self._stop.is_set():
            self._problem = line
            _LOGGER.warning("changes of the gallery %s are not noticed now: %s", self._gallery.name, line)

    def _look(self) -> None:
        with self._gallery.store.moment() as moment:
            if not isinstance(moment, ListedMoment):
                self._poll_s = _SERVER_POLL_S
                self._compare_rows(moment.info().rows)
                return
            mark = moment.mark()
            if mark == self._mark:
                return
            ids = moment.ids()
        self._compare(mark, ids)

    def _compare_rows(self, rows: int) -> None:
        before, self._mark = self._mark, RowsMark(rows, 0, "")
        if before is not None and before.rows != rows:
            self._forgotten()
            self._publish("gallery-changed", rows=rows)

    def _compare(self, mark: RowsMark, ids: NDArray[np.int64]) -> None:
        before, known = self._mark, self._ids
        self._mark, self._ids = mark, ids
        if before is None:
            return
        if mark.next_id < before.next_id:  # the index was made again
            self._forgotten()
            self._publish("gallery-changed", rows=mark.rows)
            return
        added = np.sort(ids[ids >= before.next_id])  # no id is used twice
        is_uneven = len(ids) != len(known) + len(added)
        gone = np.setdiff1d(known, ids) if is_uneven else np.empty(0, np.int64)
        if len(gone):
            self._forgotten()
            self._publish("crop-forgotten", ids=gone.tolist())
        if len(added):
            self._publish("crop-added", ids=added.tolist())
        if not len(gone) and not len(added):
            self._publish("gallery-changed", rows=mark.rows)

    def _publish(self, kind: str, **data: object) -> None:
        self._events.publish(kind, self._gallery.name, data)
