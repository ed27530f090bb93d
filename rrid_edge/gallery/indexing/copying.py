"""Copying a gallery from one store to another without embedding again: values stay what they are, bit for bit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np

from rrid_edge.errors import FingerprintMismatchError, GalleryError, UsageError, printable
from rrid_edge.gallery.base import Gallery, GalleryRow, NewRow
from rrid_edge.progress import NO_PROGRESS, Progress

BATCH_ROWS = 512


@dataclass(frozen=True)
class CopyReport:
    """What one copying did.

    Attributes:
        rows: crops that both galleries hold now.
        copied: crops written.
        present: crops that were there already with the same facts and values.
        damaged: paths of crops whose stored vector is damaged in the source; they were left out.
    """

    rows: int
    copied: int
    present: int
    damaged: tuple[str, ...] = ()


def copy_gallery(
    source: Gallery,
    destination: Gallery,
    *,
    progress: Progress = NO_PROGRESS,
) -> CopyReport:
    """Copy all rows; what is there already stays, so that a copy that was cut off goes on.

    At the end the destination is read: its crops are counted, and every vector must fit the checksum that was computed of
    the value before it was sent.

    Args:
        source: open for reading.
        destination: open for writing, of the same model.
        progress: told the number of crops to look at, and how many were.

    Raises:
        FingerprintMismatchError: another model.
        UsageError: a destination of less precision.
        GalleryError: a destination that holds other crops, or one that does not hold what was written.
    """
    _refuse_unfit(source, destination)
    rows = source.rows()
    damaged = {row.path for row in source.verify().damaged}
    wanted = [row for row in rows if row.path not in damaged]
    stored = {row.path: row for row in destination.rows()}
    extra = stored.keys() - {row.path for row in rows}
    if extra:
        raise GalleryError(
            f"the destination holds {len(extra)} crops that the source does not have, {printable(min(extra))} among them: "
            "copy into an empty gallery, or forget them first"
        )
    again = {row.path for row in destination.verify().damaged}
    progress.start(len(wanted))
    copied = 0
    for part in _batches(wanted):
        copied += _copy(source, destination, part, stored, again)
        progress.advance(len(part))
    if model := source.info().model:
        destination.set_model(Path(model))
    destination.finish()
    _compare_counts(destination, len(wanted) + len(damaged & stored.keys()))
    return CopyReport(len(wanted), copied, len(wanted) - copied, tuple(sorted(damaged)))


def _refuse_unfit(source: Gallery, destination: Gallery) -> None:
    own, other = source.info(), destination.info()
    if own.spec.fingerprint != other.spec.fingerprint:
        raise FingerprintMismatchError(
            f"the destination belongs to another model (fingerprint {other.spec.fingerprint[:12]}) than the source "
            f"({own.spec.fingerprint[:12]}): their descriptors must not be mixed; name another destination"
        )
    if own.dtype == "float32" and other.dtype == "float16":
        raise UsageError(
            "the source holds float32 values, the destination float16: copying would round them; name a new destination"
        )


def _copy(
    source: Gallery, destination: Gallery, part: Sequence[GalleryRow], stored: dict[str, GalleryRow], again: set[str]
) -> int:
    """Write those crops of a batch that are not there with the same facts and values; returns their number."""
    vectors = source.vectors(part)
    there = [index for index, row in enumerate(part) if row.path in stored and row.path not in again]
    same = {index for index in there if _facts(stored[part[index].path]) == _facts(part[index])}
    if same:
        order = sorted(same)
        found = destination.vectors([stored[part[index].path] for index in order])
        same = {index for index, vector in zip(order, found, strict=True) if np.array_equal(vector, vectors[index])}
    missing = [index for index in range(len(part)) if index not in same]
    if missing:
        destination.add([_facts(part[index]) for index in missing], vectors[missing])
    return len(missing)


def _compare_counts(destination: Gallery, expected: int) -> None:
    found = destination.verify()
    if found.rows != expected or found.damaged:
        raise GalleryError(
            f"the destination holds {found.rows} crops, {len(found.damaged)} of them damaged, instead of {expected}: "
            "somebody else writes it; copy again"
        )


def _facts(row: NewRow) -> NewRow:
    """A row without what its store adds."""
    return NewRow(**{field.name: getattr(row, field.name) for field in fields(NewRow)})


def _batches(rows: Sequence[GalleryRow]) -> Iterator[Sequence[GalleryRow]]:
    for start in range(0, len(rows), BATCH_ROWS):
        yield rows[start : start + BATCH_ROWS]
