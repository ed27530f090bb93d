"""The catalogue of the local store: SQLite in WAL mode with ``synchronous=FULL``.

Its commit is the only commit point.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from rrid_edge.errors import GalleryError, printable
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.local.database import connect, database_error
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
_SLOTS_PER_QUERY = 500
"""SQLite limits the number of parameters of a query."""


class Catalogue:
    """Rows and facts of one local gallery. Threads may share it; their transactions wait for each other.

    Args:
        folder: of the index.
        read_only: open for reading only.

    Raises:
        GalleryMissingError: the folder has no catalogue.
        GalleryError: the catalogue is damaged or has a newer format.
    """

    def __init__(self, folder: Path, *, read_only: bool) -> None:
        self.path = folder / FILE_NAME
        self._lock = threading.RLock()
        self._connection = connect(self.path, read_only=read_only)
        self._cached_facts: tuple[tuple[int, int], dict[str, str]] | None = None
        self._cached_rows: tuple[tuple[int, int], list[GalleryRow]] | None = None
        self._cached_count: tuple[tuple[int, int], int] | None = None
        try:
            with self.transaction() as connection:
                found_format = self.facts(connection).get("format", "unknown")
        except BaseException:
            self.close()
            raise
        if found_format == "unknown" or int(found_format) > FORMAT:
            self.close()
            raise GalleryError(
                f"{printable(self.path)}: index format {found_format} is newer than this rrid-edge reads ({FORMAT}); "
                "update rrid-edge"
            )

    @classmethod
    def create(cls, folder: Path, spec: ModelSpec, dtype: str) -> None:
        """Create an empty catalogue.

        Raises:
            GalleryError: the file cannot be written.
            OutputError: the disk is full.
        """
        path = folder / FILE_NAME
        facts = {"format": str(FORMAT), "dtype": dtype, "generation": "0", "slots": "0", "model": ""}
        facts["spec"] = json.dumps(spec.to_metadata())
        connection = connect(path, read_only=False, create=True)
        try:
            with connection:
                connection.executescript("BEGIN IMMEDIATE;" + _SCHEMA)
                connection.executemany("INSERT INTO info VALUES (?, ?)", facts.items())
        except sqlite3.Error as error:
            raise database_error(path, error) from error
        finally:
            connection.close()

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Hold the lock, and translate SQLite's errors."""
        with self._lock:
            try:
                yield
            except sqlite3.Error as error:
                raise database_error(self.path, error) from error

    @contextlib.contextmanager
    def transaction(self, *, write: bool = False) -> Iterator[sqlite3.Connection]:
        """A transaction: one snapshot for reading, or one commit. An exception in the body rolls back."""
        with self._locked():
            self._connection.execute("BEGIN IMMEDIATE" if write else "BEGIN")
            try:
                yield self._connection
            except BaseException:
                with contextlib.suppress(sqlite3.Error):
                    self._connection.execute("ROLLBACK")
                raise
            self._connection.execute("COMMIT")

    def facts(self, connection: sqlite3.Connection) -> dict[str, str]:
        """The table ``info``. It is read once per :meth:`version`."""
        version = self.version()
        if self._cached_facts is None or self._cached_facts[0] != version:
            self._cached_facts = (version, _read_facts(connection))
        return self._cached_facts[1]

    def set_fact(self, key: str, value: str) -> None:
        """Change one fact, in its own commit."""
        with self.transaction(write=True) as connection:
            connection.execute("INSERT OR REPLACE INTO info VALUES (?, ?)", (key, value))

    def version(self) -> tuple[int, int]:
        """Version of the catalogue: changes with every commit of this or another process."""
        with self._locked():
            commits_elsewhere = int(self._connection.execute("PRAGMA data_version").fetchone()[0])
        return commits_elsewhere, self._connection.total_changes

    def count(self, connection: sqlite3.Connection) -> int:
        """Number of live rows. They are counted once per :meth:`version`."""
        version = self.version()
        if self._cached_count is None or self._cached_count[0] != version:
            count = connection.execute("SELECT count(*) FROM row WHERE dead = 0").fetchone()[0]
            self._cached_count = (version, int(count))
        return self._cached_count[1]

    def columns(self, connection: sqlite3.Connection, unknown: int) -> list[tuple[int, int, int, int]]:
        """Slot, camera, time and vector checksum of every live row, by slot; ``unknown`` replaces null."""
        return connection.execute(
            "SELECT slot, ifnull(camera, :unknown), ifnull(time, :unknown), crc32 FROM row WHERE dead = 0 ORDER BY "
            "slot",
            {"unknown": unknown},
        ).fetchall()

    def checksums(self, connection: sqlite3.Connection) -> list[tuple[int, int]]:
        """Slot and vector checksum of every live row, by slot. The rows' own checksums are not verified."""
        return connection.execute("SELECT slot, crc32 FROM row WHERE dead = 0 ORDER BY slot").fetchall()

    def slots_of(self, connection: sqlite3.Connection, paths: Iterable[str]) -> list[int]:
        """Slots of the live rows of ``paths``; unknown paths are left out."""
        query = "SELECT slot FROM row WHERE dead = 0 AND path = ?"
        records = (connection.execute(query, (os.fsencode(path),)).fetchone() for path in paths)
        return [record[0] for record in records if record is not None]

    def rows_at(self, connection: sqlite3.Connection, slots: Sequence[int]) -> dict[int, GalleryRow]:
        """The rows of some slots, by slot.

        Raises:
            GalleryError: a row does not match its checksum.
        """
        rows = {}
        for start in range(0, len(slots), _SLOTS_PER_QUERY):
            batch = slots[start : start + _SLOTS_PER_QUERY]
            marks = ", ".join("?" * len(batch))
            query = f"SELECT {_COLUMNS} FROM row WHERE slot IN ({marks})"  # noqa: S608 - constants and question marks
            for record in connection.execute(query, batch):
                rows[record[0]] = self._checked(record)
        return rows

    def rows(self, *, fresh: bool = False) -> list[GalleryRow]:
        """All live rows by path. They are read once per :meth:`version`, or again if ``fresh``.

        Raises:
            GalleryError: a row does not match its checksum.
        """
        version = self.version()
        if fresh or self._cached_rows is None or self._cached_rows[0] != version:
            self._cached_rows = (version, self._read_rows())
        return list(self._cached_rows[1])

    def _read_rows(self) -> list[GalleryRow]:
        with self._locked():
            query = f"SELECT {_COLUMNS} FROM row WHERE dead = 0 ORDER BY path"  # noqa: S608 - a constant
            records = self._connection.execute(query).fetchall()
        return [self._checked(record) for record in records]

    def file_stats(self) -> dict[str, tuple[int, int]]:
        """Size (bytes) and modification time (ns) of every live row, by path. Checksums are not verified."""
        with self._locked():
            fsdecode = os.fsdecode
            records = self._connection.execute("SELECT path, size, mtime_ns FROM row WHERE dead = 0")
            return {fsdecode(path): (size, mtime_ns) for path, size, mtime_ns in records}

    def _checked(self, record: tuple[Any, ...]) -> GalleryRow:
        slot, path, sha256, size, mtime_ns, camera, person, time, crc32, check32 = record
        row = GalleryRow(os.fsdecode(path), sha256, size, mtime_ns, camera, person, time, slot, crc32)
        if row_check(row, row.slot, row.crc32) != check32:
            raise GalleryError(
                f"{printable(self.path)}: the entry of {printable(row.path)} is damaged; rebuild the index with: "
                "rrid-edge index FOLDER --rebuild"
            )
        return row

    def insert(
        self, connection: sqlite3.Connection, rows: Sequence[NewRow], first_slot: int, crcs: Sequence[int]
    ) -> None:
        """Add rows at consecutive slots, within a transaction. Live rows of the same paths become dead."""
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
        """Record new sizes and modification times of files whose content is the same, in one commit."""
        with self.transaction(write=True) as connection:
            connection.executemany(
                "UPDATE row SET size = ?, mtime_ns = ?, check32 = ? WHERE slot = ?",
                [(row.size, row.mtime_ns, row_check(row, row.slot, row.crc32), row.slot) for row in rows],
            )

    def checkpoint(self) -> None:
        """Write the WAL into the database and truncate it."""
        with self._locked():
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def check_integrity(self) -> None:
        """Let SQLite check its own pages.

        Raises:
            GalleryError: a page is damaged.
        """
        with self._locked():
            result = self._connection.execute("PRAGMA integrity_check").fetchone()[0]
        if result != "ok":
            raise database_error(self.path, str(result))

    def close(self) -> None:
        """Close the database; safe to call twice."""
        with self._lock:
            self._connection.close()


def _read_facts(connection: sqlite3.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT key, value FROM info").fetchall())
