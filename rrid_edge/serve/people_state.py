"""What the service remembers of the people of one gallery: who is confirmed, and what is suggested.

Both belong to one committed state. The first suggestions of 20,000 crops take minutes, so they are computed in a thread
of their own, one run at a time; until they are there, those of the last state are shown. Later runs reuse neighbours.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from rrid_edge.closable import Closable
from rrid_edge.gallery.contract import GalleryStore, Moment, read_in_one_moment
from rrid_edge.gallery.labelled import rows_by_label
from rrid_edge.gallery.paging import ListedMoment
from rrid_edge.people.book import PeopleBook
from rrid_edge.people.links import Links
from rrid_edge.people.pairs import NeighbourTable
from rrid_edge.people.roster import Roster
from rrid_edge.people.suggesting import Suggestions, suggest

_ATTEMPTS: Final = 3
_SERVER_AGE_S: Final = 60.0
"""Seconds after which a gallery on a server is read again, which cannot tell whether labels have changed."""
_GATE_S: Final = 0.05
_PAUSES: Final = 3
"""Times that a run took, after which the next one begins, unless this process has changed people."""
_SHORT_S: Final = 1.0
"""Seconds of a run that costs no pause."""
_Key = tuple[object, ...]


class Stopped(Exception):  # noqa: N818 - no error: the result is not wanted any more
    """A run was ended."""


class PeopleState(Closable):
    """The people of a gallery. Its methods may be called from any thread.

    Args:
        store: returns the gallery's store, open for reading; it may be another one after a rebuild.
        book: of the gallery.
        model: its model file, for measured thresholds.
    """

    def __init__(self, store: Callable[[], GalleryStore], book: PeopleBook, model: Path) -> None:
        self._store, self._book, self._model = store, book, model
        self._lock = threading.Lock()
        self._roster: tuple[_Key, Roster] | None = None
        self._latest: tuple[_Key, Suggestions] | None = None
        self._running: tuple[_Key, Future[Suggestions], threading.Event] | None = None
        self._gate = threading.Lock()
        self._changes = 0
        self._table = NeighbourTable()
        self._pause_until_s = 0.0
        self._pool = ThreadPoolExecutor(1, "suggest")

    @property
    def latest(self) -> Suggestions | None:
        """The suggestions that were computed last, perhaps of an older state; None if there are none yet."""
        found = self._latest
        return None if found is None else found[1]

    def roster(self) -> Roster:
        """The confirmed people of the committed state."""
        with self._store().moment() as moment:
            key = self._key(moment)
            found = self._roster
            if found is None or found[0] != key:
                found = self._roster = (key, Roster.of(rows_by_label(moment, 0).labelled, self._book))
            return found[1]

    def suggestions(self) -> tuple[Future[Suggestions], bool]:
        """The suggestions of the committed state, computed in another thread if they are not known.

        While a run of an older state is at work, its result is given. So is the last result for a while if only other
        processes have changed the gallery: runs take at most a quarter of the time.

        Returns:
            The result, and whether it is that of the committed state. The result raises :class:`Stopped` if this
            process changed people meanwhile: ask again.
        """
        with self._store().moment() as moment:
            own = (self._changes, tuple((one.id, one.void) for one in self._book.verdicts()))
            key = (self._key(moment), *own)
        with self._lock:
            if self._latest is not None:
                is_own = self._latest[0][1:] != own
                is_current = self._latest[0] == key
                if is_current or (not is_own and time.monotonic() < self._pause_until_s):
                    known: Future[Suggestions] = Future()
                    known.set_result(self._latest[1])
                    return known, is_current
            if self._running is not None and not (self._running[1].done() or self._running[2].is_set()):
                # A run of an older state goes on: while crops come every second, no other would ever end.
                return self._running[1], self._running[0] == key
            return self._begun(key), True

    def _begun(self, key: _Key) -> Future[Suggestions]:
        stop = threading.Event()
        future = self._pool.submit(self._compute, key, stop)
        self._running = (key, future, stop)
        return future

    def _compute(self, key: _Key, stop: threading.Event) -> Suggestions:
        def end() -> None:
            if stop.is_set():
                raise Stopped

        def read(moment: Moment) -> Suggestions:
            stale = set(self._book.stale(moment))
            links = Links(one for one in self._book.verdicts() if not stale & set(one.pair))
            return suggest(moment, moment.info().spec, links, self._model, table=self._table, stop=end)

        start_s = time.monotonic()
        while not self._gate.acquire(timeout=_GATE_S):  # crops are being forgotten
            end()
        self._gate.release()
        found = read_in_one_moment(self._store(), read, _ATTEMPTS)
        with self._lock:
            self._latest = (key, found)
            now_s = time.monotonic()
            self._pause_until_s = now_s + _PAUSES * max(now_s - start_s - _SHORT_S, 0)
        return found

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """End the run at work, so that it holds no older state while crops are forgotten."""
        with self._gate:
            self._stop()
            try:
                yield
            finally:
                self.clear()

    def clear(self) -> None:
        """Forget the roster: crops were forgotten. Those of suggestions are left out when they are shown."""
        with self._lock:
            self._roster = None

    def changed(self) -> None:
        """Say that this process has changed labels or verdicts: a run of the state before ends."""
        with self._lock:
            self._changes += 1
            if self._running is not None:
                self._running[2].set()

    def _key(self, moment: Moment) -> _Key:
        if isinstance(moment, ListedMoment):
            return (moment.mark(),)
        return moment.info().rows, self._changes, int(time.monotonic() / _SERVER_AGE_S)

    def _stop(self) -> None:
        with self._lock:
            running = self._running
        if running is not None:
            running[2].set()
            with contextlib.suppress(BaseException):  # its own error is for those who asked for it
                running[1].result()

    def close(self) -> None:
        """End the run at work; safe to call twice."""
        self._stop()
        self._pool.shutdown(wait=True, cancel_futures=True)
