"""Threads that read and decode files ahead of whoever needs them: bounded, and not held up by a slow file."""

from __future__ import annotations

import contextlib
import heapq
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Generic, TypeVar

from rrid_edge.closable import Closable
from rrid_edge.errors import ImageError

PATIENCE_S = 0.5
"""Who waits longer than this goes on with what is there; a file that takes longer to be read hangs."""
SPARE_THREADS = 16
"""So many files may hang (a stalled network share) before everything waits for them."""
_FAREWELL_S = 2.0

Item = TypeVar("Item")
Decoder = Callable[[], AbstractContextManager[Callable[[Any], Item]]]
"""Starts what one thread decodes with, and ends it."""


class ReadAhead(Closable, Generic[Item]):
    """Files to items, in threads; at most ``window`` files are in work or waiting to be taken. A context manager.

    Fetching and decoding are told apart: decoding needs a processor, so more threads would not help; a fetch that hangs
    needs none, so another thread is started beside it. Threads may decode by means of their own, such as a process.

    Args:
        paths: the files.
        fetch: reads a file; an :class:`ImageError` becomes that file's result, anything else ends the reading.
        decode: makes the item of what was fetched, with the same errors.
        threads: to begin with.
        window: the bound on memory, in items.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        fetch: Callable[[Path], Any],
        decode: Callable[[Any], Item],
        *,
        threads: int,
        window: int,
    ) -> None:
        self._paths, self._fetch, self._decode, self._window = paths, fetch, decode, max(1, window)
        lock = threading.Lock()
        self._filled, self._room = threading.Condition(lock), threading.Condition(lock)
        self._ready: list[tuple[int, Item | ImageError]] = []
        self._fetching: dict[int, float] = {}
        self._claimed = self._taken = self._spares = self._ended = 0
        self._decoded, self._decode_s = 0, 0.0
        self._decoder: Decoder[Item] | None = None
        self._replaced = False
        self._stopped = False
        self._broken: BaseException | None = None
        self._threads: list[threading.Thread] = []
        self._starting = threading.Lock()
        self.add_threads(threads)

    @property
    def threads(self) -> int:
        """Threads at work to keep up; those beside hanging ones do not count."""
        return len(self._threads) - self._spares - self._ended

    @property
    def taken(self) -> int:
        """Results that were given out."""
        return self._taken

    @property
    def decode_s(self) -> float:
        """Seconds of a processor that decoding a file in this process takes; 0 where none was."""
        return self._decode_s / max(1, self._decoded)

    def add_threads(self, count: int) -> None:
        """Start more threads, but no more than there are files."""
        with self._starting:
            for _ in range(min(count, len(self._paths) - len(self._threads))):
                # Daemons: a read that hangs in the kernel must not keep a stopped program alive.
                name = f"decode-{len(self._threads)}"
                thread = threading.Thread(target=self._work, args=(self._decoder,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def replace_threads(self, count: int, decoder: Decoder[Item]) -> None:
        """Start ``count`` threads with decoders of their own; once one of them is ready, those without leave."""
        self._decoder = decoder
        self.add_threads(count)

    def take(self, count: int) -> list[tuple[int, Item | ImageError]]:
        """Up to ``count`` results with their files' places, lowest first; an empty list when all were taken.

        Waits until so many are there, or all that are left; closing ends the wait. After :data:`PATIENCE_S` what is there
        is given out without the late ones; they come with a later call.
        """
        while self._taken < len(self._paths) and not self._stopped:
            with self._filled:
                wanted = min(count, len(self._paths) - self._taken, self._window)
                self._filled.wait_for(lambda: self._stopped or len(self._ready) >= wanted, PATIENCE_S)  # noqa: B023 - waited for here
                if self._stopped:
                    break
                if self._ready:
                    taken = [heapq.heappop(self._ready) for _ in range(min(wanted, len(self._ready)))]
                    self._taken += len(taken)
                    self._room.notify(len(taken))
                    return taken
                hanging = self._hanging()
            self._replace(hanging)
        if self._broken is not None:
            raise self._broken
        return []

    def _hanging(self) -> int:
        """Threads that have been fetching one file for too long, while others could be read."""
        if self._claimed == len(self._paths):
            return 0
        limit = time.monotonic() - PATIENCE_S
        return sum(start < limit for start in list(self._fetching.values()))

    def _replace(self, hanging: int) -> None:
        missing = min(hanging, SPARE_THREADS) - self._spares
        if missing > 0:
            before = len(self._threads)
            self.add_threads(missing)
            self._spares += len(self._threads) - before

    def _work(self, decoder: Decoder[Item] | None) -> None:
        try:
            with contextlib.nullcontext(self._measured_decode) if decoder is None else decoder() as decode:
                if decoder is not None:
                    self._replaced = True
                while (place := self._claim(may_end=decoder is None)) is not None:
                    self._deliver(place, decode)
        except BaseException as error:  # whatever it is, it belongs to whoever waits
            self._stop(error)

    def _deliver(self, place: int, decode: Callable[[Any], Item]) -> None:
        try:
            item: Item | ImageError = decode(self._fetched(place))
        except ImageError as error:
            item = error
        with self._filled:
            heapq.heappush(self._ready, (place, item))
            self._filled.notify()

    def _fetched(self, place: int) -> Any:  # noqa: ANN401 - whatever fetch returns
        self._fetching[place] = time.monotonic()
        try:
            return self._fetch(self._paths[place])
        finally:
            del self._fetching[place]

    def _measured_decode(self, fetched: Any) -> Item:  # noqa: ANN401 - whatever fetch returns
        start = time.thread_time()
        item = self._decode(fetched)
        with self._room:
            self._decode_s += time.thread_time() - start
            self._decoded += 1
        return item

    def _claim(self, *, may_end: bool) -> int | None:
        """The next file to read, once there is room for its result; None when there is nothing left to do.

        A thread that ``may_end`` also leaves once those with decoders of their own have taken over.
        """
        with self._room:
            self._room.wait_for(
                lambda: self._stopped or self._claimed == len(self._paths) or self._claimed - self._taken < self._window
            )
            if self._stopped or self._claimed == len(self._paths):
                self._room.notify_all()  # whoever else waits has nothing left to do either
                return None
            if may_end and self._replaced:
                self._ended += 1
                self._room.notify()  # the room is another one's
                return None
            self._claimed += 1
            return self._claimed - 1

    def _stop(self, error: BaseException | None = None) -> None:
        with self._filled:
            self._stopped = True
            self._broken = self._broken or error
            self._filled.notify_all()
            self._room.notify_all()

    def close(self) -> None:
        """Stop reading and wait for the threads, but not for one that hangs in its file; safe to call twice."""
        self._stop()
        end = time.monotonic() + _FAREWELL_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._ready.clear()
