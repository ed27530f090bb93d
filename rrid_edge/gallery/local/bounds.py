"""Keeping the bounds of the two-pass search up to date: the projection of a gallery's vectors, and its facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryInfo
from rrid_edge.gallery.local.catalogue import Catalogue
from rrid_edge.gallery.local.projection import (
    FIT_ROWS,
    Projection,
    ProjectionFacts,
    ProjectionFiles,
    dimensions_for,
    fit_basis,
    project,
)
from rrid_edge.gallery.local.view import BLOCK_ROWS

TWO_PASS_ROWS = 10_000
"""Galleries of fewer slots are scanned: bounds do not save time there."""
_REFIT_FACTOR = 2
"""The basis is fitted again when the gallery has grown by this factor."""
_FACT = "projection"


def needs_bounds(info: GalleryInfo) -> bool:
    """Whether a gallery is large enough for the two-pass search."""
    return info.slots >= TWO_PASS_ROWS


def load_bounds(folder: Path, info: GalleryInfo, facts: ProjectionFacts | None) -> Projection | None:
    """The projection of a gallery; None for a small gallery, or if its files are missing or damaged.

    Args:
        folder: of the index.
        info: facts of the gallery.
        facts: facts of the projection, or None.
    """
    if facts is None or not needs_bounds(info):
        return None
    return ProjectionFiles(folder, info.generation).load(facts, info.spec.dimension)


def refresh_bounds(
    folder: Path,
    catalogue: Catalogue,
    info: GalleryInfo,
    facts: ProjectionFacts | None,
    stored: NDArray[np.generic],
) -> None:
    """Project all slots that have no bounds yet. The basis is fitted again if the gallery has doubled since.

    Args:
        folder: of the index.
        catalogue: open for writing.
        info: facts of the gallery.
        facts: facts of the projection, or None.
        stored: all rows, memory-mapped: (slots, D).

    Raises:
        OSError: the disk refused a write.
    """
    slots = info.slots
    files = ProjectionFiles(folder, info.generation)
    projection = files.load(facts, info.spec.dimension) if facts is not None else None
    if facts is None or projection is None or slots >= _REFIT_FACTOR * facts.fitted_on:
        basis = _fitted(catalogue, stored)
        if basis is None:
            return
        # The old facts go first: a reader must never combine one basis with the rows of another.
        catalogue.set_fact(_FACT, "")
        facts = replace(files.create(basis), fitted_on=slots)
    else:
        basis = projection.basis
    if facts.rows == slots:
        return
    while facts.rows < slots:
        block = stored[facts.rows : min(slots, facts.rows + BLOCK_ROWS)]
        facts = files.append(facts, project(basis, np.asarray(block, np.float32)))
    catalogue.set_fact(_FACT, facts.to_json())


def _fitted(catalogue: Catalogue, stored: NDArray[np.generic]) -> NDArray[np.float32] | None:
    """A basis (D, K) of evenly spaced live rows; None if no row is live."""
    with catalogue.transaction() as connection:
        live = np.array([slot for slot, _ in catalogue.checksums(connection)], np.int64)
    if not len(live):
        return None
    sample = live[np.linspace(0, len(live) - 1, min(FIT_ROWS, len(live))).astype(np.int64)]
    return fit_basis(np.asarray(stored[sample], np.float32), dimensions_for(stored.shape[1]))


def bounds_are_intact(folder: Path, info: GalleryInfo, facts: ProjectionFacts | None) -> bool:
    """Whether the projected rows match their checksum. A gallery without a projection is intact."""
    return facts is None or ProjectionFiles(folder, info.generation).checksum(facts) == facts.crc32


def discard_bounds(catalogue: Catalogue) -> None:
    """Remove the facts of the projection, so that the next :func:`refresh_bounds` makes it again."""
    catalogue.set_fact(_FACT, "")


def erase_bounds(
    folder: Path, catalogue: Catalogue, info: GalleryInfo, facts: ProjectionFacts | None, slots: Sequence[int]
) -> None:
    """Overwrite the projected rows of some slots with zeros.

    Raises:
        OSError: the disk refused a write.
    """
    if facts is not None:
        files = ProjectionFiles(folder, info.generation)
        catalogue.set_fact(_FACT, files.overwrite(facts, slots).to_json())


def remove_bounds_files(folder: Path, generation: int) -> None:
    """Delete the projection's files of a generation, if they exist."""
    files = ProjectionFiles(folder, generation)
    for path in (files.basis_path, files.rows_path):
        path.unlink(missing_ok=True)
