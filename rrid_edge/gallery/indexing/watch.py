"""Following a folder: its index is brought in step again whenever files come, change or go."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from rrid_edge.engines.base import Engine
from rrid_edge.errors import (
    FolderUnavailableError,
    GalleryBusyError,
    GalleryUnavailableError,
    MissingDependencyError,
    OutputError,
    UsageError,
    printable,
)
from rrid_edge.gallery.base import Gallery
from rrid_edge.gallery.indexing.sync import IndexReport, IndexSettings, index_folder

_TICK_S = 0.5
"""How often files that were not finished are looked at again, where the system reports nothing."""


@dataclass(frozen=True)
class WatchSettings:
    """How to follow a folder.

    Attributes:
        settle_s: seconds for which a file's size and modification time must stay as they are before it is taken.
        look_s: seconds after which the whole folder is compared even where the system reported nothing: network file
            systems do not report what other machines do.
    """

    settle_s: float = 1.0
    look_s: float = 30.0

    def __post_init__(self) -> None:
        if not (self.settle_s >= 0 and self.look_s > 0):
            raise UsageError(
                f"{self.settle_s} s to settle and a look every {self.look_s} s do not work: expected 0 or more, and more than 0"
            )


class Settling:
    """Tells files that are finished from those that are still being written.

    A file is finished when its size and modification time have not changed for ``settle_s``: by what was seen before, or
    because the modification time itself lies that far back.
    """

    def __init__(self, settle_s: float) -> None:
        self._settle_s = settle_s
        self._seen: dict[Path, tuple[tuple[int, int], float]] = {}

    def __call__(self, path: Path) -> bool:
        """Whether ``path`` is finished; a file that is gone is not."""
        try:
            found = path.stat()
        except OSError:
            self._seen.pop(path, None)
            return False
        mark, now = (found.st_size, found.st_mtime_ns), time.monotonic()
        known = self._seen.get(path)
        if known is None or known[0] != mark:
            self._seen[path] = known = (mark, now)
        return now - known[1] >= self._settle_s or time.time() - found.st_mtime >= self._settle_s

    def forget(self) -> None:
        """Start anew: nothing is being written."""
        self._seen.clear()


def watch_folder(
    folder: Path,
    open_gallery: Callable[[], Gallery],
    engine: Engine,
    settings: IndexSettings,
    watching: WatchSettings,
    *,
    stop: threading.Event,
    report: Callable[[IndexReport], None],
    complain: Callable[[str], None],
) -> None:
    """Keep a gallery in step with its folder until ``stop`` is set.

    The index is open for writing only while something is done, so that others can index in between. What can pass by itself
    (an unmounted disk, a full one, another writer) is told once and tried again.

    Args:
        folder: of crops; it may be empty at first.
        open_gallery: opens the gallery for writing.
        engine: of the gallery's model.
        settings: pattern, threads, batch.
        watching: when files are finished, how often to look at everything.
        stop: ends the watch: after the batch at work, which is committed.
        report: called with what was done, when anything was.
        complain: called with one line for each file that cannot be read and for each trouble, not again while it stays the
            same.

    Raises:
        MissingDependencyError: watchfiles is not installed.
        UsageError: no such folder, or the system cannot watch it.
    """
    ready, told = Settling(watching.settle_s), _Complaints(complain)
    looked, again, first = -float("inf"), True, True
    with _Ear(folder, stop) as ear:
        while not stop.is_set():
            if not (ear.heard() or again or time.monotonic() - looked >= watching.look_s):
                continue
            looked = time.monotonic()
            try:
                with open_gallery() as gallery:
                    found = index_folder(folder, gallery, engine, settings, ready=ready, stop=stop.is_set, verify=first)
            except (GalleryBusyError, GalleryUnavailableError, OutputError, FolderUnavailableError) as error:
                told.trouble(error.message)
                again = True
                continue
            told.trouble("")
            fresh = told.files(found)
            done = bool(found.added or found.changed or found.removed)
            # What came while this was done is found by looking once more, whether the system reported it or not.
            again, first = done or found.waiting > 0, False
            if not again:
                ready.forget()
            if done or fresh:
                report(replace(found, failed=fresh))


class _Complaints:
    """Tells every trouble once, for as long as it lasts."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self._complain = complain
        self._files: frozenset[tuple[str, str]] = frozenset()
        self._trouble = ""

    def trouble(self, line: str) -> None:
        if line and line != self._trouble:
            self._complain(f"{line}; still watching")
        self._trouble = line

    def files(self, report: IndexReport) -> tuple[tuple[str, str], ...]:
        """Complain of files that are left out since the last report; returns those that could not be read."""
        now = frozenset((*report.failed, *report.skipped))
        fresh = now - self._files
        self._files = now
        for path, reason in sorted(fresh):
            self._complain(f"left out {printable(path)}: {reason}")
        return tuple(item for item in report.failed if item in fresh)


class _Ear:
    """Listens, in a thread of its own, to what the system reports of a folder: reports that nobody waits for would be lost.

    Raises:
        MissingDependencyError: watchfiles is not installed.
        UsageError: no such folder, or the system cannot watch it.
    """

    def __init__(self, folder: Path, stop: threading.Event) -> None:
        if not folder.is_dir():
            raise UsageError(f"{printable(folder)}: no such folder; give a folder of image files")
        self._folder, self._root = folder, folder.resolve()
        self._watchfiles = _import_watchfiles()
        self._stop, self._begun, self._changed = stop, threading.Event(), threading.Event()
        self._failure: OSError | None = None
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)

    def heard(self) -> bool:
        """Whether anything changed since the last call; waits for it for :data:`_TICK_S`."""
        self._changed.wait(_TICK_S)
        self._refuse_failure()
        changed = self._changed.is_set()
        self._changed.clear()
        return changed

    def _listen(self) -> None:
        try:
            for changes in self._watchfiles.watch(
                self._root,
                watch_filter=self._concerns,
                stop_event=self._stop,
                rust_timeout=int(_TICK_S * 1000),
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                self._begun.set()
                if changes:
                    self._changed.set()
        except OSError as error:
            self._failure = error
        finally:
            self._begun.set()
            self._changed.set()

    def _concerns(self, _change: object, path: str) -> bool:
        """Hidden files and folders are no part of a gallery; the index itself is one, and may be busy without an end."""
        self._begun.set()
        return not any(part.startswith(".") for part in Path(path).relative_to(self._root).parts)

    def _refuse_failure(self) -> None:
        if self._failure is not None:
            raise UsageError(
                f"{printable(self._folder)}: cannot be watched ({self._failure.strerror or self._failure}); raise the limit "
                "fs.inotify.max_user_watches, or set WATCHFILES_FORCE_POLLING=1"
            ) from self._failure

    def __enter__(self) -> Self:
        self._thread.start()
        self._begun.wait()
        self._refuse_failure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def _import_watchfiles() -> Any:  # noqa: ANN401 - the package has no types
    try:
        import watchfiles
    except ImportError as error:
        raise MissingDependencyError.for_package("watchfiles", "watch", "following a folder") from error
    return watchfiles
