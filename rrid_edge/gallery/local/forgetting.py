"""Forgetting rows: mark, overwrite, delete. A kill at any moment leaves what the next opening for writing finishes.

1. One commit marks the rows as removed, notes their slots in ``erasing``, and remembers their contents.
2. Their vectors and bounds are overwritten with zeros, and their traces leave the people file.
3. One commit deletes their entries; SQLite overwrites deleted content (``secure_delete``).
4. The log, which still holds the old pages, is emptied. The fact ``log`` says that this is still to do.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rrid_edge.errors import printable
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.local import vector_file
from rrid_edge.gallery.local.bounds import FACT, erase_bounds, mark_erasing
from rrid_edge.gallery.local.catalogue import FILE_NAME, Entries, read_entries
from rrid_edge.gallery.local.column_file import FACT as COLUMNS_FACT
from rrid_edge.gallery.local.facts import Facts, commit, info_of, read_facts, vector_format_of
from rrid_edge.gallery.local.mending import mend_entries
from rrid_edge.gallery.local.notes import keep_out
from rrid_edge.gallery.local.projection import ProjectionFacts
from rrid_edge.gallery.local.schema import from_bytes, to_bytes
from rrid_edge.gallery.local.writing import bury, delete_thumbnails, split
from rrid_edge.gallery.people_traces import erase_traces

_LOG_WAIT_MS = 1000
"""Milliseconds that emptying the log waits for readers."""
_BUSY_MS = 30_000


@dataclass(frozen=True)
class _Targets:
    """What is to be erased.

    Attributes:
        live: rows.
        removed: rows that were removed earlier.
        contents: SHA-256 (hex) of the contents that are forgotten.
        rows: number of rows that the caller's names stand for.
    """

    live: list[GalleryRow]
    removed: list[GalleryRow]
    contents: set[str]
    rows: int


def mark_forgotten(connection: sqlite3.Connection, facts: Facts, wanted: Iterable[int | str], *, keep: bool) -> int:
    """Mark rows as removed and to be erased, within a commit.

    Args:
        connection: in a commit.
        facts: of the commit; changed in place.
        wanted: ids, or paths of any source.
        keep: remember the contents, and forget other rows of the same content too.

    Returns:
        Number of rows that were found.
    """
    entries = read_entries(connection, int(facts["generation"]))
    if entries.damaged:  # they may be of the same people
        mend_entries(connection, facts)
        entries = read_entries(connection, int(facts["generation"]))
    ids, paths = split(wanted)
    targets = _find(entries, set(ids), set(paths), keep=keep)
    bury(connection, facts, targets.live)
    slots = {row.slot for row in (*targets.live, *targets.removed)}
    connection.executemany("INSERT OR IGNORE INTO erasing VALUES (?)", [(slot,) for slot in slots])
    delete_thumbnails(connection, [row.id for row in targets.live])
    connection.executemany("DELETE FROM unreadable WHERE path = ?", [(to_bytes(path),) for path in paths])
    if keep:
        keep_out(connection, facts, targets.contents)
    if slots:
        mark_erasing(facts)
    return targets.rows


def _find(entries: Entries, ids: set[int], paths: set[str], *, keep: bool) -> _Targets:
    def is_named(row: GalleryRow) -> bool:
        return row.id in ids or row.path in paths

    live = {row.id: row for row in entries.live if is_named(row)}
    live_paths = {row.path for row in live.values()}
    # A path that now belongs to nobody means the crop that had it last.
    last: dict[int | str | None, GalleryRow] = {}
    for row in sorted(entries.dead, key=lambda row: row.slot):
        if row.id in ids and row.id not in live:
            last[row.id] = row
        if row.path in paths and row.path not in live_paths:
            last[row.path] = row
    contents = {row.sha256 for row in (*live.values(), *last.values()) if row.sha256}
    if keep:
        live |= {row.id: row for row in entries.live if row.sha256 in contents}
    removed = [row for row in entries.dead if is_named(row) or row.sha256 in contents or row.id in live]
    live_contents = {row.sha256 for row in live.values() if row.sha256}  # one crop, although it was renamed
    only_removed = {row.id for row in last.values() if row.sha256 not in live_contents} - live.keys()
    return _Targets(list(live.values()), removed, contents, len(live) + len(only_removed))


def finish_erasing(connection: sqlite3.Connection, folder: Path) -> tuple[str, ...]:
    """Overwrite the vectors and bounds of marked slots, erase traces in the people file, and delete their entries.

    Returns:
        Where traces of them are left in a people file, in lines for users.

    Raises:
        OSError: the disk refused a write.
    """
    slots = [slot for (slot,) in connection.execute("SELECT slot FROM erasing ORDER BY slot")]
    facts = read_facts(connection, folder).facts
    if not slots:
        return ()
    info = info_of(facts, folder)
    form = vector_format_of(info)
    vector_file.zero_rows(folder / form.file_name, form.row_bytes, [slot for slot in slots if 0 <= slot < info.slots])
    projection = erase_bounds(folder, info, ProjectionFacts.from_json(facts[FACT]), slots)
    left = erase_traces(folder, _gone(connection), lambda: _labels(connection))
    with commit(connection, folder) as changed:
        connection.executemany("DELETE FROM row WHERE slot = ?", [(slot,) for slot in slots])
        connection.execute("DELETE FROM erasing")
        changed[FACT], changed["log"] = projection, "to be emptied"
        changed[COLUMNS_FACT] = ""  # the commit writes another file, without these rows, and erases this one
    return left


def _gone(connection: sqlite3.Connection) -> list[int]:
    """Ids of the rows that are being erased. A crop that was stored again has a live row of its id."""
    found = connection.execute(
        "SELECT DISTINCT id FROM row WHERE slot IN (SELECT slot FROM erasing) "
        "AND id NOT IN (SELECT id FROM row WHERE dead = 0)"
    )
    return [id_ for (id_,) in found]


def _labels(connection: sqlite3.Connection) -> set[str]:
    """The labels of live rows."""
    found = connection.execute("SELECT DISTINCT label FROM row WHERE dead = 0 AND label IS NOT NULL")
    return {text for (label,) in found if isinstance(label, bytes) and (text := from_bytes(label)) is not None}


def empty_log(connection: sqlite3.Connection, folder: Path) -> bool:
    """Empty the log if it may hold erased content; returns whether it is free of it."""
    if not read_facts(connection, folder).facts["log"]:
        return True
    connection.execute(f"PRAGMA busy_timeout = {_LOG_WAIT_MS}")
    try:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    finally:
        connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
    if busy:
        return False
    with commit(connection, folder) as changed:
        changed["log"] = ""
    return True


def left_over(folder: Path, strays: Iterable[Path], *, log_is_empty: bool) -> tuple[str, ...]:
    """Where erased content still lies, in lines for users.

    Args:
        folder: of the index.
        strays: files of older generations and bounds that readers still use.
        log_is_empty: whether the log holds no erased content.
    """
    lines = []
    if not log_is_empty:
        lines.append(
            f"{printable(folder / FILE_NAME)}-wal: a reader still holds an older state, so the catalogue's log still "
            "holds erased entries (no descriptors); the next write after that reader has ended empties it"
        )
    lines += [
        f"{printable(path)}: a reader still holds this older file; the next write after that reader has ended erases it"
        for path in strays
    ]
    return tuple(lines)
