"""Copying a gallery from one store to another, bit for bit and without embedding again."""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from rrid_edge.errors import FingerprintMismatchError, GalleryError, UsageError, printable
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.progress import NO_PROGRESS, Progress

BATCH_ROWS = 512
"""Rows per write."""


@dataclass(frozen=True)
class CopyReport:
    """The result of one copy.

    Attributes:
        rows: crops that both galleries hold now.
        copied: crops written.
        present: crops that the destination already held with the same facts and values.
        damaged: paths of crops that were not copied, because their vector is damaged in the source.
    """

    rows: int
    copied: int
    present: int
    damaged: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Stored:
    """What the destination holds: its rows by path, and the paths whose vector is damaged."""

    rows: dict[str, GalleryRow]
    damaged: Set[str]


def copy_gallery(
    source: GalleryStore,
    destination: GalleryStore,
    *,
    progress: Progress = NO_PROGRESS,
) -> CopyReport:
    """Copy all rows. Rows that the destination already holds stay, so an interrupted copy can be repeated.

    At the end every vector of the destination is checked against the checksum that was computed before it was sent.

    Args:
        source: open for reading.
        destination: open for writing, of the same model.
        progress: receives the number of crops, and how many are done.

    Raises:
        FingerprintMismatchError: the galleries have different models.
        UsageError: the destination stores values in fewer bits.
        GalleryError: the destination holds other crops, or not all that were written.
    """
    _refuse_unfit(source, destination)
    rows = source.rows()
    damaged = {row.path for row in source.verify().damaged}
    intact = [row for row in rows if row.path not in damaged]
    stored = _read_destination(destination, {row.path for row in rows})
    progress.start(len(intact))
    copied = 0
    for start in range(0, len(intact), BATCH_ROWS):
        batch = intact[start : start + BATCH_ROWS]
        copied += _copy_batch(source, destination, batch, stored)
        progress.advance(len(batch))
    if model := source.info().model:
        destination.set_model(Path(model))
    destination.finish()
    _check_copy(destination, len(intact) + len(damaged & stored.rows.keys()))
    return CopyReport(len(intact), copied, len(intact) - copied, tuple(sorted(damaged)))


def _refuse_unfit(source: GalleryStore, destination: GalleryStore) -> None:
    source_info, destination_info = source.info(), destination.info()
    if source_info.spec.fingerprint != destination_info.spec.fingerprint:
        raise FingerprintMismatchError(
            f"the destination belongs to another model (fingerprint {destination_info.spec.fingerprint[:12]}) than the "
            f"source ({source_info.spec.fingerprint[:12]}): their descriptors cannot be compared; name another "
            "destination"
        )
    if source_info.dtype == "float32" and destination_info.dtype == "float16":
        raise UsageError(
            "the source holds float32 values, the destination float16: copying would round them; name a new destination"
        )


def _read_destination(destination: GalleryStore, source_paths: Set[str]) -> _Stored:
    """Rows of the destination.

    Raises:
        GalleryError: it holds crops that the source does not have.
    """
    stored = {row.path: row for row in destination.rows()}
    extra = stored.keys() - source_paths
    if extra:
        raise GalleryError(
            f"the destination holds {len(extra)} crops that the source does not have, for example "
            f"{printable(min(extra))}: copy into an empty gallery, or forget these crops first"
        )
    return _Stored(stored, {row.path for row in destination.verify().damaged})


def _copy_batch(source: GalleryStore, destination: GalleryStore, batch: Sequence[GalleryRow], stored: _Stored) -> int:
    """Write the crops that the destination does not hold with the same facts and values; returns their number."""
    vectors = source.vectors(batch)
    same_facts = [
        index
        for index, row in enumerate(batch)
        if row.path in stored.rows and row.path not in stored.damaged and _facts(stored.rows[row.path]) == _facts(row)
    ]
    same: set[int] = set()
    if same_facts:
        values = destination.vectors([stored.rows[batch[index].path] for index in same_facts])
        pairs = zip(same_facts, values, strict=True)
        same = {index for index, vector in pairs if np.array_equal(vector, vectors[index])}
    missing = [index for index in range(len(batch)) if index not in same]
    if missing:
        destination.add([_facts(batch[index]) for index in missing], vectors[missing])
    return len(missing)


def _check_copy(destination: GalleryStore, expected: int) -> None:
    result = destination.verify()
    if result.rows != expected or result.damaged:
        raise GalleryError(
            f"the destination holds {result.rows} crops, {len(result.damaged)} of them damaged, instead of {expected}: "
            "another process writes it; copy again"
        )


def _facts(row: NewRow) -> NewRow:
    """A row without the fields that its store adds."""
    return NewRow(**{field.name: getattr(row, field.name) for field in fields(NewRow)})
