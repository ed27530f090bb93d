"""Rows by their labels: what finding people needs of galleries that are too large to be read for each request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import Moment


@dataclass(frozen=True)
class RowsByLabel:
    """The rows of a moment that matter for people.

    Attributes:
        labelled: all rows with a label, in no order.
        unlabelled: the newest rows without one, by their own time or else that of their file; by ascending id.
        left_out: number of older rows without a label.
    """

    labelled: list[GalleryRow]
    unlabelled: list[GalleryRow]
    left_out: int


@runtime_checkable
class LabelledMoment(Protocol):
    """A moment that finds rows by their labels without reading all rows one by one: that of a gallery in a folder."""

    def rows_by_label(self, most: int) -> RowsByLabel:
        """All labelled rows, and the ``most`` newest unlabelled ones."""
        ...

    def rows_labelled(self, label: str) -> list[GalleryRow]:
        """The rows of a label, in no order."""
        ...

    def labels(self) -> dict[str, int]:
        """Number of live rows by label; rows without one are not counted."""
        ...


def rows_by_label(moment: Moment, most: int) -> RowsByLabel:
    """All labelled rows of a moment, and the ``most`` newest unlabelled ones. Milvus has to read all rows for it."""
    if isinstance(moment, LabelledMoment):
        return moment.rows_by_label(most)
    rows = moment.rows()
    newest = sorted((row for row in rows if row.label is None), key=_age, reverse=True)
    kept = sorted(newest[:most], key=lambda row: row.id)
    return RowsByLabel([row for row in rows if row.label is not None], kept, len(newest) - len(kept))


def _age(row: GalleryRow) -> tuple[int, int]:
    return (row.time if row.time is not None else row.mtime_ns // 1000), row.id


def rows_labelled(moment: Moment, label: str) -> list[GalleryRow]:
    """The rows of a label, in no order."""
    if isinstance(moment, LabelledMoment):
        return moment.rows_labelled(label)
    return [row for row in moment.rows() if row.label == label]


def labels_of(moment: Moment) -> set[str]:
    """The labels of all live rows."""
    if isinstance(moment, LabelledMoment):
        return set(moment.labels())
    return {row.label for row in moment.rows() if row.label is not None}
