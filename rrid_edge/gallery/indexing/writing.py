"""Committing embedded batches in a thread, so that the engine does not wait for the disk."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Set
from types import TracebackType

from typing_extensions import Self

from rrid_edge.embedding.pipeline import EmbeddedBatch
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.left_out import FileState
from rrid_edge.gallery.indexing.rows import DescribedRow, RowReader, made_rows, store_rows
from rrid_edge.gallery.indexing.sparing import store_each

COMMIT_ROWS = 256
"""Rows per commit. A commit takes 1 to 3 ms on a good disk, more on eMMC."""
_QUEUED_BATCHES = 4
_IDLE_S = 1.0
"""Seconds without a new batch after which collected rows are committed, even if one file hangs."""


class GalleryWriter:
    """Collects embedded batches and commits them in groups of :data:`COMMIT_ROWS`; a context manager.

    Inside the context only this object may write to the gallery. Leaving it commits all batches taken, also after an
    error or Ctrl-C, and raises the thread's error. Attributes are valid after leaving.

    Args:
        gallery: open for writing.
        stored: rows of the gallery by path.
        damaged: paths whose stored vector is damaged.
        reader: reads the facts of the folder's crops.

    Attributes:
        folder: of the crops.
        added: number of new crops.
        changed: number of crops stored again.
        failed: files that could not be read or stored, with the reason.
        forgotten: files whose content was forgotten, so that they were not stored; with their state.
        waited_s: seconds for which :meth:`take` waited for the disk.
    """

    def __init__(
        self, gallery: GalleryStore, stored: Mapping[str, GalleryRow], damaged: Set[str], reader: RowReader
    ) -> None:
        self._gallery, self._stored, self._damaged, self._reader = gallery, stored, damaged, reader
        self.folder = reader.folder
        self._rows: list[DescribedRow] = []
        self._touched: list[GalleryRow] = []
        self.added = self.changed = 0
        self.failed: list[tuple[str, str]] = []
        self.forgotten: dict[str, FileState] = {}
        self.waited_s = 0.0
        self._batches: queue.Queue[EmbeddedBatch | None] = queue.Queue(_QUEUED_BATCHES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="commit")

    def take(self, batch: EmbeddedBatch) -> None:
        """Queue a batch for the next commit. Waits while the queue is full.

        Raises:
            OutputError: an earlier commit failed; committed rows are kept.
        """
        self._raise()
        start = time.perf_counter()
        self._batches.put(batch)
        self.waited_s += time.perf_counter() - start

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            try:
                batch = self._batches.get(timeout=_IDLE_S)
            except queue.Empty:
                self._try(self._commit)
                continue
            if batch is None:
                self._try(self._commit)
                return
            self._try(lambda batch=batch: self._collect(batch))  # type: ignore[misc]

    def _try(self, step: Callable[[], None]) -> None:
        """Run a step, unless an earlier one failed.

        The queue is still emptied then, so that :meth:`take` never blocks.
        """
        if self._error is None:
            try:
                step()
            except BaseException as error:  # raised by take() or on leaving
                self._error = error

    def _collect(self, batch: EmbeddedBatch) -> None:
        kept_out = self._gallery.kept_out([facts.sha256 for facts in batch.files]) if batch.files else set()
        made = made_rows(batch, self._reader, self._stored, damaged=self._damaged, kept_out=kept_out)
        self.failed += made.failed
        self.forgotten |= made.forgotten
        self._rows += made.rows
        self._touched += made.touched
        if len(self._rows) >= COMMIT_ROWS:
            self._commit()

    def _commit(self) -> None:
        """Store what was collected. A row that cannot be stored costs no other one."""
        rows, touched = self._rows, self._touched
        self._rows, self._touched = [], []
        lost = store_rows(self._gallery, rows)
        replaced = sum(row.path in self._stored for row, _ in rows) - sum(row.path in self._stored for row, _ in lost)
        self.added += len(rows) - len(lost) - replaced
        self.changed += replaced
        if touched:
            lost += [(row, reason) for row, reason in store_each(self._gallery.update, touched)]
        self.failed += [(row.path or "", reason) for row, reason in lost]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        stop = self._end_thread()
        if error is None:
            if stop is not None:
                raise stop
            self._raise()

    def _end_thread(self) -> KeyboardInterrupt | None:
        """Wait until all batches are committed, also after Ctrl-C, which is returned."""
        stop = None
        waits: tuple[Callable[[], None], ...] = (lambda: self._batches.put(None), self._thread.join)
        for wait in waits:
            while True:
                try:
                    wait()
                    break
                except KeyboardInterrupt as request:
                    stop = request
        return stop
