"""One moment of the local store as arrays: what a search needs of every row, and nothing more."""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import GalleryInfo, SearchFilter
from rrid_edge.gallery.projection import Projection

UNKNOWN = -(2**62)
"""Stands for a camera or a time that is not known."""


@dataclass(frozen=True)
class View:
    """The live rows of one moment, by ascending slot.

    Attributes:
        info: what the store says of itself.
        stored: all vectors, mapped: (slots, D).
        slots: int64 (rows,).
        cameras: int64 (rows,), :data:`UNKNOWN` where the name does not tell.
        times: int64 (rows,), likewise.
        crcs: int64 (rows,): checksums of the stored vectors.
        projection: bounds of the first slots, where there are any.
    """

    info: GalleryInfo
    stored: NDArray[np.generic]
    slots: NDArray[np.int64]
    cameras: NDArray[np.int64]
    times: NDArray[np.int64]
    crcs: NDArray[np.int64]
    projection: Projection | None
    _place: dict[str, NDArray[np.int64]] = field(default_factory=dict)

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

    def decode(self, slots: NDArray[np.int64] | slice) -> NDArray[np.float32]:
        """Vectors of some slots: float32 (N, D)."""
        return np.asarray(self.stored[slots], np.float32)

    def is_sound(self, slot: int) -> bool:
        """Whether the stored vector of a live slot fits its checksum."""
        place = int(np.searchsorted(self.slots, slot))
        return zlib.crc32(self.stored[slot].tobytes()) == int(self.crcs[place])


def memory_budget_bytes() -> int:
    """Memory that decoded vectors may take: a quarter of the machine's, at most 8 GiB."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4, 8 << 30)


def columns(found: Sequence[tuple[int, int, int, int]]) -> tuple[NDArray[np.int64], ...]:
    """Rows (slot, camera, time, crc32) as four arrays."""
    table = np.array(found, np.int64).reshape(-1, 4)
    return tuple(np.ascontiguousarray(table[:, index]) for index in range(4))
