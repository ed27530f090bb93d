"""Copies of stored rows: what is scored is what was checked, because another process may erase a row meanwhile."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rrid_edge.gallery.local.decoding import decode_few
from rrid_edge.gallery.local.products import products_of, without_infinite
from rrid_edge.gallery.local.view import View
from rrid_edge.gallery.shared import exact_scores

_MOST_SPARE_BYTES, _MOST_SPARE = 1 << 24, 2
"""Memory that is kept for later searches: of up to 2 searches at the same time, 16 MB of decoded rows each."""


class RowCopies:
    """Copies of live rows for a few queries. Each row is read and decoded once, and checked at most once.

    Args:
        view: the rows.

    Attributes:
        slots: int64 (N,): of the copies, in the order of reading.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        dimension, dtype = view.vectors.stored.shape[1], view.vectors.stored.dtype
        try:
            self._stored, self._decoded = view.vectors.spare.pop()
        except IndexError:
            self._stored, self._decoded = np.empty((0, dimension), dtype), np.empty((0, dimension), np.float32)
        self.clear()

    def end(self) -> None:
        """Leave the memory to the next search. No method may be called after."""
        if self._decoded.nbytes <= _MOST_SPARE_BYTES and len(self._view.vectors.spare) < _MOST_SPARE:
            self._view.vectors.spare.append((self._stored, self._decoded))

    def clear(self) -> None:
        """Drop all copies. Their memory is used again, because new memory takes as long as decoding."""
        self.slots = self._sorted = self._order = np.empty(0, np.int64)
        self._are_intact: dict[int, bool] = {}

    def add(self, slots: NDArray[np.int64]) -> None:
        """Read some slots (N,), repeated or read before."""
        # In the order asked for, so that the rows of one query lie together.
        new = np.array(list(dict.fromkeys(slots.tolist())), np.int64)  # np.unique imports numpy.ma, which takes 30 ms
        if len(self._sorted):
            nearest = np.minimum(np.searchsorted(self._sorted, new), len(self._sorted) - 1)
            new = new[self._sorted[nearest] != new]
        if not len(new):
            return
        start, stop = len(self.slots), len(self.slots) + len(new)
        if stop > len(self._decoded):
            self._stored, self._decoded = (_grown(rows, start, stop) for rows in (self._stored, self._decoded))
        self._view.vectors.copy(new, self._stored[start:stop])
        decode_few(self._stored[start:stop], self._decoded[start:stop])
        self.slots = np.concatenate([self.slots, new])
        self._order = np.argsort(self.slots)
        self._sorted = self.slots[self._order]

    def positions(self, slots: NDArray[np.int64]) -> NDArray[np.int64]:
        """Positions of copied slots (N,) in :attr:`slots`: int64 (N,)."""
        found: NDArray[np.int64] = self._order[np.searchsorted(self._sorted, slots)]
        return found

    def products(self, query: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Products of a query (D,) with copied slots (N,): float32 (N,); minus infinity where they are not finite."""
        positions = self.positions(slots)
        together = len(slots) > 0 and bool((np.diff(positions) == 1).all())
        rows = self._decoded[positions[0] : positions[-1] + 1] if together else self._decoded[positions]
        return without_infinite(products_of(rows, query))

    def are_intact(self, slots: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some slots (N,) match their checksums: bool (N,). Reads those that were not copied."""
        known, wanted = self._are_intact, slots.tolist()
        missing = [slot for slot in dict.fromkeys(wanted) if slot not in known]
        if missing:
            unknown = np.array(missing, np.int64)
            self.add(unknown)
            crcs = self._view.crcs_of(unknown).tolist()
            for slot, position, crc in zip(missing, self.positions(unknown).tolist(), crcs, strict=True):
                known[slot] = zlib.crc32(self._stored[position]) == crc
        return np.fromiter(map(known.__getitem__, wanted), np.bool_, len(wanted))

    def exact_scores(self, query: NDArray[np.float32], slots: NDArray[np.int64]) -> NDArray[np.float32]:
        """Exact scores of copied slots (N,) for a query (D,): float32 (N,)."""
        return exact_scores(query, [self._decoded[position] for position in self.positions(slots).tolist()])


def _grown(rows: NDArray[Any], kept: int, needed: int) -> NDArray[Any]:
    """A larger array with the first ``kept`` rows."""
    result = np.empty((max(needed, 2 * kept), rows.shape[1]), rows.dtype)
    result[:kept] = rows[:kept]
    return result
