"""Changes of rows, each within one commit: adding, updating, removing."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from numbers import Integral

from rrid_edge.errors import UsageError
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.local import catalogue
from rrid_edge.gallery.local.facts import Facts, count_rows
from rrid_edge.gallery.local.schema import COLUMNS, INSERT, new_row, record_of

_REPLACE = f"INSERT OR REPLACE INTO row ({COLUMNS}) VALUES ({', '.join('?' * 16)})"  # noqa: S608 - constants


def add_rows(connection: sqlite3.Connection, facts: Facts, rows: Sequence[NewRow], crcs: Sequence[int]) -> list[int]:
    """Add rows at the next slots. Rows of the same source and path become dead.

    Args:
        connection: in a commit.
        facts: of the commit; changed in place.
        rows: accepted rows.
        crcs: checksums of their stored vectors.

    Returns:
        Their ids: that of the replaced row where the content is the same.
    """
    generation, slot, next_id = int(facts["generation"]), int(facts["slots"]), int(facts["next_id"])
    replaced = catalogue.rows_of_files(connection, generation, [(row.source, row.path) for row in rows if row.path])
    stored = []
    for row, crc32 in zip(rows, crcs, strict=True):
        old = replaced.get((row.source, row.path or ""))
        if old is not None and row.sha256 and old.sha256 == row.sha256:
            stored.append(new_row(row, id_=old.id, crc32=crc32, slot=slot, label=row.label or old.label))
        else:
            stored.append(new_row(row, id_=next_id, crc32=crc32, slot=slot, label=row.label))
            next_id += 1
        slot += 1
    kept_ids = {row.id for row in stored}
    bury(connection, facts, list(replaced.values()))
    delete_thumbnails(connection, [row.id for row in replaced.values() if row.id not in kept_ids])
    connection.executemany(INSERT, [record_of(row) for row in stored])
    thumbnails = zip(stored, rows, strict=True)
    set_thumbnails(connection, {row.id: given.thumbnail for row, given in thumbnails if given.thumbnail is not None})
    facts["slots"], facts["next_id"] = str(slot), str(next_id)
    count_rows(facts, added=stored)
    return [row.id for row in stored]


def bury(connection: sqlite3.Connection, facts: Facts, rows: Sequence[GalleryRow]) -> None:
    """Mark live rows as removed. Their entries and vectors stay."""
    connection.executemany(_REPLACE, [record_of(row, dead=True) for row in rows])
    count_rows(facts, removed=rows)


def update_rows(connection: sqlite3.Connection, facts: Facts, rows: Sequence[GalleryRow]) -> None:
    """Write new fields of live rows. Ids, files, slots and vectors stay; rows that are gone are left out."""
    stored = catalogue.rows_by_id(connection, int(facts["generation"]), [row.id for row in rows])
    pairs = [(row, stored[id_]) for id_, row in {row.id: row for row in rows}.items() if id_ in stored]
    changed = [
        replace(
            row, path=old.path, source=old.source, crc32=old.crc32, slot=old.slot, generation=old.generation,
            thumbnail=None,
        )
        for row, old in pairs
    ]  # fmt: skip
    connection.executemany(_REPLACE, [record_of(row) for row in changed])
    set_thumbnails(connection, {row.id: row.thumbnail for row, _ in pairs if row.thumbnail is not None})
    count_rows(facts, added=changed, removed=[old for _, old in pairs])


def find_live(connection: sqlite3.Connection, facts: Facts, wanted: Iterable[int | str]) -> list[GalleryRow]:
    """The live rows of some ids and paths (of any source)."""
    ids, paths = split(wanted)
    generation = int(facts["generation"])
    rows = catalogue.rows_by_id(connection, generation, ids)
    rows |= {row.id: row for row in catalogue.rows_of_paths(connection, generation, paths)}
    return list(rows.values())


def split(wanted: Iterable[int | str]) -> tuple[list[int], list[str]]:
    """Ids and paths, each once.

    Raises:
        UsageError: a value is neither.
    """
    ids: list[int] = []
    paths: list[str] = []
    for key in dict.fromkeys(wanted):
        if isinstance(key, str):
            paths.append(key)
        elif isinstance(key, Integral) and not isinstance(key, bool):
            ids.append(int(key))
        else:
            raise UsageError(f"row {key!r}: expected the id or the path of a row", parameter="rows")
    return ids, paths


def remove_rows(connection: sqlite3.Connection, facts: Facts, wanted: Iterable[int | str]) -> int:
    """Mark rows as removed and delete their thumbnails; returns how many existed."""
    rows = find_live(connection, facts, wanted)
    bury(connection, facts, rows)
    delete_thumbnails(connection, [row.id for row in rows])
    return len(rows)


def set_thumbnails(connection: sqlite3.Connection, thumbnails: dict[int, bytes | None]) -> None:
    """Store thumbnails by id."""
    records = [(id_, jpeg, thumbnail_check(id_, jpeg)) for id_, jpeg in thumbnails.items() if jpeg is not None]
    connection.executemany("INSERT OR REPLACE INTO thumbnail VALUES (?, ?, ?)", records)


def thumbnail_check(id_: int, jpeg: bytes) -> int:
    """Checksum of a thumbnail and its row's id."""
    return zlib.crc32(jpeg, zlib.crc32(str(id_).encode()))


def delete_thumbnails(connection: sqlite3.Connection, ids: Iterable[int]) -> None:
    """Delete the thumbnails of some ids."""
    connection.executemany("DELETE FROM thumbnail WHERE id = ?", [(id_,) for id_ in ids])
