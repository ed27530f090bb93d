"""Descriptors of crops that several answers share: each is read once, and no more are in memory than fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import Gallery, GalleryRow

VECTORS_AT_ONCE = 20_000
"""Stored descriptors in memory at once: 300 MB of 3,840 values."""


@dataclass(frozen=True)
class StoredVectors:
    """Descriptors of some crops.

    Attributes:
        vectors: float32 (N, D).
        positions: row of each crop in ``vectors``, by its path.
    """

    vectors: NDArray[np.float32]
    positions: dict[str, int]

    @classmethod
    def of(cls, gallery: Gallery, rows: Sequence[GalleryRow]) -> StoredVectors:
        """Read them from the gallery: one call for all, none where there are no rows; a crop may come several times."""
        distinct = list({row.path: row for row in rows}.values())
        vectors = gallery.vectors(distinct) if distinct else np.empty((0, gallery.spec.dimension), np.float32)
        return cls(vectors, {row.path: index for index, row in enumerate(distinct)})

    def take(self, rows: Sequence[GalleryRow]) -> NDArray[np.float32]:
        """Descriptors of some of the crops, float32 (N, D); the caller owns them."""
        return self.vectors[[self.positions[row.path] for row in rows]]


def parts_in_memory(counts: Sequence[int]) -> Iterator[slice]:
    """Cut answers into parts whose crops' descriptors are in memory together.

    Args:
        counts: number of crops of each answer.
    """
    start = total = 0
    for index, count in enumerate(counts):
        if total and total + count > VECTORS_AT_ONCE:
            yield slice(start, index)
            start, total = index, 0
        total += count
    if start < len(counts):
        yield slice(start, len(counts))
