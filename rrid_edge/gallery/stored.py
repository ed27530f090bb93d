"""Stored descriptors that several answers share. Each is read once; memory is bounded."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryRow
from rrid_edge.gallery.contract import Moment
from rrid_edge.model.spec import ModelSpec

VECTORS_IN_MEMORY = 20_000
"""Most descriptors per batch: 300 MB at 3,840 values."""


@dataclass(frozen=True)
class StoredVectors:
    """Descriptors of some crops.

    Attributes:
        vectors: float32 (N, D).
        positions: index into ``vectors``, by the crop's id.
    """

    vectors: NDArray[np.float32]
    positions: dict[int, int]

    @classmethod
    def read(cls, moment: Moment, spec: ModelSpec, rows: Sequence[GalleryRow]) -> StoredVectors:
        """Read descriptors with one call, or none if ``rows`` is empty.

        Args:
            moment: that the rows belong to.
            spec: of the gallery's model.
            rows: that may repeat.

        Raises:
            GalleryChangedError: a row was forgotten or changed since.
            GalleryError: a vector is damaged.
        """
        distinct = list({row.id: row for row in rows}.values())
        vectors = moment.vectors(distinct) if distinct else np.empty((0, spec.dimension), np.float32)
        return cls(vectors, {row.id: index for index, row in enumerate(distinct)})

    def take(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """Descriptors of some of the crops, float32 (N, D); the caller owns them."""
        return self.vectors[[self.positions[row.id] for row in rows]]


def memory_batches(counts: Sequence[int]) -> Iterator[slice]:
    """Cut answers into batches whose crops number at most :data:`VECTORS_IN_MEMORY`, or a single answer.

    Args:
        counts: number of crops per answer.
    """
    start = total = 0
    for index, count in enumerate(counts):
        if total and total + count > VECTORS_IN_MEMORY:
            yield slice(start, index)
            start, total = index, 0
        total += count
    if start < len(counts):
        yield slice(start, len(counts))
