"""From embedded crops to rows, and storing them so that one bad row costs no other one."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from rrid_edge.embedding.pipeline import EmbeddedBatch, FileFacts
from rrid_edge.gallery.base import GalleryRow, NewRow
from rrid_edge.gallery.contract import GalleryStore
from rrid_edge.gallery.indexing.left_out import FileState
from rrid_edge.gallery.indexing.sparing import reason_of_item, store_each
from rrid_edge.gallery.shared import stored_mtime

DescribedRow = tuple[NewRow, NDArray[np.float32]]
"""A row with its descriptor (D,)."""


class RowReader(Protocol):
    """Makes the rows of crops, for example :class:`rrid_edge.gallery.indexing.facts.FactReader`."""

    @property
    def folder(self) -> Path:
        """Folder that the rows' paths are relative to."""
        ...

    def row(self, path: str, file: FileFacts) -> NewRow:
        """A new row of a crop."""
        ...

    def touched(self, row: GalleryRow, file: FileFacts) -> GalleryRow:
        """A stored row whose file has the same content, but another size or time."""
        ...


@dataclass(frozen=True)
class MadeRows:
    """What became of some crops.

    Attributes:
        rows: new rows and those whose content changed.
        touched: stored rows whose file was only touched.
        failed: crops that could not be decoded, or that have no row, with the reason.
        forgotten: crops whose content was forgotten, with the state of their file.
    """

    rows: list[DescribedRow] = field(default_factory=list)
    touched: list[GalleryRow] = field(default_factory=list)
    failed: list[tuple[str, str]] = field(default_factory=list)
    forgotten: dict[str, FileState] = field(default_factory=dict)


def made_rows(
    batch: EmbeddedBatch,
    reader: RowReader,
    stored: Mapping[str, GalleryRow],
    *,
    damaged: Set[str] = frozenset(),
    kept_out: Collection[str] = (),
) -> MadeRows:
    """The rows of embedded crops.

    Args:
        batch: crops with their descriptors.
        reader: makes the rows.
        stored: rows of the gallery by path.
        damaged: paths whose stored vector is damaged.
        kept_out: contents (SHA-256, hex) that were forgotten.
    """
    made = MadeRows(failed=[(_path(path, reader), reason) for path, reason in batch.failed])
    for facts, vector in zip(batch.files, batch.descriptors, strict=True):
        path = _path(facts.path, reader)
        if facts.sha256 in kept_out:
            made.forgotten[path] = (facts.size, stored_mtime(facts.mtime_ns))
            continue
        try:
            old = stored.get(path)
            if old is not None and old.sha256 == facts.sha256 and path not in damaged:
                made.touched.append(reader.touched(old, facts))
            else:
                made.rows.append((reader.row(path, facts), vector))
        except Exception as error:
            if (reason := reason_of_item(error)) is None:
                raise
            made.failed.append((path, reason))
    return made


def _path(path: Path, reader: RowReader) -> str:
    return path.relative_to(reader.folder).as_posix()


def store_rows(gallery: GalleryStore, rows: Sequence[DescribedRow]) -> list[tuple[NewRow, str]]:
    """Store rows with their descriptors in one commit; returns those that cannot be stored, with the reason."""

    def add(some: Sequence[DescribedRow]) -> None:
        gallery.add([row for row, _ in some], np.stack([vector for _, vector in some]))

    return [(row, reason) for (row, _), reason in store_each(add, rows)] if rows else []
