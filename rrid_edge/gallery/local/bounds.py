"""Keeping the bounds of the two-pass search up to date: the projection of a gallery's vectors, and its facts."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryInfo
from rrid_edge.gallery.local.decoding import decode
from rrid_edge.gallery.local.facts import Facts, commit, vector_format_of
from rrid_edge.gallery.local.mapped import erase_file
from rrid_edge.gallery.local.nested import FIT_ROWS, NestedBounds, are_usable, fit_basis, levels_for, project_rows
from rrid_edge.gallery.local.projection import ProjectionFacts, ProjectionFiles
from rrid_edge.gallery.local.view import BLOCK_ROWS

TWO_PASS_ROWS = 10_000
"""Galleries of fewer slots are scanned: bounds do not save time there."""
_REFIT_FACTOR = 2
"""The basis is fitted again when the gallery has grown by this factor."""
FACT = "projection"
_EARLIER = ".projected"
"""Ending of a file of earlier versions beside their basis."""


def needs_bounds(info: GalleryInfo) -> bool:
    """Whether a gallery is large enough for the two-pass search."""
    return info.slots >= TWO_PASS_ROWS


def _files(folder: Path, info: GalleryInfo, facts: ProjectionFacts | None) -> ProjectionFiles:
    return ProjectionFiles(folder, info.generation, 0 if facts is None else facts.fit)


def bounds_paths(folder: Path, info: GalleryInfo, facts: ProjectionFacts | None) -> tuple[Path, ...]:
    """The files of a gallery's projection."""
    return () if facts is None else _files(folder, info, facts).paths


def load_bounds(folder: Path, info: GalleryInfo, facts: ProjectionFacts | None) -> NestedBounds | None:
    """The projection of a gallery; None for a small gallery, or if its files are missing or damaged.

    Args:
        folder: of the index.
        info: facts of the gallery.
        facts: facts of the projection, or None.
    """
    if facts is None or not needs_bounds(info):
        return None
    return _files(folder, info, facts).load(facts, info.spec.dimension)


def refresh_bounds(
    folder: Path,
    connection: sqlite3.Connection,
    info: GalleryInfo,
    facts: ProjectionFacts | None,
    stored: NDArray[np.generic],
    mode: int,
) -> None:
    """Project all slots that have no bounds yet. The basis is fitted again if the gallery has doubled since.

    Args:
        folder: of the index.
        connection: of the writer.
        info: facts of the gallery.
        facts: facts of the projection, or None.
        stored: all rows, memory-mapped: (slots, D).
        mode: permissions of new files.

    Raises:
        OSError: the disk refused a write.
    """
    slots, old = info.slots, facts
    projection = load_bounds(folder, info, facts)
    if facts is None or projection is None or slots >= _REFIT_FACTOR * facts.fitted_on:
        basis = _fitted(connection, stored)
        if basis is None:
            return
        fit = _free_fit(folder, info)
        facts = replace(ProjectionFiles(folder, info.generation, fit).create(basis, mode), fitted_on=slots)
    else:
        basis = projection.basis
    if facts.rows == slots:
        return
    files = _files(folder, info, facts)
    while facts.rows < slots:
        block = stored[facts.rows : min(slots, facts.rows + BLOCK_ROWS)]
        facts = files.append(facts, project_rows(decode(block), basis, facts.first))
    with commit(connection, folder) as changed:
        changed[FACT] = facts.to_json()
    if old is not None and old.fit != facts.fit:
        erase_bounds_files(folder, info, bounds_paths(folder, info, old))


def _free_fit(folder: Path, info: GalleryInfo) -> int:
    """The first number of a basis that has no files: readers may still use the files of others."""
    fit = 0
    while True:
        paths = ProjectionFiles(folder, info.generation, fit).paths
        if not any(path.exists() for path in (*paths, paths[0].with_suffix(_EARLIER))):
            return fit
        fit += 1


def _fitted(connection: sqlite3.Connection, stored: NDArray[np.generic]) -> NDArray[np.float32] | None:
    """A basis (D, K) of evenly spaced live rows; None if no row is live and finite."""
    records = connection.execute("SELECT slot FROM row WHERE dead = 0 ORDER BY slot").fetchall()
    live = np.array(records, np.int64).reshape(-1)
    if not len(live):
        return None
    sample = live[np.linspace(0, len(live) - 1, min(FIT_ROWS, len(live))).astype(np.int64)]
    rows = decode(stored[sample])
    rows = rows[are_usable(rows)]
    return fit_basis(rows, levels_for(stored.shape[1]).second) if len(rows) else None


def bounds_are_intact(folder: Path, info: GalleryInfo, facts: ProjectionFacts | None) -> bool:
    """Whether the projected rows match their checksums. A gallery without bounds is intact."""
    return facts is None or facts.is_being_erased or _files(folder, info, facts).are_intact(facts)


def mark_erasing(changed: Facts) -> None:
    """Record, within a commit, that projected rows will be overwritten."""
    facts = ProjectionFacts.from_json(changed[FACT])
    if facts is not None:
        changed[FACT] = facts.marked().to_json()


def erase_bounds(folder: Path, info: GalleryInfo, facts: ProjectionFacts | None, slots: Iterable[int]) -> str:
    """Overwrite the projected rows of some slots with zeros; returns the new text of the facts.

    Raises:
        OSError: the disk refused a write.
    """
    erased = None if facts is None else _files(folder, info, facts).overwrite(facts, slots)
    return "" if erased is None else erased.to_json()


def erase_bounds_files(folder: Path, info: GalleryInfo, paths: Iterable[Path]) -> None:
    """Erase files of a projection that no longer counts, unless a reader of the same vector file still uses them."""
    guard = folder / vector_format_of(info).file_name
    for path in paths:
        erase_file(path, guard=guard if guard.exists() else None)
