"""Rows of a gallery in a folder by their labels. Each query reads the whole table: some 40 ms per 100,000 rows."""

from __future__ import annotations

import sqlite3

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.labelled import RowsByLabel
from rrid_edge.gallery.local.schema import COLUMNS, entry_of, to_bytes

_ROWS = f"SELECT {COLUMNS} FROM row WHERE dead = 0"  # noqa: S608 - a constant
_NEWEST = "ORDER BY ifnull(time, mtime_ns / 1000) DESC, id DESC LIMIT ?"


def read_by_label(connection: sqlite3.Connection, generation: int, most: int) -> RowsByLabel:
    """All labelled rows, and the newest unlabelled ones; damaged entries are left out."""
    labelled = _rows(connection, f"{_ROWS} AND label IS NOT NULL", (), generation)
    unlabelled = _rows(connection, f"{_ROWS} AND label IS NULL {_NEWEST}", (most,), generation)
    count = connection.execute("SELECT count(*) FROM row WHERE dead = 0 AND label IS NULL").fetchone()[0]
    return RowsByLabel(labelled, sorted(unlabelled, key=lambda row: row.id), max(count - most, 0))


def read_labelled(connection: sqlite3.Connection, generation: int, label: str) -> list[GalleryRow]:
    """The rows of a label; damaged entries are left out."""
    return _rows(connection, f"{_ROWS} AND label = ?", (to_bytes(label),), generation)


def _rows(
    connection: sqlite3.Connection, query: str, parameters: tuple[object, ...], generation: int
) -> list[GalleryRow]:
    entries = (entry_of(record, generation) for record in connection.execute(query, parameters))
    return [entry.row for entry in entries if entry is not None and not entry.dead]
