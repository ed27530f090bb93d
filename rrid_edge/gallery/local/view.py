"""One moment of the local store as arrays: what a search needs of every row, and nothing more."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryInfo, SearchFilter
from rrid_edge.gallery.local.projection import Projection
from rrid_edge.gallery.shared import UNKNOWN

BLOCK_ROWS = 2048
"""Rows decoded to float32 at once: 2048 x 3840 values are 31 MB."""
_MANY = 8
"""Queries for which decoding all rows pays at once."""


class Vectors:
    """Stored vectors, decoded to float32 as they are asked for, and kept decoded once that has paid.

    NumPy decodes float16 five times more slowly than it multiplies: who scans twice, or asks for as many rows as there are,
    gets all of them decoded once, where they fit.

    Args:
        stored: all rows, mapped: (slots, D).
        budget_bytes: memory that decoded rows may take.

    Attributes:
        stored: as given.
    """

    def __init__(self, stored: NDArray[np.generic], budget_bytes: int) -> None:
        self.stored = stored
        self._fits = stored.size * 4 <= budget_bytes
        self._decoded: NDArray[np.float32] | None = None
        self._asked = 0

    def take(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows of some slots: float32 (N, D)."""
        self._ask(len(slots))
        rows = self.stored if self._decoded is None else self._decoded
        return np.asarray(rows[slots], np.float32)

    def products(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Products of queries (Q, D) with every row, float32 (Q, slots); memory beside them is bounded by a block."""
        self._ask(len(self.stored) // 2 + 1 if len(queries) < _MANY else len(self.stored) + 1)
        if self._decoded is not None:
            scores: NDArray[np.float32] = queries @ self._decoded.T
            return scores
        scores = np.empty((len(queries), len(self.stored)), np.float32)
        for start in range(0, len(self.stored), BLOCK_ROWS):
            block = np.asarray(self.stored[start : start + BLOCK_ROWS], np.float32)
            np.matmul(queries, block.T, out=scores[:, start : start + BLOCK_ROWS])
        return scores

    def _ask(self, rows: int) -> None:
        self._asked += rows
        if self._decoded is None and self._fits and self._asked > len(self.stored):
            self._decoded = np.asarray(self.stored, np.float32)


@dataclass(frozen=True)
class View:
    """The live rows of one moment, by ascending slot.

    Attributes:
        info: what the store says of itself.
        vectors: of all slots, dead ones included.
        slots: int64 (rows,).
        cameras: int64 (rows,), :data:`UNKNOWN` where the name does not tell.
        times: int64 (rows,), likewise.
        crcs: int64 (rows,): checksums of the stored vectors.
        projection: bounds of the first slots, where there are any.
    """

    info: GalleryInfo
    vectors: Vectors
    slots: NDArray[np.int64]
    cameras: NDArray[np.int64]
    times: NDArray[np.int64]
    crcs: NDArray[np.int64]
    projection: Projection | None

    def passing(self, search_filter: SearchFilter) -> NDArray[np.bool_]:
        """Which rows pass the parts of a filter that do not look at paths: (rows,)."""
        passes = np.ones(len(self.slots), np.bool_)
        if search_filter.cameras:
            passes &= np.isin(self.cameras, list(search_filter.cameras))
        if search_filter.not_cameras:
            passes &= ~np.isin(self.cameras, list(search_filter.not_cameras))
        if search_filter.since is not None:
            passes &= self.times >= search_filter.since
        if search_filter.until is not None:
            passes &= (self.times <= search_filter.until) & (self.times != UNKNOWN)
        return passes

    def is_sound(self, slot: int) -> bool:
        """Whether the stored vector of a live slot fits its checksum."""
        position = int(np.searchsorted(self.slots, slot))
        return zlib.crc32(self.vectors.stored[slot].tobytes()) == int(self.crcs[position])


def memory_budget_bytes() -> int:
    """Memory that decoded vectors may take: a quarter of the machine's, at most 8 GiB."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4, 8 << 30)


def columns(found: Sequence[tuple[int, int, int, int]]) -> tuple[NDArray[np.int64], ...]:
    """Rows (slot, camera, time, crc32) as four arrays."""
    table = np.array(found, np.int64).reshape(-1, 4)
    return tuple(np.ascontiguousarray(table[:, index]) for index in range(4))
