"""The catalogue of the local store: SQLite in WAL mode, synchronous to the disk; its commit is the only commit point."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rrid_edge.errors import GalleryError, GalleryMissingError, OutputError, printable
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.shared import row_check
from rrid_edge.model.spec import ModelSpec

FILE_NAME = "meta.sqlite"
FORMAT = 1

_SCHEMA = """
CREATE TABLE info (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE row (
    slot INTEGER PRIMARY KEY,
    path BLOB NOT NULL,
    sha256 TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    camera INTEGER,
    person TEXT,
    time INTEGER,
    crc32 INTEGER NOT NULL,
    check32 INTEGER NOT NULL,
    dead INTEGER NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX live_path ON row (path) WHERE dead = 0;
"""
_COLUMNS = "slot, path, sha256, size, mtime_ns, camera, person, time, crc32, check32"
_ASKED_AT_ONCE = 500
"""Slots in one query: SQLite limits the number of parameters."""


class Catalogue:
    """Rows and facts of one local gallery; threads may share it, and wait for each other's transactions.

    Args:
        folder: of the index.
        read_only: open without the right to write; a read-only file system is opened as immutable.

    Raises:
        GalleryError: no database, damaged, or of a newer format.
    """

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.RLock()
        self._connection = _connect(self.path, read_only=read_only)
        self._facts: tuple[tuple[int, int], dict[str, str]] | None = None
        self._read: tuple[tuple[int, int], list[GalleryRow]] | None = None
        self._counted: tuple[tuple[int, int], int] | None = None
        try:
            with self.transaction() as connection:
                version = self.facts(connection).get("format", "unknown")
        except BaseException:
            self.close()
            raise
        if version == "unknown" or int(version) > FORMAT:
            self.close()
            raise GalleryError(
                f"{printable(self.path)}: index format {version} is newer than this rrid-edge reads ({FORMAT}); "
                "update rrid-edge"
            )

    @classmethod
    def create(cls, folder: Path, spec: ModelSpec, dtype: str) -> None:
        """Make an empty catalogue.

        Raises:
            GalleryError: it cannot be written.
            OutputError: the disk is full.
        """
        path = folder / FILE_NAME
        facts = {"format": str(FORMAT), "dtype": dtype, "generation": "0", "slots": "0", "model": ""}
        facts["spec"] = json.dumps(spec.to_metadata())
        connection = _connect(path, read_only=False, create=True)
        try:
            with connection:
                connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA)
                connection.executemany("INSERT INTO info VALUES (?, ?)", facts.items())
        except sqlite3.Error as error:
            raise _damaged(path, error) from error
        finally:
            connection.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise _damaged(self.path, error) from error

    @contextlib.contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """One snapshot for reading, or one commit."""
        with self._guarded():
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield self._connection
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def facts(self, connection: sqlite3.Connection) -> dict[str, str]:
        """All of the table ``info``; read again only when somebody committed since."""
        moment = self.moment()
        if self._facts is None or self._facts[0] != moment:
            self._facts = (moment, _read_facts(connection))
        return self._facts[1]

    def set_fact(self, key: str, value: str) -> None:
        """Change one fact, in its own commit."""
        with self.transaction(write=True) as connection:
            connection.execute("INSERT OR REPLACE INTO info VALUES (?, ?)", (key, value))

    def data_version(self) -> int:
        """Changes whenever another process committed."""
        with self._guarded():
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def moment(self) -> tuple[int, int]:
        """Another value whenever this or another process changed the catalogue."""
        return self.data_version(), self._connection.total_changes

    def count(self, connection: sqlite3.Connection) -> int:
        """Number of live rows."""
        moment = self.moment()
        if self._counted is None or self._counted[0] != moment:
            found = connection.execute("SELECT count(*) FROM row WHERE dead = 0").fetchone()
            self._counted = (moment, int(found[0]))
        return self._counted[1]

    def columns(self, connection: sqlite3.Connection, unknown: int) -> list[tuple[int, int, int, int]]:
        """Slot, camera, time and checksum of every live row by ascending slot; ``unknown`` where a name does not tell."""
        return connection.execute(
            "SELECT slot, ifnull(camera, :unknown), ifnull(time, :unknown), crc32 FROM row WHERE dead = 0 ORDER BY slot",
            {"unknown": unknown},
        ).fetchall()

    def checksums(self, connection: sqlite3.Connection) -> list[tuple[int, int]]:
        """Slot and vector's checksum of every live row by ascending slot, without looking at the rows' own checksums."""
        return connection.execute("SELECT slot, crc32 FROM row WHERE dead = 0 ORDER BY slot").fetchall()

    def slots_of(self, connection: sqlite3.Connection, paths: Iterable[str]) -> list[int]:
        """Slots of the live rows among ``paths``."""
        ask = "SELECT slot FROM row WHERE dead = 0 AND path = ?"
        found = (connection.execute(ask, (os.fsencode(path),)).fetchone() for path in paths)
        return [row[0] for row in found if row is not None]

    def rows_at(self, connection: sqlite3.Connection, slots: Sequence[int]) -> dict[int, GalleryRow]:
        """The live rows of some slots.

        Raises:
            GalleryError: a row does not fit its own checksum.
        """
        rows = {}
        for start in range(0, len(slots), _ASKED_AT_ONCE):
            part = slots[start : start + _ASKED_AT_ONCE]
            marks = ", ".join("?" * len(part))
            for found in connection.execute(f"SELECT {_COLUMNS} FROM row WHERE slot IN ({marks})", part):  # noqa: S608
                rows[found[0]] = self._checked(found)
        return rows

    def rows(self, *, fresh: bool = False) -> list[GalleryRow]:
        """All live rows by path; read again only when somebody committed since, or when ``fresh`` is asked for.

        Raises:
            GalleryError: a row does not fit its own checksum.
        """
        moment = self.moment()
        if fresh or self._read is None or self._read[0] != moment:
            self._read = (moment, self._read_rows())
        return list(self._read[1])

    def _read_rows(self) -> list[GalleryRow]:
        with self._guarded():
            found = self._connection.execute(f"SELECT {_COLUMNS} FROM row WHERE dead = 0 ORDER BY path").fetchall()  # noqa: S608 - a constant
        return [self._checked(row) for row in found]

    def file_stats(self) -> dict[str, tuple[int, int]]:
        """Size and modification time of every live row by path, without looking at the rows' own checksums."""
        with self._guarded():
            fsdecode = os.fsdecode
            found = self._connection.execute("SELECT path, size, mtime_ns FROM row WHERE dead = 0")
            return {fsdecode(path): (size, mtime_ns) for path, size, mtime_ns in found}

    def _checked(self, found: tuple[Any, ...]) -> GalleryRow:
        slot, path, sha256, size, mtime_ns, camera, person, time, crc32, check32 = found
        row = GalleryRow(os.fsdecode(path), sha256, size, mtime_ns, camera, person, time, slot, crc32)
        if row_check(row, row.slot, row.crc32) != check32:
            raise GalleryError(
                f"{printable(self.path)}: the entry of {printable(row.path)} is damaged; index again "
                "with: rrid-edge index FOLDER --rebuild"
            )
        return row

    def insert(
        self, connection: sqlite3.Connection, rows: Sequence[NewRow], first_slot: int, crcs: Sequence[int]
    ) -> None:
        """Add rows at consecutive slots; live rows of the same paths die. Part of a transaction."""
        connection.executemany(
            "UPDATE row SET dead = 1 WHERE path = ? AND dead = 0", [(os.fsencode(row.path),) for row in rows]
        )
        connection.executemany(
            f"INSERT INTO row ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
            [
                (
                    first_slot + index,
                    os.fsencode(row.path),
                    row.sha256,
                    row.size,
                    row.mtime_ns,
                    row.camera,
                    row.person,
                    row.time,
                    crc,
                    row_check(row, first_slot + index, crc),
                )
                for index, (row, crc) in enumerate(zip(rows, crcs, strict=True))
            ],
        )
        connection.execute("UPDATE info SET value = ? WHERE key = 'slots'", (str(first_slot + len(rows)),))

    def update_stat(self, rows: Sequence[GalleryRow]) -> None:
        """Record new sizes and times of files whose content is the same, in one commit."""
        with self.transaction(write=True) as connection:
            connection.executemany(
                "UPDATE row SET size = ?, mtime_ns = ?, check32 = ? WHERE slot = ?",
                [(row.size, row.mtime_ns, row_check(row, row.slot, row.crc32), row.slot) for row in rows],
            )

    def checkpoint(self) -> None:
        """Fold the write-ahead log into the database and empty it."""
        with self._guarded():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def check_integrity(self) -> None:
        """Let SQLite check its own pages.

        Raises:
            GalleryError: they are damaged.
        """
        with self._guarded():
            answer = self._connection.execute("PRAGMA integrity_check").fetchone()[0]
        if answer != "ok":
            raise _damaged(self.path, str(answer))

    def close(self) -> None:
        """Close the database; safe to call twice."""
        with self._lock:
            self._connection.close()


def _read_facts(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT key, value FROM info").fetchall())


def _connect(path: Path, *, read_only: bool, create: bool = False) -> sqlite3.Connection:
    if not create and not path.is_file():
        raise GalleryMissingError(f"{printable(path.parent)}: no index here; make one with: rrid-edge index FOLDER")
    mode = "ro" if read_only else "rwc" if create else "rw"
    # A read-only medium cannot hold the shared-memory file of the log: nobody can write there, so nothing is missed.
    frozen = "&immutable=1" if read_only and not os.access(path.parent, os.W_OK) else ""
    uri = f"{path.absolute().as_uri()}?mode={mode}{frozen}"
    try:
        connection = sqlite3.connect(uri, uri=True, timeout=30, isolation_level=None, check_same_thread=False)
        if not read_only:
            # A new file gets its first content without a log: folding a log into it when it is closed fails silently on a
            # full disk, and the file would be moved to its final path without its content.
            connection.execute(f"PRAGMA journal_mode = {'DELETE' if create else 'WAL'}")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA secure_delete = ON")
    except sqlite3.Error as error:
        raise _damaged(path, error) from error
    return connection


def _damaged(path: Path, error: object) -> GalleryError | OutputError:
    if "disk is full" in str(error):
        return OutputError(
            f"{printable(path.parent)}: the index cannot be written (no space left on the disk); what was committed is "
            "kept: free some space and run the command again"
        )
    return GalleryError(
        f"{printable(path)}: the index cannot be read or written ({error}); free the disk or close other programs, or remove "
        "the index folder and index again"
    )
