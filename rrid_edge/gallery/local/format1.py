"""Galleries of format 1: read through a copy in memory in format 2, and migrated in one commit."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

from rrid_edge.gallery.base import LOCAL_SOURCE, GalleryRow
from rrid_edge.gallery.local.database import is_damage, transaction
from rrid_edge.gallery.local.facts import (
    Facts,
    checked_facts_of_format_1,
    count_rows,
    info_of,
    new_facts,
    write_facts,
)
from rrid_edge.gallery.local.schema import INSERT, TABLES, Record, record_of
from rrid_edge.model.spec import ModelSpec

DROPPED = "dropped"
"""Fact of a copy in memory: number of entries that do not match their checksums."""
_COLUMNS = "slot, path, sha256, size, mtime_ns, camera, person, time, crc32, check32, dead"


def is_format_1(connection: sqlite3.Connection) -> bool:
    """Whether a catalogue has format 1, which has no checksum over its facts."""
    facts = "SELECT (SELECT value FROM info WHERE key = 'format'), EXISTS (SELECT 1 FROM info WHERE key = 'check32')"
    try:
        found, checked = connection.execute(facts).fetchone()
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return False  # the copy of the facts may be intact, which only format 2 has
    return found == "1" and not checked


def state_of(connection: sqlite3.Connection) -> Record:
    """A value that changes whenever the rows of a gallery of format 1 change."""
    counts: Record = connection.execute(
        "SELECT (SELECT group_concat(key || value) FROM info), count(*), sum(check32), sum(dead) FROM row"
    ).fetchone()
    return counts


def upgraded_copy(connection: sqlite3.Connection, folder: Path) -> sqlite3.Connection:
    """A catalogue of format 2 in memory with the rows of one of format 1."""
    memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    memory.text_factory = connection.text_factory
    facts, records = _upgraded(connection, folder)
    with transaction(memory, write=True):
        _fill(memory, facts, records)
    return memory


def migrate(connection: sqlite3.Connection, folder: Path) -> None:
    """Bring a catalogue into format 2 in one commit. A kill leaves format 1."""
    with transaction(connection, write=True):
        facts, records = _upgraded(connection, folder)
        dropped = facts.pop(DROPPED)  # indexing embeds their files again
        connection.execute("DROP TABLE row")
        connection.execute("DROP TABLE info")
        _fill(connection, facts, records)
        if dropped != "0":  # nothing names their vectors any more
            orphans = set(range(int(facts["slots"]))) - {record[0] for record in records}
            connection.executemany("INSERT INTO erasing VALUES (?)", [(slot,) for slot in orphans])


def _fill(connection: sqlite3.Connection, facts: Facts, records: list[Record]) -> None:
    # executescript would commit first
    for statement in TABLES.split(";"):
        connection.execute(statement)
    connection.executemany(INSERT, records)
    write_facts(connection, facts)


def _upgraded(connection: sqlite3.Connection, folder: Path) -> tuple[Facts, list[Record]]:
    old = checked_facts_of_format_1(dict(connection.execute("SELECT key, value FROM info").fetchall()), folder)
    live_of_path: dict[str | None, GalleryRow] = {}
    dead: list[GalleryRow] = []
    for row, is_dead in _rows(connection):  # by slot: format 1 has no checksum over ``dead``, and the last row counts
        if is_dead:
            dead.append(row)
        else:
            dead += [live_of_path[row.path]] if row.path in live_of_path else []
            live_of_path[row.path] = row
    live = list(live_of_path.values())
    known = {key: old[key] for key in ("spec", "dtype", "generation", "slots", "model", "projection") if key in old}
    slots = max([row.slot + 1 for row in (*live, *dead)] + [int(known["slots"])])
    spec = stored_spec(connection, folder)
    facts = new_facts(spec, known["dtype"]) | known | {"slots": str(slots), "next_id": str(slots + 1)}
    count_rows(facts, added=live)
    (entries,) = connection.execute("SELECT count(*) FROM row").fetchone()
    facts[DROPPED] = str(entries - len(live) - len(dead))
    return facts, [record_of(row, dead=False) for row in live] + [record_of(row, dead=True) for row in dead]


def stored_spec(connection: sqlite3.Connection, folder: Path) -> ModelSpec:
    """The model of a gallery of format 1."""
    old = checked_facts_of_format_1(dict(connection.execute("SELECT key, value FROM info").fetchall()), folder)
    missing = dict.fromkeys(("pattern", "time_from", "retention_s", "model"), "") | {"rows": "0"}
    return info_of(missing | old, folder).spec


def _rows(connection: sqlite3.Connection) -> Iterator[tuple[GalleryRow, bool]]:
    """Rows that match their checksums, and whether they are dead. Frame numbers were called times."""
    for record in connection.execute(f"SELECT {_COLUMNS} FROM row ORDER BY slot"):  # noqa: S608 - a constant
        slot, path, sha256, size, mtime_ns, camera, person, time, crc32, check32, dead = record
        values = (slot, sha256, size, mtime_ns, camera, person, time, crc32)
        try:
            check = zlib.crc32(path + repr(values).encode("utf-8", "surrogateescape"))
        except TypeError:
            continue
        if check != check32:
            continue  # no search answers this entry; indexing embeds its file again
        row = GalleryRow(
            os.fsdecode(path), sha256, size, mtime_ns, None if camera is None else str(camera), person, None, time,
            None, None, LOCAL_SOURCE, None, slot + 1, crc32, slot,
        )  # fmt: skip
        yield row, bool(dead)
