"""Maintenance of a local index: recovery at opening for writing, verification, compaction."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import numpy as np

from rrid_edge.files import sync_path
from rrid_edge.gallery.local import column_file, format1, vector_file
from rrid_edge.gallery.local.bounds import FACT, bounds_paths
from rrid_edge.gallery.local.catalogue import read_entries
from rrid_edge.gallery.local.column_table import columns_are_intact
from rrid_edge.gallery.local.database import file_mode
from rrid_edge.gallery.local.facts import Facts, commit, count_rows, info_of, read_facts, vector_format_of
from rrid_edge.gallery.local.folder import PARTIAL
from rrid_edge.gallery.local.forgetting import empty_log, finish_erasing
from rrid_edge.gallery.local.mapped import MappedVectors, erase_file
from rrid_edge.gallery.local.mending import catalogue_is_sound, mend_catalogue
from rrid_edge.gallery.local.projection import ProjectionFacts
from rrid_edge.gallery.local.schema import INSERT, record_of
from rrid_edge.model.spec import ModelSpec
from rrid_edge.progress import step

_ROWS_PER_WRITE = 256


def stored_spec(connection: sqlite3.Connection, folder: Path) -> ModelSpec:
    """The model of an index of any format that this version knows."""
    if format1.is_format_1(connection):
        return format1.stored_spec(connection, folder)
    return info_of(read_facts(connection, folder).facts, folder).spec


def recover(connection: sqlite3.Connection, folder: Path, *, check: bool = True) -> None:
    """Bring an index that may have been killed or damaged into order: the first step of writing.

    A gallery of format 1 is migrated. Damaged entries are mended or deleted; the vector file gets its committed length;
    a forgetting that was interrupted is finished; left-overs of kills are deleted.

    Args:
        connection: of the catalogue, for writing.
        folder: of the index.
        check: look for damaged entries too, which reads all of them. Kills damage none.

    Raises:
        GalleryError: the catalogue cannot be mended.
        OSError: the disk refused a write.
    """
    if format1.is_format_1(connection):
        format1.migrate(connection, folder)
    if check and not catalogue_is_sound(connection, folder):
        mend_catalogue(connection, folder)
    info = info_of(read_facts(connection, folder).facts, folder)
    form = vector_format_of(info)
    rows = vector_file.restore(folder / form.file_name, form, info.slots, file_mode(folder))
    if rows != info.slots:
        with commit(connection, folder) as changed:
            changed["slots"] = str(rows)
    if check and not columns_are_intact(folder, read_facts(connection, folder).facts):
        with commit(connection, folder) as changed:
            changed[column_file.FACT] = ""
    finish_erasing(connection, folder)
    empty_log(connection, folder)
    erase_strays(folder, read_facts(connection, folder).facts)
    shutil.rmtree(folder / PARTIAL, ignore_errors=True)


def erase_strays(folder: Path, facts: Facts) -> list[Path]:
    """Erase files of other generations and of older bounds; returns those that readers still use."""
    info = info_of(facts, folder)
    current = folder / vector_format_of(info).file_name
    bounds = bounds_paths(folder, info, ProjectionFacts.from_json(facts[FACT]))
    kept = {current, *bounds, *column_file.paths_of(folder, facts)}
    strays = []
    for cache in sorted(set(folder.glob("cache.*")) - kept):
        guards = list(folder.glob(f"vec.{cache.name.split('.')[1]}.*"))
        if column_file.is_part(cache):
            column_file.erase(cache)
        elif not erase_file(cache, guard=guards[0] if guards else None):
            strays.append(cache)
    return [*strays, *(path for path in folder.glob("vec.*") if path not in kept and not erase_file(path))]


@step("writing the vectors again")
def compact_files(connection: sqlite3.Connection, folder: Path) -> int:
    """Write a vector file of the next generation without dead slots, and switch to it in one commit.

    Returns:
        Number of slots freed.

    Raises:
        OSError: the disk refused a write.
    """
    info = info_of(read_facts(connection, folder).facts, folder)
    old_format = vector_format_of(info)
    new_format = replace(old_format, generation=info.generation + 1)
    new_path = folder / new_format.file_name
    rows = sorted(read_entries(connection, info.generation).live, key=lambda row: row.slot)
    vectors = MappedVectors(folder / old_format.file_name, old_format, info.slots)
    vector_file.create(new_path, new_format, file_mode(folder))
    for start in range(0, len(rows), _ROWS_PER_WRITE):
        block = np.ascontiguousarray(vectors.stored[[row.slot for row in rows[start : start + _ROWS_PER_WRITE]]])
        vector_file.append(new_path, block.tobytes(), vector_file.HEADER_BYTES + start * new_format.row_bytes)
    sync_path(folder)
    moved = [replace(row, slot=slot, generation=new_format.generation) for slot, row in enumerate(rows)]
    with commit(connection, folder) as changed:
        connection.execute("DELETE FROM row")
        connection.executemany(INSERT, [record_of(row) for row in moved])
        changed |= {
            "generation": str(new_format.generation),
            "slots": str(len(rows)),
            FACT: "",
            "rows": "0",
            "total": "0",
        }
        count_rows(changed, added=moved)
    vector_file.mark_committed(new_path, len(rows))
    return info.slots - len(rows)
