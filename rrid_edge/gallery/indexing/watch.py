"""Following a folder: it is indexed again whenever files are added, changed or deleted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from rrid_edge.engines.base import Engine
from rrid_edge.errors import (
    FolderUnavailableError,
    GalleryBusyError,
    GalleryUnavailableError,
    OutputError,
    RridEdgeError,
    UsageError,
    printable,
    unforeseen,
)
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.listening import FolderListener
from rrid_edge.gallery.indexing.reporting import WatchWarnings
from rrid_edge.gallery.indexing.settings import IndexControl, IndexSettings
from rrid_edge.gallery.indexing.sync import IndexReport, index_folder
from rrid_edge.progress import NO_PROGRESS, Progress

_EXPIRE_S = 60.0
"""Least seconds between two searches for crops that are older than the gallery keeps: each reads all rows."""


@dataclass(frozen=True)
class WatchSettings:
    """How to follow a folder.

    Attributes:
        settle_s: seconds for which size and modification time of a file must stay the same before it is read.
        rescan_s: seconds between two comparisons of the whole folder. Network file systems do not report the changes of
            other machines, so these are found by comparison.
        index: how to index.
        pause: called after every batch; True ends the run early, so that others can write before the next one.
        progress: receives, for each run, the number of files to embed, and how many are done.
    """

    settle_s: float = 1.0
    rescan_s: float = 30.0
    index: IndexSettings = field(default_factory=IndexSettings)
    pause: Callable[[], bool] = lambda: False
    progress: Progress = NO_PROGRESS

    def __post_init__(self) -> None:
        if not self.settle_s >= 0:
            raise UsageError(
                f"settle_s {self.settle_s} does not work: expected 0 or more seconds", parameter="settle_s"
            )
        if not self.rescan_s > 0:
            raise UsageError(
                f"rescan_s {self.rescan_s} does not work: expected more than 0 seconds", parameter="rescan_s"
            )


class WatchListener(Protocol):
    """Receives the results of a watch, in the thread that watches."""

    def indexed(self, report: IndexReport) -> None:
        """A run changed the gallery, or found files that cannot be read. ``report.failed`` holds new failures only."""

    def warn(self, message: str) -> None:
        """One line about a file or a problem. It is repeated only after the problem has changed."""


class Settling:
    """Decides whether a file is finished or still being written.

    A file is finished if its size and modification time stayed the same for ``settle_s``, between two calls or by the
    modification time itself.

    Args:
        settle_s: seconds.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._first_seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def __call__(self, path: Path) -> bool:
        """Whether ``path`` is finished. A file that does not exist is not."""
        try:
            stat = path.stat()
        except OSError:
            self._first_seen.pop(path, None)
            return False
        state, now = (stat.st_size, stat.st_mtime_ns), time.monotonic()
        seen = self._first_seen.get(path)
        if seen is None or seen[0] != state:
            self._first_seen[path] = seen = (state, now)
        return now - seen[1] >= self._settle_s or time.time() - stat.st_mtime >= self._settle_s

    def clear(self) -> None:
        """Discard all that was seen."""
        self._first_seen.clear()


def watch_folder(
    folder: Path,
    open_store: Callable[[], AbstractContextManager[GalleryStore]],
    engine: Engine,
    settings: WatchSettings,
    *,
    stop: threading.Event,
    listener: WatchListener,
) -> None:
    """Index a folder, then again whenever it changes, until ``stop`` is set.

    The gallery is opened for each run, so other processes may write it in between. A busy gallery, an unavailable
    folder or server, or a full disk is reported to ``listener``; the run is repeated until it succeeds. So is an error
    that nobody foresaw, whose run is repeated with the next comparison. Rows of vanished sub-folders stay, and are
    reported, unless the settings allow removals.

    Args:
        folder: of crops; it may be empty at first.
        open_store: opens the gallery for writing.
        engine: of the gallery's model.
        settings: when a file is finished, how often to compare the folder, how to index.
        stop: ends the watch after the current batch, which is committed.
        listener: receives results and warnings.

    Raises:
        MissingDependencyError: watchfiles is not installed.
        UsageError: the folder does not exist, or the system cannot watch it.
        FingerprintMismatchError: the gallery was indexed with another model.
    """
    watch = _Watch(folder, open_store, engine, settings, listener)
    next_run_s = -float("inf")
    with FolderListener(folder, stop) as changes:
        is_warned = False
        while not stop.is_set():
            if changes.is_deaf and not is_warned:
                is_warned = True
                line = f"{printable(folder)}: the system does not report changes in this folder"
                listener.warn(f"{line}; they are found by comparing it every {settings.rescan_s:g} seconds")
            if changes.wait() or time.monotonic() >= next_run_s:
                start_s = time.monotonic()
                is_settled = watch.run(stop)
                next_run_s = start_s + settings.rescan_s if is_settled else -float("inf")


class _Watch:
    """The runs of one watch; the arguments are those of :func:`watch_folder`."""

    def __init__(
        self,
        folder: Path,
        open_store: Callable[[], AbstractContextManager[GalleryStore]],
        engine: Engine,
        settings: WatchSettings,
        listener: WatchListener,
    ) -> None:
        self._folder, self._open_gallery, self._engine = folder, open_store, engine
        self._settings, self._listener = settings, listener
        self._settling = Settling(settings.settle_s)
        self._warnings = WatchWarnings(listener.warn)
        self._is_verified = False
        self._expire_at_s = -float("inf")

    def run(self, stop: threading.Event) -> bool:
        """Index once; returns whether nothing was left to do. The first run that succeeds checks all stored vectors."""
        start_s = time.monotonic()
        expire = start_s >= self._expire_at_s
        settings = self._settings
        control = IndexControl(
            self._settling, lambda: stop.is_set() or settings.pause(), verify=not self._is_verified, expire=expire
        )
        try:
            with self._open_gallery() as gallery:
                report = index_folder(
                    self._folder, gallery, self._engine, settings.index, progress=settings.progress, control=control
                )
        except (GalleryBusyError, GalleryUnavailableError, OutputError, FolderUnavailableError) as error:
            self._warnings.problem(error.message)
            return False
        except RridEdgeError:
            raise
        except Exception as error:  # a bad hour of this machine must not end a watch of weeks
            self._warnings.problem(unforeseen(error))
            return True
        self._warnings.problem("")
        self._warnings.removals(report.refused)
        self._is_verified = True
        if expire:
            self._expire_at_s = start_s + _EXPIRE_S
        new_failures = self._warnings.files(report)
        has_changed = bool(report.added or report.changed or report.removed or report.expired or report.reread)
        if has_changed or new_failures:
            self._listener.indexed(replace(report, failed=new_failures))
        # Another run finds what changed during this one, whether the system reported it or not.
        is_settled = not has_changed and not report.waiting
        if is_settled:
            self._settling.clear()
        return is_settled
