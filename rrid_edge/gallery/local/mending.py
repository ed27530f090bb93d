"""Checking and mending the catalogue of a local index."""

from __future__ import annotations

import contextlib
import sqlite3
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.local import notes
from rrid_edge.gallery.local.bounds import mark_erasing
from rrid_edge.gallery.local.catalogue import FILE_NAME, Entries, read_entries
from rrid_edge.gallery.local.database import damaged_catalogue, is_damage, transaction
from rrid_edge.gallery.local.facts import Facts, commit, copy_is_intact, count_rows, read_facts, write_facts
from rrid_edge.gallery.local.format1 import DROPPED
from rrid_edge.gallery.local.schema import COLUMNS, INSERT, TABLES, columns_of, read_columns, record_of

_COPIED = ("thumbnail", "kept_out", "unreadable", "erasing")
"""Tables that a salvaged catalogue takes over as far as they can be read."""


@dataclass(frozen=True)
class CatalogueCheck:
    """The result of checking all entries of a catalogue.

    Attributes:
        rows: intact live rows.
        damaged: number of entries that do not match their checksums, in all tables.
        lost: number of live rows that the facts count and the table does not have.
    """

    rows: list[GalleryRow]
    damaged: int
    lost: int


def check_entries(connection: sqlite3.Connection, facts: Facts, damaged_facts: int) -> CatalogueCheck:
    """Check every entry of every table.

    Args:
        connection: in a transaction.
        facts: of its state.
        damaged_facts: number of damaged copies of the facts.
    """
    entries = read_entries(connection, int(facts["generation"]))
    digests, damaged_digests = notes.read_digests(connection)
    damaged = len(entries.damaged) + damaged_digests + notes.read_unreadable(connection)[1]
    damaged += len(notes.damaged_thumbnails(connection)) + damaged_facts
    damaged += not damaged_facts and not copy_is_intact(connection, facts)
    damaged += len(digests) != int(facts["kept_out"]) and not damaged_digests
    damaged += int(facts.get(DROPPED, "0"))
    lost = max(0, int(facts["rows"]) - len(entries.live) - len(entries.hopeless))
    if not damaged and not lost:
        damaged += _total(entries) != facts["total"] or len(entries.live) != int(facts["rows"])
    return CatalogueCheck(entries.live, damaged, lost)


def _total(entries: Entries) -> str:
    return str(columns_of(entries.live).total)


def page_damage(connection: sqlite3.Connection) -> str:
    """What SQLite finds wrong with its own pages; empty if nothing."""
    try:
        found = str(connection.execute("PRAGMA integrity_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return str(error)
    return "" if found == "ok" else " ".join(found.split())


def catalogue_is_sound(connection: sqlite3.Connection, folder: Path) -> bool:
    """Whether the facts and the columns of all live rows match their checksums; a quick check.

    Raises:
        GalleryError: both copies of the facts are damaged, or the format is newer.
    """
    try:
        read = read_facts(connection, folder)
        columns = read_columns(connection)
    except (AttributeError, OverflowError, TypeError, ValueError):
        return False
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return False
    return not read.damaged and str(columns.total) == read.facts["total"]


def mend_catalogue(connection: sqlite3.Connection, folder: Path) -> None:
    """Mend all that :func:`check_entries` and :func:`page_damage` find.

    Entries that cannot be corrected are deleted, so that indexing embeds their files again.

    Raises:
        GalleryError: the damage cannot be mended.
    """
    if page_damage(connection):
        with contextlib.suppress(sqlite3.DatabaseError):
            connection.execute("REINDEX")
        if page_damage(connection):
            _salvage(connection, folder)
    with transaction(connection):
        read = read_facts(connection, folder)
        check = check_entries(connection, read.facts, read.damaged)
    if check.damaged or check.lost:
        with commit(connection, folder) as facts:
            mend_entries(connection, facts)
            for table in ("info", "info_copy"):  # both are written again
                connection.execute(f"DELETE FROM {table}")  # noqa: S608 - a constant
        if reason := page_damage(connection):
            raise damaged_catalogue(folder / FILE_NAME, reason)


def mend_entries(connection: sqlite3.Connection, facts: Facts) -> None:
    """Correct or delete damaged entries of all tables, within a commit.

    Vectors that no entry names any more are marked for erasing: no forgetting would find them.
    """
    entries = read_entries(connection, int(facts["generation"]))
    live, dead = _without_doubles(entries)
    orphans = set(range(int(facts["slots"]))) - {row.slot for row in (*live, *dead)}
    connection.executemany("INSERT OR IGNORE INTO erasing VALUES (?)", [(slot,) for slot in orphans])
    mark_erasing(facts)
    if entries.damaged:
        connection.executemany("DELETE FROM row WHERE slot = ?", [(slot,) for slot in entries.damaged])
        damaged = set(entries.damaged)
        doubles = {row.slot for row in entries.live} - {row.slot for row in live}
        connection.executemany("DELETE FROM row WHERE slot = ?", [(slot,) for slot in doubles])
        records = [record_of(row, dead=True) for row in dead if row.slot in damaged | doubles]
        records += [record_of(row) for row in live if row.slot in damaged]
        connection.executemany(INSERT, records)
    facts["rows"] = facts["total"] = "0"
    count_rows(facts, added=live)
    facts["slots"] = str(max([int(facts["slots"]), *(row.slot + 1 for row in (*live, *dead))]))
    notes.write_digests(connection, facts, notes.read_digests(connection)[0])
    files, damaged_files = notes.read_unreadable(connection)
    if damaged_files:
        connection.execute("DELETE FROM unreadable")
        for source in {source for source, _ in files}:
            own = {path: stat for (owner, path), stat in files.items() if owner == source}
            notes.set_unreadable(connection, source, own)
    ids = [(id_,) for id_ in notes.damaged_thumbnails(connection)]
    connection.executemany("DELETE FROM thumbnail WHERE id = ?", ids)


def _without_doubles(entries: Entries) -> tuple[list[GalleryRow], list[GalleryRow]]:
    """Live and dead rows, with one live row per file and id: a row whose mark was damaged may have been added again."""
    live: list[GalleryRow] = []
    dead = list(entries.dead)
    files: set[tuple[str, str]] = set()
    ids: set[int] = set()
    for row in sorted(entries.live, key=lambda row: -row.slot):
        file = (row.source, row.path or "")
        if row.id in ids or (row.path is not None and file in files):
            dead.append(row)
        else:
            live.append(row)
            ids.add(row.id)
            files.add(file)
    return live, dead


def _salvage(connection: sqlite3.Connection, folder: Path) -> None:
    """Replace a catalogue of damaged pages, in one commit, by a new one with all entries that can be read."""
    try:
        facts = read_facts(connection, folder).facts
    except sqlite3.DatabaseError as error:
        raise damaged_catalogue(folder / FILE_NAME, str(error)) from error
    memory = sqlite3.connect(":memory:", isolation_level=None)
    try:
        with transaction(memory, write=True):
            for statement in TABLES.split(";"):
                memory.execute(statement)
            marks = ", ".join("?" * len(COLUMNS.split(",")))
            for record in _readable_rows(connection, int(facts["slots"])):
                with contextlib.suppress(sqlite3.IntegrityError):
                    memory.execute(f"INSERT INTO row ({COLUMNS}) VALUES ({marks})", record)  # noqa: S608 - constants
            for table in _COPIED:
                _copy_table(connection, memory, table)
            write_facts(memory, facts)
        memory.backup(connection)
    except sqlite3.DatabaseError as error:
        raise damaged_catalogue(folder / FILE_NAME, str(error)) from error
    finally:
        memory.close()


def _readable_rows(connection: sqlite3.Connection, slots: int) -> list[tuple[object, ...]]:
    """Rows on undamaged pages: each is looked up on its own."""
    rows = []
    for slot in reversed(range(slots)):  # of two rows of one file, the later one counts
        with contextlib.suppress(sqlite3.DatabaseError):
            query = f"SELECT {COLUMNS} FROM row WHERE slot = ?"  # noqa: S608 - a constant
            rows += connection.execute(query, (slot,)).fetchall()
    return rows


def _copy_table(connection: sqlite3.Connection, memory: sqlite3.Connection, table: str) -> None:
    with contextlib.suppress(sqlite3.DatabaseError):
        for record in connection.execute(f"SELECT * FROM {table}"):  # noqa: S608 - a constant
            marks = ", ".join("?" * len(record))
            with contextlib.suppress(sqlite3.IntegrityError):
                memory.execute(f"INSERT INTO {table} VALUES ({marks})", record)  # noqa: S608 - a constant
