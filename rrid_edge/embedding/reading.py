"""Threads that read and decode files ahead of their consumer, in bounded memory and past slow files."""

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
from rrid_edge.errors import ImageError, unforeseen

PARTIAL_BATCH_AFTER_S = 0.5
"""Seconds before a partial batch is handed out. A slower read counts as hung."""
MAX_SPARE_THREADS = 16
"""Extra threads that replace hung reads (a stalled network share). With more hung reads, reading stalls."""
_JOIN_TIMEOUT_S = 2.0

Item = TypeVar("Item")
Decoder = Callable[[], AbstractContextManager[Callable[[Any], Item]]]
"""Makes a context manager that gives one thread its own decoding function."""


class ReadAhead(Closable, Generic[Item]):
    """Reads and decodes files in threads. At most ``window`` files are in memory. A context manager.

    An extra thread replaces one whose fetch hangs, because that one uses no CPU. Slow decoding gets no extra thread.
    Threads can have a decoder of their own, such as a process.

    Args:
        paths: the files.
        fetch: reads a file. An exception becomes that file's result, as an :class:`ImageError`.
        decode: turns what was fetched into an item; same errors.
        threads: number of threads at the start.
        window: largest number of files in memory.
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
        """Working threads, without the extra ones that replace hung reads."""
        return len(self._threads) - self._spares - self._ended

    @property
    def taken(self) -> int:
        """Number of results handed out."""
        return self._taken

    @property
    def decode_s(self) -> float:
        """Mean CPU seconds per file decoded in this process; 0 before the first."""
        return self._decode_s / max(1, self._decoded)

    def add_threads(self, count: int) -> None:
        """Start more threads, at most one per file."""
        with self._starting:
            for _ in range(min(count, len(self._paths) - len(self._threads))):
                # Daemons: a read that hangs in the kernel must not keep a stopped program alive.
                name = f"decode-{len(self._threads)}"
                thread = threading.Thread(target=self._work, args=(self._decoder,), name=name, daemon=True)
                self._threads.append(thread)
                thread.start()

    def replace_threads(self, count: int, decoder: Decoder[Item]) -> None:
        """Start ``count`` threads with decoders of their own. The other threads end once the first decoder is ready."""
        self._decoder = decoder
        self.add_threads(count)

    def take(self, count: int) -> list[tuple[int, Item | ImageError]]:
        """Up to ``count`` results with the indices of their files, lowest first; an empty list after the last.

        Waits for ``count`` results, or for all that are left. After :data:`PARTIAL_BATCH_AFTER_S` it returns the
        results that are ready; late ones come with a later call. :meth:`close` ends the wait.
        """
        while self._taken < len(self._paths) and not self._stopped:
            with self._filled:
                wanted = min(count, len(self._paths) - self._taken, self._window)
                self._filled.wait_for(
                    lambda: self._stopped or len(self._ready) >= wanted,  # noqa: B023 - called in this iteration only
                    PARTIAL_BATCH_AFTER_S,
                )
                if self._stopped:
                    break
                if self._ready:
                    taken = [heapq.heappop(self._ready) for _ in range(min(wanted, len(self._ready)))]
                    self._taken += len(taken)
                    self._room.notify(len(taken))
                    return taken
                hung = self._hung()
            self._replace(hung)
        if self._broken is not None:
            raise self._broken
        return []

    def _hung(self) -> int:
        """Number of threads whose fetch exceeds the limit while files are left to claim."""
        if self._claimed == len(self._paths):
            return 0
        limit = time.monotonic() - PARTIAL_BATCH_AFTER_S
        return sum(start < limit for start in list(self._fetching.values()))

    def _replace(self, hung: int) -> None:
        missing = min(hung, MAX_SPARE_THREADS) - self._spares
        if missing > 0:
            before = len(self._threads)
            self.add_threads(missing)
            self._spares += len(self._threads) - before

    def _work(self, decoder: Decoder[Item] | None) -> None:
        try:
            with contextlib.nullcontext(self._measured_decode) if decoder is None else decoder() as decode:
                if decoder is not None:
                    self._replaced = True
                while (index := self._claim(may_end=decoder is None)) is not None:
                    self._deliver(index, decode)
        except BaseException as error:  # take() raises it in the consumer's thread
            self._stop(error)

    def _deliver(self, index: int, decode: Callable[[Any], Item]) -> None:
        try:
            item: Item | ImageError = decode(self._fetched(index))
        except ImageError as error:
            item = error
        except Exception as error:  # it costs this file only
            item = ImageError(
                self._paths[index], f"cannot be read ({unforeseen(error)}); fetch it again or leave it out"
            )
        with self._filled:
            heapq.heappush(self._ready, (index, item))
            self._filled.notify()

    def _fetched(self, index: int) -> Any:  # noqa: ANN401 - the type that fetch returns
        self._fetching[index] = time.monotonic()
        try:
            return self._fetch(self._paths[index])
        finally:
            del self._fetching[index]

    def _measured_decode(self, fetched: Any) -> Item:  # noqa: ANN401 - the type that fetch returns
        start = time.thread_time()
        item = self._decode(fetched)
        with self._room:
            self._decode_s += time.thread_time() - start
            self._decoded += 1
        return item

    def _claim(self, *, may_end: bool) -> int | None:
        """Index of the next file, once the window has room for it; None when the thread should end.

        With ``may_end`` the thread also ends once threads with decoders of their own have taken over.
        """
        with self._room:
            self._room.wait_for(
                lambda: self._stopped or self._claimed == len(self._paths) or self._claimed - self._taken < self._window
            )
            if self._stopped or self._claimed == len(self._paths):
                self._room.notify_all()  # the other waiting threads end too
                return None
            if may_end and self._replaced:
                self._ended += 1
                self._room.notify()  # passes the free slot to another thread
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
        """Stop reading and join the threads, except those in a hung read; safe to call twice."""
        self._stop()
        end = time.monotonic() + _JOIN_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self._ready.clear()
