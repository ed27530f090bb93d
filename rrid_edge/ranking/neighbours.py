"""Nearest neighbours among unit descriptors, and sparse matrices: the parts of :mod:`rrid_edge.ranking.rerank`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

_BLOCK = 1024
"""Rows and columns of one block of the distance matrix: 4 MiB, which fits the CPU cache."""
_KEPT_FACTOR = 2
"""Neighbours kept per neighbour asked for, so that most distances between neighbours are in the table."""
_PAIR_BLOCK = 4096
"""Pairs per block when missing distances are computed."""


@dataclass(frozen=True)
class Neighbours:
    """The nearest images of each image, and their squared distances. The image itself is its first neighbour.

    Images are numbered: queries first, then the gallery.

    Attributes:
        index: int32 (images, kept): numbers of the neighbours, nearest first.
        squared: float32 (images, kept): squared distances to them.
        largest: float32 (images,): largest squared distance of each image to any other.
        parts: descriptors of the queries and of the gallery, float32 (N, D).
    """

    index: NDArray[np.int32]
    squared: NDArray[np.float32]
    largest: NDArray[np.float32]
    parts: tuple[NDArray[np.float32], NDArray[np.float32]]

    def normalised(self, row: NDArray[np.int64], column: NDArray[np.int64]) -> NDArray[np.float32]:
        """Squared distances of pairs of images, divided by the largest one of the pair's first image.

        Args:
            row: int64 (pairs,): first images.
            column: int64 (pairs,): second images.

        Returns:
            float32 (pairs,).
        """
        images, kept = self.index.shape
        keys = (np.arange(images, dtype=np.int64)[:, None] * images + self.index).ravel()
        order = np.argsort(keys)
        wanted = row.astype(np.int64) * images + column
        place = order[np.minimum(np.searchsorted(keys, wanted, sorter=order), images * kept - 1)]
        values = self.squared.ravel()[place]
        missing = np.flatnonzero(keys[place] != wanted)
        for start in range(0, len(missing), _PAIR_BLOCK):
            pairs = missing[start : start + _PAIR_BLOCK]
            products = np.einsum("ij,ij->i", self._rows(row[pairs]), self._rows(column[pairs]))
            values[pairs] = np.maximum(2 - 2 * products, 0)
        answer: NDArray[np.float32] = values / self.largest[row]
        return answer

    def _rows(self, numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        query, gallery = self.parts
        rows = np.empty((len(numbers), query.shape[1]), np.float32)
        is_query = numbers < len(query)
        rows[is_query] = query[numbers[is_query]]
        rows[~is_query] = gallery[numbers[~is_query] - len(query)]
        return rows


def nearest_neighbours(
    query: NDArray[np.float32], gallery: NDArray[np.float32], count: int
) -> tuple[Neighbours, NDArray[np.float32]]:
    """Find the nearest images of each image, among queries and gallery together.

    Args:
        query: float32 (queries, D), rows of unit length.
        gallery: float32 (gallery, D), rows of unit length.
        count: neighbours needed, without the image itself. More are kept.

    Returns:
        The neighbours, and the squared distances, float32 (queries, gallery), divided by each query's largest.
    """
    images = len(query) + len(gallery)
    kept = min(images, _KEPT_FACTOR * count + 1)
    table = _Table(images, kept)
    between = np.empty((len(query), len(gallery)), np.float32)
    blocks = [*_cut(query, 0), *_cut(gallery, len(query))]
    for number, (first, rows) in enumerate(blocks):
        for second, others in blocks[number:]:  # The matrix is symmetric: half of its blocks are enough.
            cosines = rows @ others.T
            if first < len(query) <= second:
                between[first : first + len(rows), second - len(query) : second - len(query) + len(others)] = cosines
            table.offer(first, second, cosines)
    index, distances, largest = table.finished()
    _squared_distances(between)
    between /= largest[: len(query), None]
    return Neighbours(index, distances, largest, (query, gallery)), between


def _cut(rows: NDArray[np.float32], offset: int) -> list[tuple[int, NDArray[np.float32]]]:
    return [(offset + start, rows[start : start + _BLOCK]) for start in range(0, len(rows), _BLOCK)]


def _squared_distances(cosines: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace cosines of unit vectors by their squared Euclidean distances, in place."""
    cosines *= -2
    cosines += 2
    return np.maximum(cosines, 0, out=cosines)


class _Table:
    """The nearest neighbours found so far, by cosine."""

    def __init__(self, images: int, kept: int) -> None:
        self._kept = kept
        self._index = np.full((images, kept), -1, np.int32)
        self._cosines = np.full((images, kept), -np.inf, np.float32)
        self._last = np.full(images, -np.inf, np.float32)
        self._lowest = np.full(images, np.inf, np.float32)

    def offer(self, first: int, second: int, cosines: NDArray[np.float32]) -> None:
        """Add one block of the symmetric matrix of cosines.

        Args:
            first: number of the image of the first row.
            second: number of the image of the first column.
            cosines: float32 (rows, columns).
        """
        self._offer(first, second, cosines)
        if first != second:
            self._offer(second, first, cosines.T)

    def _offer(self, first: int, second: int, cosines: NDArray[np.float32]) -> None:
        rows = slice(first, first + len(cosines))
        np.minimum(self._lowest[rows], cosines.min(axis=1), out=self._lowest[rows])
        if self._index[first].max() < 0 and cosines.shape[1] >= self._kept:  # These rows have no neighbours yet.
            best = np.argpartition(cosines, -self._kept, axis=1)[:, -self._kept :]
            self._keep(rows, np.take_along_axis(cosines, best, axis=1), (best + second).astype(np.int32))
            return
        # Making the flags contiguous copies a quarter of the bytes that the cosines would need.
        nearer = np.ascontiguousarray(cosines > self._last[rows, None])
        row, column = np.divmod(np.flatnonzero(nearer), cosines.shape[1])  # Several times faster than np.nonzero.
        counts = np.bincount(row, minlength=len(cosines))
        width = int(counts.max())
        if not width:
            return
        kept = self._kept
        place = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts) + kept
        values = np.full((len(cosines), kept + width), -np.inf, np.float32)
        numbers = np.full(values.shape, -1, np.int32)
        values[:, :kept], numbers[:, :kept] = self._cosines[rows], self._index[rows]
        values[row, place], numbers[row, place] = cosines[row, column], column + second
        best = np.argpartition(values, width, axis=1)[:, width:]
        self._keep(rows, np.take_along_axis(values, best, axis=1), np.take_along_axis(numbers, best, axis=1))

    def _keep(self, rows: slice, cosines: NDArray[np.float32], index: NDArray[np.int32]) -> None:
        self._cosines[rows], self._index[rows] = cosines, index
        self._last[rows] = cosines.min(axis=1)

    def finished(self) -> tuple[NDArray[np.int32], NDArray[np.float32], NDArray[np.float32]]:
        """Neighbours and squared distances, nearest first, and the largest squared distance of each image.

        The image itself comes before its exact copies.
        """
        itself = self._index == np.arange(len(self._index))[:, None]
        squared = _squared_distances(self._cosines)
        squared[itself] = 0
        order = np.argsort(np.where(itself, -1, squared), axis=1, kind="stable")
        largest = _squared_distances(self._lowest)
        largest[largest == 0] = 1  # All images are identical: avoid 0 / 0.
        return np.take_along_axis(self._index, order, axis=1), np.take_along_axis(squared, order, axis=1), largest


@dataclass(frozen=True)
class SparseRows:
    """A sparse matrix in CSR form.

    Attributes:
        starts: int64 (rows + 1,): position of each row's first value.
        index: int64 (values,): columns, ascending in each row.
        values: float64 (values,).
        columns: number of columns.
    """

    starts: NDArray[np.int64]
    index: NDArray[np.int64]
    values: NDArray[np.float64]
    columns: int

    @property
    def rows(self) -> int:
        """Number of rows."""
        return len(self.starts) - 1

    @classmethod
    def from_sorted(
        cls,
        row: NDArray[np.int64],
        column: NDArray[np.int64],
        values: NDArray[np.floating],
        rows: int,
        columns: int = 0,
    ) -> Self:
        """Build from entries in ascending order of row, then column. ``columns`` is ``rows`` if it is 0."""
        starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=rows))]).astype(np.int64)
        return cls(starts, column.astype(np.int64), values.astype(np.float64), columns or rows)

    @classmethod
    def stacked(cls, parts: Sequence[SparseRows]) -> Self:
        """Stack matrices with the same number of columns."""
        lengths = np.concatenate([part.lengths() for part in parts])
        return cls(
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            np.concatenate([part.index for part in parts]),
            np.concatenate([part.values for part in parts]),
            parts[0].columns,
        )

    def lengths(self) -> NDArray[np.int64]:
        """Number of values per row."""
        return np.diff(self.starts)

    def entries(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Row, column and value of every entry."""
        return np.repeat(np.arange(self.rows), self.lengths()), self.index, self.values

    def with_unit_sums(self) -> SparseRows:
        """Divide each row by its sum. No row may be empty."""
        sums = np.add.reduceat(self.values, self.starts[:-1])
        return SparseRows(self.starts, self.index, self.values / np.repeat(sums, self.lengths()), self.columns)

    def part(self, first: int, last: int) -> SparseRows:
        """Rows ``first`` to ``last`` - 1."""
        starts = self.starts[first : last + 1]
        taken = slice(starts[0], starts[-1])
        return SparseRows(starts - starts[0], self.index[taken], self.values[taken], self.columns)

    def transposed(self, columns: int) -> SparseRows:
        """The transposed matrix; ``columns`` is the number of columns of this one."""
        row, column, value = self.entries()
        order = np.argsort(column, kind="stable")
        return SparseRows.from_sorted(column[order], row[order], value[order], columns, self.rows)

    def mean_of(self, groups: NDArray[np.int32]) -> SparseRows:
        """Mean rows of groups; ``groups``, int32 (groups, size), holds row numbers."""
        chosen = groups.ravel()
        lengths = self.lengths()[chosen]
        offsets = np.cumsum(lengths) - lengths
        place = np.arange(int(lengths.sum())) + np.repeat(self.starts[chosen] - offsets, lengths)
        group = np.repeat(np.repeat(np.arange(len(groups)), groups.shape[1]), lengths)
        keys = group * self.columns + self.index[place]
        order = np.argsort(keys)
        unique, first = np.unique(keys[order], return_index=True)
        sums = np.add.reduceat(self.values[place][order], first) / groups.shape[1]
        return SparseRows.from_sorted(unique // self.columns, unique % self.columns, sums, len(groups), self.columns)
