"""One snapshot of the local store as arrays: the columns that a search needs."""

from __future__ import annotations

import threading
from collections.abc import Sequence, Set
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.base import SearchFilter
from rrid_edge.gallery.local.decoding import decode, decode_into
from rrid_edge.gallery.local.nested import NestedBounds
from rrid_edge.gallery.local.schema import Columns
from rrid_edge.gallery.shared import UNKNOWN
from rrid_edge.machine.memory import memory_limit_bytes

BLOCK_ROWS = 2048
"""Rows decoded to float32 per step: 2048 x 3840 values are 31 MB."""
_MANY_QUERIES = 8
"""From this number of queries on, all rows are decoded at the first scan."""


class DecodedRows:
    """The first rows of one vector file in float32. The file only grows, so later states decode new rows only."""

    def __init__(self) -> None:
        self._rows = np.empty((0, 0), np.float32)
        self._count = 0
        self._lock = threading.Lock()

    def of(self, stored: NDArray[np.generic]) -> NDArray[np.float32]:
        """All rows of a state, decoded: float32 (slots, D). Arrays returned earlier stay valid."""
        slots = len(stored)
        with self._lock:
            if slots > len(self._rows) or self._rows.shape[1] != stored.shape[1]:  # the first state may have no rows
                # A quarter more than needed: a gallery that grows row by row is not copied each time.
                grown = np.empty((slots + slots // 4, stored.shape[1]), np.float32)
                if self._count:
                    grown[: self._count] = self._rows[: self._count]
                self._rows = grown
            if slots > self._count:
                decode_into(stored[self._count :], self._rows[self._count : slots])
                self._count = slots
            return self._rows[:slots]


class Vectors:
    """Stored vectors, decoded to float32 on access.

    After two scans all rows stay decoded if they fit in memory. The few rows that bounds leave are decoded each time.

    Args:
        stored: all rows, memory-mapped: (slots, D).
        budget_bytes: memory that decoded rows may take.
        earlier: decoded rows of an earlier state of the same file, or None.

    Attributes:
        stored: as given.
        decoded: the decoded rows, for later states; None while rows are decoded on access.
        spare: memory for copies of rows: (N, D) in the stored type, and float32 (N, D).
    """

    def __init__(self, stored: NDArray[np.generic], budget_bytes: int, earlier: DecodedRows | None = None) -> None:
        self.stored = stored
        self._plain: NDArray[np.generic] = np.asarray(stored)  # a memory map is slow row by row
        self._fits = stored.size * 4 <= budget_bytes
        self.decoded = earlier if self._fits else None
        self._decoded = None if self.decoded is None else self.decoded.of(stored)
        self.spare: list[tuple[NDArray[np.generic], NDArray[np.float32]]] = []
        self._accesses = 0
        self._lock = threading.Lock()

    def copy(self, slots: NDArray[np.int64], out: NDArray[np.generic]) -> None:
        """Copy rows of some slots, as they are stored now, into ``out`` (N, D)."""
        self._plain.take(slots, axis=0, out=out, mode="clip")  # other modes copy twice

    def take(self, slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Rows of some slots: float32 (N, D)."""
        return decode(self._plain[slots]) if self._decoded is None else self._decoded[slots]

    def products(self, queries: NDArray[np.float32]) -> NDArray[np.float32]:
        """Products of queries (Q, D) with every row: float32 (Q, slots). Rows are decoded in blocks."""
        self._count_accesses(len(self.stored) // 2 + 1 if len(queries) < _MANY_QUERIES else len(self.stored) + 1)
        if self._decoded is not None:
            with np.errstate(invalid="ignore", over="ignore"):  # damaged rows
                scores: NDArray[np.float32] = queries @ self._decoded.T
            return scores
        scores = np.empty((len(queries), len(self.stored)), np.float32)
        for start in range(0, len(self.stored), BLOCK_ROWS):
            block = decode(self._plain[start : start + BLOCK_ROWS])
            with np.errstate(invalid="ignore", over="ignore"):  # damaged rows
                np.matmul(queries, block.T, out=scores[:, start : start + BLOCK_ROWS])
        return scores

    def products_at(self, queries: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Products of queries (Q, D) with the rows of some slots: float32 (Q, N). Rows are decoded in blocks."""
        scores = np.empty((len(queries), len(slots)), np.float32)
        for start in range(0, len(slots), BLOCK_ROWS):
            block = self.take(slots[start : start + BLOCK_ROWS])
            with np.errstate(invalid="ignore", over="ignore"):  # damaged rows
                np.matmul(queries, block.T, out=scores[:, start : start + BLOCK_ROWS])
        return scores

    def _count_accesses(self, rows: int) -> None:
        with self._lock:
            self._accesses += rows
            self._decode_if_worth_it()

    def _decode_if_worth_it(self) -> None:
        # Decoding float16 takes longer than one query's product, so repeated decoding costs more than memory.
        if self._decoded is None and self._fits and self._accesses > len(self.stored):
            if self.stored.dtype == np.float32:
                self._decoded = np.asarray(self.stored, np.float32)  # no copy: the file holds it
            else:
                self.decoded = DecodedRows()
                self._decoded = self.decoded.of(self.stored)


@dataclass(frozen=True)
class View:
    """The live rows of one snapshot, by ascending slot.

    Attributes:
        vectors: of all slots, dead ones included.
        columns: of the rows.
        bounds: of the first slots, or None.
    """

    vectors: Vectors
    columns: Columns
    bounds: NestedBounds | None

    @property
    def slots(self) -> NDArray[np.int64]:
        """Slots of the rows: int64 (rows,), ascending."""
        return self.columns.slots

    def passing(self, search_filter: SearchFilter) -> NDArray[np.bool_]:
        """Which rows pass a filter, its files excepted: bool (rows,)."""
        columns = self.columns
        passes = np.ones(len(columns.slots), np.bool_)
        if search_filter.cameras:
            passes &= _named(columns.cameras, columns.camera_names, search_filter.cameras)
        if search_filter.not_cameras:
            passes &= ~_named(columns.cameras, columns.camera_names, search_filter.not_cameras)
        if search_filter.sources:
            passes &= _named(columns.sources, columns.source_names, search_filter.sources)
        passes &= _within(columns.times, search_filter.since, search_filter.until)
        passes &= _within(columns.frames, search_filter.since_frame, search_filter.until_frame)
        return passes

    def crcs_of(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Checksums of the stored vectors of some live slots: int64 (N,)."""
        crcs: NDArray[np.int64] = self.columns.crcs[np.searchsorted(self.slots, slots)]
        return crcs


def memory_budget_bytes() -> int:
    """Bytes that decoded vectors may take: a quarter of the memory that this process may use, at most 8 GiB.

    A gallery that takes more stays in its memory-mapped file, and its rows are decoded in blocks.
    """
    return min(memory_limit_bytes() // 4, 8 << 30)


def _named(codes: NDArray[np.int64], names: Sequence[str | None], wanted: Set[str]) -> NDArray[np.bool_]:
    """Which rows have one of some names: bool (rows,)."""
    if not names:
        return np.zeros(len(codes), np.bool_)
    known: NDArray[np.bool_] = np.array([name in wanted for name in names], np.bool_)[codes]
    return known


def _within(values: NDArray[np.int64], first: int | None, last: int | None) -> NDArray[np.bool_]:
    """Which known values lie in a range: bool (rows,). Without a range all rows pass."""
    passes = np.ones(len(values), np.bool_)
    if first is not None or last is not None:
        passes &= values != UNKNOWN
    if first is not None:
        passes &= values >= first
    if last is not None:
        passes &= values <= last
    return passes
