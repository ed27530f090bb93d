"""The open people file of a gallery: one connection for all threads, which follows a file that is replaced."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path

from rrid_edge.closable import Closable
from rrid_edge.errors import ClosedError, printable
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.people_file import connect, make_tables, open_file, transaction, translated
from rrid_edge.gallery.people_traces import empty_log


class BookFile(Closable):
    """A people file. One thread at a time uses it.

    Args:
        path: of the file, or None for a database in memory.

    Raises:
        GalleryError: the file is damaged, or a newer release made it.
        OutputError: it cannot be written.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = threading.RLock()
        self._connection: sqlite3.Connection | None = None
        self._is_closed = False
        self._inode = -1
        with self._lock:
            self._open()

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """The connection, outside of a transaction: one statement reads one state.

        Raises:
            ClosedError: the file is closed.
            GalleryError: the file is damaged.
        """
        with self._lock, translated(self._path):
            yield self._open()

    @contextlib.contextmanager
    def writing(self, *, durable: bool = True) -> Iterator[sqlite3.Connection]:
        """The connection in one commit; an exception rolls back.

        Args:
            durable: wait until the commit is on the disk. Otherwise it survives a kill, but maybe not a power failure.

        Raises:
            ClosedError: the file is closed.
            GalleryBusyError: another process holds the file.
            OutputError: the disk refused a write.
        """
        with self.reading() as connection, _synchronous(connection, durable), transaction(connection):
            yield connection

    def empty_log(self) -> bool:
        """Empty the log, which holds old pages; returns whether no reader kept it."""
        with self.reading() as connection:
            return empty_log(connection)

    def _open(self) -> sqlite3.Connection:
        """The connection to the file that has the path now: a rebuild replaces files."""
        if self._is_closed:
            raise ClosedError(f"the people file {printable(self._path or 'in memory')}")
        inode = _inode(self._path)
        if self._connection is not None and inode == self._inode:
            return self._connection
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if self._path is None:
            self._connection = connect(None)
            make_tables(self._connection)
        else:
            self._connection = open_file(self._path)
        self._inode = _inode(self._path)
        return self._connection

    def close(self) -> None:
        """Close the file; safe to call twice."""
        with self._lock:
            self._is_closed = True
            if self._connection is not None:
                self._connection.close()
                self._connection = None


@contextlib.contextmanager
def _synchronous(connection: sqlite3.Connection, durable: bool) -> Iterator[None]:
    if durable:
        yield
        return
    connection.execute("PRAGMA synchronous = NORMAL")
    try:
        yield
    finally:
        connection.execute("PRAGMA synchronous = FULL")


def _inode(path: Path | None) -> int:
    if path is None:
        return 0
    try:
        return path.stat().st_ino
    except OSError:
        return -1


def mark_of(row: GalleryRow) -> int:
    """What tells a crop from another one of the same id: gallery ids begin at 1 again after a rebuild."""
    return zlib.crc32((row.sha256 or str(row.crc32)).encode())
