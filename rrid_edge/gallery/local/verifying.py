"""Verification of a local index: rows, vectors, bounds, columns and the commit mark of one moment."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rrid_edge.errors import GalleryChangedError, printable
from rrid_edge.gallery.base import GalleryRow, Verification
from rrid_edge.gallery.local import vector_file
from rrid_edge.gallery.local.bounds import bounds_are_intact
from rrid_edge.gallery.local.catalogue import FILE_NAME, rows_at, rows_by_id
from rrid_edge.gallery.local.column_file import paths_of
from rrid_edge.gallery.local.column_table import columns_are_intact
from rrid_edge.gallery.local.database import damaged_catalogue, translated
from rrid_edge.gallery.local.facts import vector_format_of
from rrid_edge.gallery.local.mending import check_entries, page_damage
from rrid_edge.gallery.local.snapshot import Snapshot, SnapshotReader
from rrid_edge.gallery.shared import row_order
from rrid_edge.progress import step

_TRIES = 20


@step("checking the index")
def verify_index(folder: Path, reader: SnapshotReader) -> Verification:
    """Check the catalogue's pages and entries, all vectors, bounds and columns, and whether commits were lost.

    Raises:
        GalleryError: the catalogue's pages are damaged.
    """
    for _ in range(_TRIES):
        with reader.held() as before:
            path = folder / vector_format_of(before.state.info).file_name
        try:
            # Read before the rows: a later commit may raise the mark, and its rows are then here too.
            marked = vector_file.committed_rows(path)
        except FileNotFoundError:
            continue
        with reader.held() as snapshot:
            if snapshot.state.info.generation == before.state.info.generation:
                return _verify(folder, reader, snapshot, marked)
    raise GalleryChangedError(
        f"{printable(folder)}: the index was compacted {_TRIES} times during the check; try again"
    )


def _verify(folder: Path, reader: SnapshotReader, snapshot: Snapshot, marked: int) -> Verification:
    state = snapshot.state
    with translated(reader.path):
        if reason := page_damage(snapshot.disk):
            raise damaged_catalogue(folder / FILE_NAME, reason)
        check = check_entries(snapshot.connection, state.facts, state.damaged)
    vectors = [(row.slot, row.crc32) for row in check.rows]
    damaged = damaged_rows(reader, snapshot, vectors)
    # SQLite silently drops commits after a damaged page of its log. The commit mark reveals that.
    lost = check.lost + max(0, marked - state.info.slots)
    bounds_sound = bounds_are_sound(folder, reader, snapshot)
    columns_sound = columns_are_sound(folder, reader, snapshot)
    return Verification(len(check.rows), tuple(damaged), bounds_sound, columns_sound, lost, check.damaged)


def damaged_rows(reader: SnapshotReader, snapshot: Snapshot, vectors: Sequence[tuple[int, int]]) -> list[GalleryRow]:
    """Live rows whose vectors do not match their checksums, and that nobody has erased since; ordered by path.

    Args:
        reader: of the index.
        snapshot: of the index.
        vectors: slot and checksum of the vector of each live row.
    """
    slots = vector_file.damaged_slots(vectors, snapshot.state.vectors.stored)
    if not slots:
        return []
    with translated(reader.path):
        suspects = rows_at(snapshot.connection, snapshot.state.info.generation, slots).values()
    with reader.held() as now, translated(reader.path):
        present = rows_by_id(now.connection, now.state.info.generation, [row.id for row in suspects])
    damaged = (row for row in suspects if row.id in present and present[row.id].crc32 == row.crc32)
    return sorted(damaged, key=row_order)


def bounds_are_sound(folder: Path, reader: SnapshotReader, snapshot: Snapshot) -> bool:
    """Whether the bounds match their checksum, or somebody has changed them since."""
    state = snapshot.state
    if bounds_are_intact(folder, state.info, state.projection):
        return True
    with reader.held() as now:
        return now.state.projection != state.projection or now.state.info.generation != state.info.generation


def columns_are_sound(folder: Path, reader: SnapshotReader, snapshot: Snapshot) -> bool:
    """Whether the column file matches its checksum, or somebody has written another one since."""
    facts = snapshot.state.facts
    if columns_are_intact(folder, facts):
        return True
    with reader.held() as now:
        return paths_of(folder, now.state.facts) != paths_of(folder, facts)
