"""A fixed sample of a gallery's rows with their descriptors: what a query's usual scores are measured on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from rrid_edge.crops.naming import crop_kind
from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import Moment

SAMPLE_ROWS: Final = 256
_DIRECTIONS: Final = 16
_MIXING: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True)
class SampledRow:
    """Whom a sampled row shows.

    Attributes:
        person: as the file name writes it, or None.
        label: as a user confirmed it, or None.
        kind: what both mean; see :func:`rrid_edge.crops.naming.crop_kind`.
    """

    person: str | None = None
    label: str | None = None
    kind: str = ""

    @classmethod
    def of(cls, person: str | None, label: str | None, path: str | None) -> SampledRow:
        """Whom a row with these fields shows."""
        return cls(person, label, crop_kind(label, person, path))


@dataclass(frozen=True)
class RowSample:
    """Some rows of a gallery.

    Attributes:
        rows: whom they show.
        vectors: their descriptors, float32 (N, D). A damaged one may be among them: its values may be anything.
    """

    rows: tuple[SampledRow, ...]
    vectors: NDArray[np.float32]


@runtime_checkable
class SampledMoment(Protocol):
    """A moment that draws a sample without reading all rows: that of a gallery in a folder."""

    def sample(self, count: int) -> RowSample:
        """At most ``count`` rows, the same ones as long as no row is added or removed."""
        ...


def sample_of(moment: Moment, dimension: int, count: int = SAMPLE_ROWS) -> RowSample:
    """A sample of a gallery's rows.

    A server would have to list all its rows for a random sample. Its sample are the rows that lie nearest to some
    fixed random directions.

    Args:
        moment: of the gallery.
        dimension: values of a descriptor.
        count: most rows.

    Raises:
        GalleryChangedError: others changed the rows meanwhile.
    """
    if isinstance(moment, SampledMoment):
        return moment.sample(count)
    directions = np.random.default_rng(0).standard_normal((_DIRECTIONS, dimension)).astype(np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    found = moment.search(directions, max(1, count // _DIRECTIONS))
    rows = {hit.row.id: hit.row for hits in found.hits for hit in hits}
    return _read(moment, [rows[id_] for id_ in sorted(rows)], dimension)


def _read(moment: Moment, rows: Sequence[GalleryRow], dimension: int) -> RowSample:
    vectors = moment.vectors(rows) if rows else np.empty((0, dimension), np.float32)
    return RowSample(tuple(SampledRow.of(row.person, row.label, row.path) for row in rows), vectors)


def sampled(numbers: NDArray[np.int64], count: int = SAMPLE_ROWS) -> NDArray[np.int64]:
    """A fixed sample: the numbers whose hashes are lowest. Numbers that come or go change it little.

    Args:
        numbers: of all rows, int64 (N,), in any order: ids or slots.
        count: most rows.

    Returns:
        int64 (at most ``count``,), ascending.
    """
    if len(numbers) > count:
        keys = numbers.astype(np.uint64) * _MIXING
        keys ^= keys >> np.uint64(32)
        keys *= _MIXING
        numbers = numbers[np.argpartition(keys, count)[:count]]
    return np.sort(numbers)
