"""The columns that a search needs, read row by row: from the entries of the catalogue, and from arrays."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from rrid_edge.gallery.local.column_table import read_table
from rrid_edge.gallery.local.facts import Facts, read_facts
from rrid_edge.gallery.local.schema import Columns
from rrid_edge.gallery.shared import UNKNOWN

ColumnsBySlot = dict[int, tuple[int, int | None, int | None, str | None, str | None]]
"""Checksum of the vector, time, frame, camera and source of each live row."""


def columns_of_catalogue(folder: Path) -> ColumnsBySlot:
    """Read the live rows of an index with SQLite alone."""
    connection = sqlite3.connect(folder / "meta.sqlite")
    connection.text_factory = bytes
    query = "SELECT slot, crc32, time, frame, camera, source FROM row WHERE dead = 0 ORDER BY slot"
    found = connection.execute(query).fetchall()
    connection.close()
    return {slot: (*numbers, *map(_text, names)) for slot, *numbers, names in ((*row[:4], row[4:]) for row in found)}


def columns_by_slot(columns: Columns) -> ColumnsBySlot:
    """Read arrays element by element."""
    return {
        int(slot): (
            int(columns.crcs[index]),
            _number(int(columns.times[index])),
            _number(int(columns.frames[index])),
            columns.camera_names[columns.cameras[index]],
            columns.source_names[columns.sources[index]],
        )
        for index, slot in enumerate(columns.slots)
    }


def facts_of(folder: Path) -> Facts:
    """Read the facts of an index."""
    connection = sqlite3.connect(folder / "meta.sqlite")
    found = read_facts(connection, folder).facts
    connection.close()
    return found


def is_followed(folder: Path) -> bool:
    """Return whether the column file is sound and holds what the catalogue holds. An empty gallery needs none."""
    facts = facts_of(folder)
    table = read_table(folder, facts)
    if table is None:
        return facts["rows"] == "0"
    return columns_by_slot(table.columns) == columns_of_catalogue(folder)


def _number(value: int) -> int | None:
    return None if value == UNKNOWN else value


def _text(data: bytes | None) -> str | None:
    return None if data is None else data.decode("utf-8", "surrogateescape")
