"""SQLite connections of a local index: one for its writer, a pool for its readers; transactions and errors."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

from rrid_edge.errors import ClosedError, GalleryBusyError, GalleryError, GalleryMissingError, OutputError, printable
from rrid_edge.file_kinds import no_such
from rrid_edge.files import scratch_folder

FILE_NAME = "meta.sqlite"
_BUSY_S = 30.0
"""Seconds that a connection waits for a lock of SQLite."""
_LOG_MEMORY_BYTES = 1 << 16
_MOST_IDLE = 8
"""Reading connections that stay open between calls."""


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open a database for writing, in WAL mode unless it is new.

    Args:
        path: the file.
        create: make the file if it does not exist.

    Raises:
        GalleryMissingError: the file does not exist.
        GalleryError: the file cannot be opened.
        OutputError: the disk is full.
    """
    if not create:
        refuse_missing(path)
    with translated(path):
        connection = _open(f"{path.absolute().as_uri()}?mode={'rwc' if create else 'rw'}")
        # A new file gets no WAL: a checkpoint at closing fails silently on a full disk and leaves an empty file.
        connection.execute(f"PRAGMA journal_mode = {'DELETE' if create else 'WAL'}")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA secure_delete = ON")
    return connection


def _open(uri: str) -> sqlite3.Connection:
    connection = sqlite3.connect(uri, uri=True, timeout=_BUSY_S, isolation_level=None, check_same_thread=False)
    connection.text_factory = _decode
    return connection


def _decode(data: bytes) -> str:
    """Text of a database, which damage may have made undecodable."""
    return data.decode("utf-8", "surrogateescape")


def refuse_missing(path: Path) -> None:
    """Refuse a folder without a catalogue.

    Raises:
        GalleryMissingError: the file does not exist.
        GalleryError: this user may not enter the folder.
    """
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except PermissionError as error:
        raise _not_permitted(path.parent, "enter this folder") from error
    if found is None:
        folder = path.parent.parent
        if folder.is_file():
            raise GalleryMissingError(f"{printable(folder)}: this is a file; expected a folder that was indexed")
        problem = "no index here" if folder.is_dir() else f"{no_such(folder, 'folder')}, and no index here"
        raise GalleryMissingError(f"{printable(path.parent)}: {problem}; create one with: rrid-edge index FOLDER")


def _not_permitted(path: Path, action: str) -> GalleryError:
    return GalleryError(
        f"{printable(path)}: this user may not {action}: expected read permission for all files of an index; ask its "
        "owner, who can create it with a mode for a group"
    )


def commit_now(connection: sqlite3.Connection) -> None:
    """Commit. A function of its own, so that tests can kill the process here."""
    connection.execute("COMMIT")


def file_mode(folder: Path) -> int:
    """Permissions of an index's files: those of its catalogue."""
    return (folder / FILE_NAME).stat().st_mode & 0o666


@contextlib.contextmanager
def transaction(connection: sqlite3.Connection, *, write: bool = False) -> Iterator[sqlite3.Connection]:
    """A transaction: one snapshot for reading, or one commit. An exception in the body rolls back."""
    connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
    try:
        yield connection
        commit_now(connection)
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def translated(path: Path) -> Iterator[None]:
    """Raise errors of SQLite as errors of this package.

    Args:
        path: the database.
    """
    try:
        yield
    except sqlite3.Error as error:
        raise database_error(path, error) from error
    except UnicodeDecodeError as error:  # in a message of SQLite that quotes a damaged page
        raise damaged_catalogue(path, "its schema is unreadable") from error


def database_error(path: Path, error: object) -> GalleryError | OutputError | ClosedError:
    """The error of this package for an error of SQLite."""
    text = str(error)
    if "disk is full" in text or ("disk I/O" in text and _disk_is_full(path.parent)):
        return OutputError(
            f"{printable(path.parent)}: the index cannot be written (no space left on the disk); committed rows are "
            "kept: free some space and run the command again"
        )
    if "locked" in text or "busy" in text:
        return GalleryBusyError(
            f"{printable(path.parent)}: other programs kept the catalogue busy for {_BUSY_S:.0f} s; nothing is "
            "damaged: try again"
        )
    if "closed database" in text:
        return ClosedError(f"the gallery {printable(path.parent)}")
    if is_damage(error):
        return damaged_catalogue(path, text)
    for file in (path, *(path.with_name(f"{path.name}-{part}") for part in ("wal", "shm"))):
        if file.exists() and not os.access(file, os.R_OK):
            return _not_permitted(file, "read this file")
    if "readonly" in text or not os.access(path.parent, os.W_OK):
        return _not_permitted(path.parent, f"write this folder, which reading it needs now ({text})")
    return GalleryError(
        f"{printable(path)}: the index cannot be read or written now ({text}): check the disk, and try again"
    )


def is_damage(error: object) -> bool:
    """Whether an error of SQLite means that pages of the database are damaged."""
    signs = ("malformed", "not a database", "file is encrypted", "no such column", "no such table", "unsupported file")
    return any(sign in str(error) for sign in signs)


def _disk_is_full(folder: Path) -> bool:
    """Whether a disk has no space for the shared memory of a log; SQLite reports that as an input/output error."""
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize < _LOG_MEMORY_BYTES


def damaged_catalogue(path: Path, reason: str) -> GalleryError:
    """The error of a database that lost pages."""
    return GalleryError(
        f"{printable(path)}: the catalogue is damaged ({reason}); repair it with: rrid-edge index FOLDER. If that "
        "fails too: rrid-edge index FOLDER --rebuild"
    )


class ReadPool:
    """Reading connections of one index. Each is used by one thread at a time.

    A user without write permission gets the committed state too: through the log's shared memory where a writer
    keeps it, and otherwise from a copy in memory. A database is opened as immutable only on a read-only file system.

    Args:
        path: the database.

    Raises:
        GalleryMissingError: the file does not exist.
        GalleryError: the file cannot be opened.
    """

    def __init__(self, path: Path) -> None:
        refuse_missing(path)
        self._path, self._log = path, path.with_name(f"{path.name}-wal")
        self._shared_memory = path.with_name(f"{path.name}-shm")
        self._lock = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._reusable: set[sqlite3.Connection] = set()
        self._file = -1
        self._closed = False
        self._read_only_disk = bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
        self._may_write = os.access(path.parent, os.W_OK)

    def acquire(self) -> sqlite3.Connection:
        """A connection that no other thread uses.

        Raises:
            ClosedError: the pool is closed.
            GalleryError: the database cannot be opened.
        """
        with self._lock:
            if self._closed:
                raise ClosedError(f"the gallery {printable(self._path.parent)}")
            self._follow_rebuilding()
            if self._idle:
                return self._idle.pop()
        with translated(self._path):
            has_log = self._log.exists()
            if self._read_only_disk:
                return self._copied() if has_log and self._log.stat().st_size else self._reused()
            # Without its shared memory, which this user may not create, no process has the log open.
            if not self._may_write and not (has_log and self._shared_memory.exists()):
                return self._copied()
            return self._reused()

    def _follow_rebuilding(self) -> None:
        """Give up connections to a file that another one has replaced: the index was removed and made again."""
        refuse_missing(self._path)
        file = self._path.stat().st_ino
        if file != self._file:
            for connection in self._idle:
                connection.close()
            self._idle.clear()
            self._reusable.clear()
            self._file = file

    def _reused(self) -> sqlite3.Connection:
        connection = self._opened(self._path)
        with self._lock:
            self._reusable.add(connection)
        return connection

    def _opened(self, path: Path) -> sqlite3.Connection:
        immutable = "&immutable=1" if self._read_only_disk and path == self._path else ""
        connection = _open(f"{path.absolute().as_uri()}?mode=ro{immutable}")
        try:
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()  # opens the log
        except BaseException:
            connection.close()
            raise
        return connection

    def _copied(self) -> sqlite3.Connection:
        """A copy in memory of a database whose log cannot be opened where it lies. It is closed after one use."""
        while True:
            before = self._file_state()
            with scratch_folder() as folder:
                copy = folder / self._path.name
                for file in (self._path, self._log):
                    if file.exists():
                        shutil.copyfile(file, copy.with_name(file.name))
                if before != self._file_state():  # a writer came: it may have changed pages during the copy
                    if self._shared_memory.exists() and not self._read_only_disk:
                        return self._opened(self._path)
                    continue
                disk = _open(copy.absolute().as_uri())
                disk.execute("PRAGMA journal_mode = DELETE")  # a database in memory has no log
                memory = _open("file::memory:")
                disk.backup(memory)
                disk.close()
            return memory

    def _file_state(self) -> tuple[int, ...]:
        stat = self._path.stat()
        log_bytes = self._log.stat().st_size if self._log.exists() else -1
        return stat.st_ino, stat.st_size, stat.st_mtime_ns, log_bytes

    def release(self, connection: sqlite3.Connection) -> None:
        """Give a connection back, outside of a transaction."""
        with self._lock:
            is_kept = connection in self._reusable and not connection.in_transaction and not self._closed
            if is_kept and len(self._idle) < _MOST_IDLE:
                self._idle.append(connection)
                return
            self._reusable.discard(connection)
        connection.close()

    def close(self) -> None:
        """Close the idle connections; those in use are closed when they are given back."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()
