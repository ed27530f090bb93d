"""Reading the rows of the catalogue. Entries that do not match their checksum are never returned."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.local.database import FILE_NAME
from rrid_edge.gallery.local.schema import COLUMNS, Entry, Record, entry_of, from_bytes, to_bytes

__all__ = ["FILE_NAME", "Entries"]

_MANY = 500
"""SQLite limits the number of parameters of a query."""
_IDS = 2**63
"""No row has an id of more bits."""


@dataclass(frozen=True)
class Entries:
    """All entries of the table of rows.

    Attributes:
        live: intact live rows; those whose mark ``dead`` was damaged are corrected.
        dead: removed rows, as well.
        damaged: slots of entries that do not match their checksum, a damaged mark included.
        hopeless: those of ``damaged`` that could not be corrected.
    """

    live: list[GalleryRow]
    dead: list[GalleryRow]
    damaged: list[int]
    hopeless: list[int]


def read_entries(connection: sqlite3.Connection, generation: int) -> Entries:
    """Check every entry of the table of rows."""
    result = Entries([], [], [], [])
    for record in connection.execute(f"SELECT {COLUMNS} FROM row"):  # noqa: S608 - a constant
        entry = entry_of(record, generation)
        if entry is None:
            result.hopeless.append(record[0])
        else:
            (result.dead if entry.dead else result.live).append(entry.row)
        if entry is None or not entry.intact:
            result.damaged.append(record[0])
    return result


def live_rows(connection: sqlite3.Connection, generation: int, expected: int) -> list[GalleryRow]:
    """All live rows, in no order.

    Args:
        connection: in a transaction.
        generation: number of the vector file.
        expected: number of live rows, from the facts.
    """
    query = f"SELECT {COLUMNS} FROM row WHERE dead = 0"  # noqa: S608 - a constant
    rows = [
        entry.row for record in connection.execute(query) if (entry := entry_of(record, generation)) and _fits(entry)
    ]
    return rows if len(rows) == expected else read_entries(connection, generation).live


def _fits(entry: Entry) -> bool:
    return entry.intact and not entry.dead


def cursor_in_order(connection: sqlite3.Connection) -> sqlite3.Cursor:
    """The entries of all live rows, ordered by the bytes of their paths, then by id. SQLite's index gives the order."""
    query = f"SELECT {COLUMNS} FROM row WHERE dead = 0 ORDER BY path, id"  # noqa: S608 - a constant
    return connection.execute(query)


def intact_rows(records: Iterable[Record], generation: int) -> list[GalleryRow]:
    """The live rows of some entries; damaged ones are left out."""
    entries = (entry_of(record, generation) for record in records)
    return [entry.row for entry in entries if entry is not None and _fits(entry)]


def rows_at(connection: sqlite3.Connection, generation: int, slots: Sequence[int]) -> dict[int, GalleryRow]:
    """The live rows of some slots, by slot; unknown and damaged entries are left out."""
    rows = {}
    for start in range(0, len(slots), _MANY):
        batch = slots[start : start + _MANY]
        marks = ", ".join("?" * len(batch))
        query = f"SELECT {COLUMNS} FROM row WHERE slot IN ({marks})"  # noqa: S608 - constants and question marks
        for record in connection.execute(query, batch):
            entry = entry_of(record, generation)
            if entry is not None and not entry.dead:
                rows[record[0]] = entry.row
    return rows


def rows_by_id(connection: sqlite3.Connection, generation: int, ids: Iterable[int]) -> dict[int, GalleryRow]:
    """The live rows of some ids, by id; unknown and damaged entries are left out."""
    query = f"SELECT {COLUMNS} FROM row WHERE dead = 0 AND id = ?"  # noqa: S608 - a constant
    found = _found(connection, query, ((int(id_),) for id_ in ids if abs(id_) < _IDS), generation)
    return {row.id: row for row in found}


def rows_of_files(
    connection: sqlite3.Connection, generation: int, files: Iterable[tuple[str, str]]
) -> dict[tuple[str, str], GalleryRow]:
    """The live rows of some files (source, path), by file; unknown and damaged entries are left out."""
    query = f"SELECT {COLUMNS} FROM row WHERE dead = 0 AND path = ? AND source = ?"  # noqa: S608 - a constant
    keys = ((to_bytes(path), to_bytes(source)) for source, path in files)
    return {(row.source, row.path or ""): row for row in _found(connection, query, keys, generation)}


def rows_of_paths(connection: sqlite3.Connection, generation: int, paths: Iterable[str]) -> list[GalleryRow]:
    """The live rows of some paths, of any source; unknown and damaged entries are left out."""
    query = f"SELECT {COLUMNS} FROM row WHERE dead = 0 AND path = ?"  # noqa: S608 - a constant
    return _found(connection, query, ((to_bytes(path),) for path in paths), generation)


def _found(
    connection: sqlite3.Connection, query: str, parameters: Iterable[Record], generation: int
) -> list[GalleryRow]:
    rows = []
    for values in parameters:
        for record in connection.execute(query, values):
            entry = entry_of(record, generation)
            if entry is not None and _fits(entry):
                rows.append(entry.row)
    return rows


def file_stats(connection: sqlite3.Connection, source: str) -> dict[str, tuple[int, int]]:
    """Size (bytes) and modification time (ns) of every live row of a source that has a file. Not verified.

    Raises:
        AttributeError: a path has another type, after damage.
    """
    records = connection.execute(
        "SELECT path, size, mtime_ns FROM row WHERE dead = 0 AND source = ? AND path IS NOT NULL", (to_bytes(source),)
    )
    return {from_bytes(path) or "": (size, mtime_ns) for path, size, mtime_ns in records}
