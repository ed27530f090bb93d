"""Maintenance of a local index: recovery after a kill, verification, erasing dead slots, compaction."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from rrid_edge.files import sync_path
from rrid_edge.gallery.base import GalleryRow, Verification
from rrid_edge.gallery.local import vector_file
from rrid_edge.gallery.local.bounds import erase_bounds, remove_bounds_files
from rrid_edge.gallery.local.catalogue import Catalogue
from rrid_edge.gallery.local.projection import ProjectionFiles
from rrid_edge.gallery.local.snapshot import Snapshot

_ROWS_PER_WRITE = 256


def recover(folder: Path, snapshot: Snapshot) -> None:
    """Cut a torn tail off the vector file, correct its commit mark, and delete the files of other generations.

    Raises:
        GalleryError: the vector file is damaged.
        FileNotFoundError: the vector file does not exist.
    """
    snapshot.check_vector_file()
    path, slots = snapshot.vector_path, snapshot.info.slots
    os.truncate(path, vector_file.HEADER_BYTES + slots * snapshot.vector_format.row_bytes)
    if vector_file.committed_rows(path) != slots:
        vector_file.mark_committed(path, slots)
    projection = ProjectionFiles(folder, snapshot.info.generation)
    for stray in (*folder.glob("vec.*"), *folder.glob("cache.*")):
        if stray not in (path, projection.basis_path, projection.rows_path):
            stray.unlink()


def damaged_rows(catalogue: Catalogue, snapshot: Snapshot) -> list[GalleryRow]:
    """Live rows whose vectors do not match their checksums. Reads all vectors, but only the damaged rows.

    Raises:
        GalleryError: a damaged row does not match its own checksum.
    """
    with catalogue.transaction() as connection:
        checksums = catalogue.checksums(connection)
    slots = vector_file.damaged_slots(checksums, snapshot.map_vectors())
    with catalogue.transaction() as connection:
        return list(catalogue.rows_at(connection, slots).values())


def verify_vectors(rows: Sequence[GalleryRow], snapshot: Snapshot, *, bounds_sound: bool) -> Verification:
    """Check the vectors of all live rows, and count lost commits.

    Args:
        rows: all live rows; the snapshot must not be older.
        snapshot: of the index.
        bounds_sound: whether the bounds of the two-pass search are intact.

    Raises:
        GalleryError: the vector file is damaged.
    """
    slots = set(vector_file.damaged_slots([(row.slot, row.crc32) for row in rows], snapshot.map_vectors()))
    damaged = tuple(row for row in rows if row.slot in slots)
    # SQLite silently drops commits after a damaged page of its WAL. The commit mark reveals that.
    lost = max(0, vector_file.committed_rows(snapshot.vector_path) - snapshot.info.slots)
    return Verification(len(rows), damaged, bounds_sound, lost)


def erase_dead_slots(folder: Path, catalogue: Catalogue, snapshot: Snapshot) -> None:
    """Overwrite the vectors and bounds of all dead slots with zeros, those of replaced crops included.

    Raises:
        OSError: the disk refused a write.
    """
    with catalogue.transaction() as connection:
        live = {slot for slot, _ in catalogue.checksums(connection)}
    dead = [slot for slot in range(snapshot.info.slots) if slot not in live]
    zeros = bytes(snapshot.vector_format.row_bytes)
    descriptor = os.open(snapshot.vector_path, os.O_WRONLY)
    try:
        for slot in dead:
            vector_file.write_all(descriptor, zeros, vector_file.HEADER_BYTES + slot * len(zeros))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    erase_bounds(folder, catalogue, snapshot.info, snapshot.projection, dead)


def compact_files(folder: Path, catalogue: Catalogue, snapshot: Snapshot) -> int:
    """Write a vector file of the next generation without dead slots, and switch to it in one commit.

    Returns:
        Number of slots freed.

    Raises:
        GalleryError: a row of the catalogue is damaged.
        OSError: the disk refused a write.
    """
    rows = sorted(catalogue.rows(), key=lambda row: row.slot)
    new_format = replace(snapshot.vector_format, generation=snapshot.vector_format.generation + 1)
    new_path = folder / new_format.file_name
    stored = snapshot.map_vectors()
    vector_file.create(new_path, new_format)
    for start in range(0, len(rows), _ROWS_PER_WRITE):
        block = np.ascontiguousarray(stored[[row.slot for row in rows[start : start + _ROWS_PER_WRITE]]])
        vector_file.append(new_path, block.tobytes(), vector_file.HEADER_BYTES + start * new_format.row_bytes)
    sync_path(folder)
    with catalogue.transaction(write=True) as connection:
        connection.execute("DELETE FROM row")
        for key, value in (("generation", str(new_format.generation)), ("slots", "0"), ("projection", "")):
            connection.execute("UPDATE info SET value = ? WHERE key = ?", (value, key))
        catalogue.insert(connection, rows, 0, [row.crc32 for row in rows])
    vector_file.mark_committed(new_path, len(rows))
    snapshot.vector_path.unlink()
    remove_bounds_files(folder, snapshot.info.generation)
    return snapshot.info.slots - len(rows)
