"""Committing embedded batches in a thread of its own, so that the disk never stops the engine."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Mapping, Set
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from rrid_edge.crops.naming import NameFacts
from rrid_edge.embedding.pipeline import EmbeddedBatch
from rrid_edge.gallery.base import Gallery, GalleryRow, NewRow

COMMIT_ROWS = 256
"""Rows of one commit: each costs 1 to 3 ms on a good disk, more on eMMC."""
_WAITING_BATCHES = 4
_IDLE_S = 1.0
"""Without a new batch for so long, what is there is committed: a file that hangs must not keep others uncommitted."""


class GalleryWriter:
    """Collects embedded batches and commits them some hundred rows at a time; a context manager.

    Between entering and leaving nobody else may write to the gallery. Leaving commits what was taken, also after an error
    or Ctrl-C in the body, and raises what the thread raised.

    Args:
        folder: of the crops.
        gallery: open for writing.
        stored: rows of the gallery by path.
        damaged: paths whose stored vector is damaged.
        reader: what a name tells.

    Attributes:
        added: crops that are new; valid after leaving, like the following.
        changed: crops stored again.
        failed: files that could not be read, with the reason.
        waited_s: seconds for which :meth:`take` had to wait for the disk.
    """

    def __init__(
        self,
        folder: Path,
        gallery: Gallery,
        stored: Mapping[str, GalleryRow],
        damaged: Set[str],
        reader: Callable[[str], NameFacts],
    ) -> None:
        self._folder, self._gallery, self._stored, self._damaged = folder, gallery, stored, damaged
        self._reader = reader
        self._rows: list[NewRow] = []
        self._vectors: list[NDArray[np.float32]] = []
        self._touched: list[GalleryRow] = []
        self.added = self.changed = 0
        self.failed: list[tuple[str, str]] = []
        self.waited_s = 0.0
        self._batches: queue.Queue[EmbeddedBatch | None] = queue.Queue(_WAITING_BATCHES)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="commit")

    def take(self, batch: EmbeddedBatch) -> None:
        """Hand a batch over to be committed; waits while the disk is behind.

        Raises:
            OutputError: an earlier commit failed; nothing that was committed is lost.
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
        """Do a step unless one failed before: batches are still taken then, so that nobody waits for ever."""
        if self._error is None:
            try:
                step()
            except BaseException as error:  # raised where the batches come from
                self._error = error

    def _collect(self, batch: EmbeddedBatch) -> None:
        self.failed += [(path.relative_to(self._folder).as_posix(), reason) for path, reason in batch.failed]
        for facts, vector in zip(batch.files, batch.descriptors, strict=True):
            name = facts.path.relative_to(self._folder).as_posix()
            old = self._stored.get(name)
            if old is not None and old.sha256 == facts.sha256 and name not in self._damaged:
                self._touched.append(replace(old, size=facts.size, mtime_ns=facts.mtime_ns))
                continue
            told = self._reader(name)
            self._rows.append(
                NewRow(name, facts.sha256, facts.size, facts.mtime_ns, told.camera, told.person, told.time)
            )
            self._vectors.append(vector)
            self.added += old is None
            self.changed += old is not None
        if len(self._rows) >= COMMIT_ROWS:
            self._commit()

    def _commit(self) -> None:
        if self._rows:
            self._gallery.add(self._rows, np.stack(self._vectors))
        self._gallery.update_stat(self._touched)
        self._rows, self._vectors, self._touched = [], [], []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._batches.put(None)
        self._thread.join()
        if error is None:
            self._raise()
