"""The system's reports of changes in a folder."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path
from types import TracebackType
from typing import Any

from typing_extensions import Self

from rrid_edge.errors import UsageError, printable
from rrid_edge.file_kinds import no_such
from rrid_edge.machine.advice import missing_package

_MOST_TRIES = 5
"""Attempts to receive reports without a single answer. Changes are then found by comparisons only."""
_TICK_S = 0.5
"""Seconds of one wait for a change, and so between two checks of files that were not finished."""


class FolderListener:
    """Receives the system's reports of changes in a thread, so that none is lost during an indexing run.

    Raises:
        MissingDependencyError: watchfiles is not installed.
        UsageError: the folder does not exist, or the system cannot watch it.
    """

    def __init__(self, folder: Path, stop: threading.Event) -> None:
        if not folder.is_dir():
            raise UsageError(f"{printable(folder)}: {no_such(folder, 'folder')}; give a folder of image files")
        self._folder, self._root = folder, folder.resolve()
        self._watchfiles = import_watchfiles()
        self._stop, self._started, self._changed = stop, threading.Event(), threading.Event()
        self._failure: OSError | None = None
        self._tries = 0
        self._thread = threading.Thread(target=self._listen, name="watch", daemon=True)

    @property
    def is_deaf(self) -> bool:
        """Whether no change is reported, as for a folder whose name is no UTF-8."""
        return self._tries >= _MOST_TRIES

    def wait(self) -> bool:
        """Wait up to :data:`_TICK_S` for a change; returns whether there was one since the last call."""
        self._changed.wait(_TICK_S)
        self._refuse_failure()
        changed = self._changed.is_set()
        self._changed.clear()
        return changed

    def _listen(self) -> None:
        try:
            while self._tries < _MOST_TRIES and not self._stop.is_set():
                self._tries += 1
                # watchfiles ends with an exception at a name that is no UTF-8. The comparison finds that file.
                with contextlib.suppress(Exception):
                    self._receive()
                self._changed.set()
                self._stop.wait(_TICK_S / 5)
        finally:
            if not self._stop.is_set():
                self._tries = _MOST_TRIES
            self._started.set()
            self._changed.set()

    def _receive(self) -> None:
        """Receive reports until the end of the watch or a failure of the system."""
        try:
            for changes in self._watchfiles.watch(
                self._root,
                watch_filter=self._is_relevant,
                stop_event=self._stop,
                rust_timeout=int(_TICK_S * 1000),
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                self._hear()
                if changes:
                    self._changed.set()
        except OSError as error:
            self._failure = error
            self._tries = _MOST_TRIES

    def _hear(self) -> None:
        """Note that reports arrive. What changed before, since the last try failed, was not reported."""
        self._started.set()
        if self._tries > 1:
            self._changed.set()
        self._tries = 1

    def _is_relevant(self, _change: object, path: str) -> bool:
        """Ignore hidden files and folders, such as the index itself, which changes with every run and every reader."""
        self._hear()  # hidden changes come without end while others read, and then nothing else is reported
        return not any(part.startswith(".") for part in Path(path).relative_to(self._root).parts)

    def _refuse_failure(self) -> None:
        if self._failure is not None:
            raise UsageError(
                f"{printable(self._folder)}: this folder cannot be watched "
                f"({self._failure.strerror or self._failure}); raise fs.inotify.max_user_watches, or set "
                "WATCHFILES_FORCE_POLLING=1"
            ) from self._failure

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait()
        self._refuse_failure()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()


def import_watchfiles() -> Any:  # noqa: ANN401 - the package has no types
    """The package that receives the system's reports.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        import watchfiles
    except ImportError as error:
        raise missing_package("watchfiles", "watch", "following a folder") from error
    return watchfiles
