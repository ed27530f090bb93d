"""What stopped work kept: notes for the one line that a command prints after Ctrl-C or SIGTERM."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

_KEPT = "_rrid_edge_kept"
_RESULTS: ContextVar[Results | None] = ContextVar("results", default=None)


class TerminatedError(KeyboardInterrupt):
    """SIGTERM asks the process to end. It stops work as Ctrl-C does."""


@contextlib.contextmanager
def kept_if_stopped(tell: Callable[[], str]) -> Iterator[None]:
    """Note what is kept, and how the work goes on, if Ctrl-C or SIGTERM stops the block.

    Of nested blocks the innermost wins.

    Args:
        tell: gives one line, such as ``1,024 of 20,000 crops are indexed``; empty if the block has said it itself. It
            is called after the block has cleaned up, and must tell what is really stored by then.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if kept_of(stop) is None:
            setattr(stop, _KEPT, tell())
        raise


@contextlib.contextmanager
def going_on(advice: str) -> Iterator[None]:
    """Add how the work goes on to the line that the block noted, if it is stopped and noted one."""
    try:
        yield
    except KeyboardInterrupt as stop:
        if kept := kept_of(stop):
            setattr(stop, _KEPT, f"{kept}; {advice}")
        raise


def stopped_and_told(stop: KeyboardInterrupt) -> KeyboardInterrupt:
    """``stop``, about which everything is said."""
    setattr(stop, _KEPT, "")
    return stop


def kept_of(stop: KeyboardInterrupt) -> str | None:
    """The line that :func:`kept_if_stopped` noted; None if it noted none."""
    kept = getattr(stop, _KEPT, None)
    return kept if isinstance(kept, str) else None


@contextlib.contextmanager
def writing_files_only() -> Iterator[None]:
    """Context in which a command on a gallery changes nothing, and writes nothing but files."""
    results = _RESULTS.get()
    try:
        yield
    except KeyboardInterrupt:
        if results is not None:
            results.are_all = True
        raise


class Results:
    """Files and folders that got their final names, in the order of writing.

    Attributes:
        are_all: nothing else is written. False for work on galleries and on runs of a training.
    """

    def __init__(self, *, are_all: bool = True) -> None:
        self.are_all = are_all
        self._noted: dict[Path, int] = {}

    def note(self, path: Path, inode: int) -> None:
        """The file with this inode is about to become ``path``."""
        self._noted[path] = inode

    def written(self) -> list[Path]:
        """Those that really are where they were to be."""
        found = []
        for path, inode in self._noted.items():
            with contextlib.suppress(OSError):
                if path.stat().st_ino == inode:
                    found.append(path)
        return found


@contextlib.contextmanager
def collecting_results(results: Results | None) -> Iterator[None]:
    """Context in which the files that this thread completes are noted in ``results``; None notes none."""
    token = _RESULTS.set(results)
    try:
        yield
    finally:
        _RESULTS.reset(token)


def results_here() -> Results | None:
    """What :func:`collecting_results` collects in this thread."""
    return _RESULTS.get()


def note_result(path: Path, complete: Path) -> None:
    """The file or folder ``complete`` is about to be renamed to ``path``."""
    results = _RESULTS.get()
    if results is not None:
        results.note(path, complete.stat().st_ino)
